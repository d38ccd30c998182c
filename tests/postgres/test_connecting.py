"""Connecting: a host that is silent, and what an application's callable says the password is."""

import socket
from collections.abc import Iterator
from uuid import uuid4

import pytest
from sqlalchemy import make_url

import fang_async.heart
import fang_postgres.urls
import fang_threaded.heart
from fang_core.registry import Mode
from tests.modes import side_of
from tests.proxy import Proxy


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of a host that takes connections, and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize("mode", ["threaded", "async"])
def test_a_host_that_is_silent_does_not_hide_the_next_one(
    mode: Mode, url: str, silent: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also for a heart, which has less time for everything else."""
    seconds = 2 if mode == "threaded" else 0.3  # libpq takes no less
    monkeypatch.setattr(fang_postgres.urls, "CONNECT_TIMEOUT", seconds)
    for module in (fang_threaded.heart, fang_async.heart):
        monkeypatch.setattr(module, "ANSWER_WITHIN", seconds / 2)
    with Proxy(url) as proxy, side_of(mode) as side:
        server = make_url(proxy.url)
        hosts = f"127.0.0.1:{silent},127.0.0.1:{server.port}"
        queue = side.queue(f"postgresql://{server.username}@{hosts}/{server.database}?target_session_attrs=read-write")
        store = side.call(queue.store)
        heart = store.heart(True)
        assert not side.call(heart.beat, uuid4(), False).registered
        side.call(heart.close)
        side.call(store.close)
