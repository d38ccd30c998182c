"""Connecting: a host that is silent, and what an application's callable says the password is."""

import socket
from collections.abc import Iterator
from uuid import uuid4

import pytest
from sqlalchemy import make_url

import fang_postgres.pool.heart
import fang_postgres.urls.address
from fang_core.liveness import BeatRequest
from fang_core.tasks.registry import Mode
from tests.modes import harness_of
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
    monkeypatch.setattr(fang_postgres.urls.address, "CONNECT_TIMEOUT", seconds)
    monkeypatch.setattr(fang_postgres.pool.heart, "ANSWER_WITHIN", seconds / 2)
    with Proxy(url) as proxy, harness_of(mode) as harness:
        server = make_url(proxy.url)
        hosts = f"127.0.0.1:{silent},127.0.0.1:{server.port}"
        queue = harness.queue(
            f"postgresql://{server.username}@{hosts}/{server.database}?target_session_attrs=read-write"
        )
        store = harness.call(queue.store)
        heart = store.heart(True)
        assert not harness.call(heart.beat, BeatRequest(uuid4(), False)).registered
        harness.call(heart.close)
        harness.call(store.close)
