"""Database URLs: what is accepted, and that a refusal never repeats one."""

import socket
from collections.abc import Iterator
from typing import Final
from uuid import uuid4

import asyncpg
import psycopg
import pytest
from sqlalchemy import create_engine, make_url

import fang_async.connections
import fang_async.heart
import fang_postgres.connecting
import fang_threaded.connections
import fang_threaded.heart
from fang_core import UsageError
from fang_core.registry import Mode
from fang_postgres.connecting import _LIBPQ_ALONE, database_url
from tests.modes import side_of
from tests.proxy import Proxy


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+asyncpg", "postgresql+psycopg"])
def test_any_scheme_of_postgres_is_read(scheme: str) -> None:
    url = database_url(f"{scheme}://me:secret@host/app", "psycopg")
    assert (url.drivername, url.host, url.database) == ("postgresql+psycopg", "host", "app")
    assert database_url(url, None).drivername == "postgresql"


@pytest.mark.parametrize("url", ["", "nonsense", "postgresql://me@host:secret/app"])
def test_what_cannot_be_read_is_not_repeated(url: str) -> None:
    with pytest.raises(UsageError, match="postgresql://") as refused:
        database_url(url, None)
    assert "sec" not in str(refused.value)


def test_another_database_is_refused() -> None:
    with pytest.raises(UsageError, match="not mysql"):
        database_url("mysql://me:secret@host/app", None)


@pytest.mark.parametrize("driver", ["psycopg", None])
@pytest.mark.parametrize("query", ["ssl=require", "sslmode=require", "ssl=require&sslmode=require"])
def test_either_spelling_of_the_ssl_mode(query: str, driver: str | None) -> None:
    url = database_url(f"postgresql://host/app?{query}&application_name=me", driver)
    assert url.query == {"sslmode": "require", "application_name": "me"}


@pytest.mark.parametrize("driver", ["psycopg", None])
@pytest.mark.parametrize("query", ["ssl=true", "sslmode=secret", "ssl=require&sslmode=disable", "ssl=prefer&ssl=allow"])
def test_an_ssl_mode_that_cannot_be_translated(query: str, driver: str | None) -> None:
    with pytest.raises(UsageError, match="sslmode= with one of disable, allow, prefer") as refused:
        database_url(f"postgresql://me:secret@host/app?{query}", driver)
    assert "secret" not in str(refused.value)


async def test_both_drivers_connect_with_what_they_are_given(server_url: str) -> None:
    given = server_url + ("&" if "?" in server_url else "?") + "ssl=prefer&connect_timeout=9"
    connection = await asyncpg.connect(database_url(given, None).render_as_string(hide_password=False))
    await connection.close()
    engine = create_engine(database_url(given, "psycopg"))
    engine.connect().close()
    engine.dispose()


def test_what_libpq_alone_can_do_is_refused_for_asyncpg() -> None:
    url = "postgresql://host/app?sslmode=require&channel_binding=require"
    with pytest.raises(UsageError, match="asyncpg cannot honour channel_binding: leave that out"):
        database_url(url, None)
    assert database_url(url, "psycopg").query["channel_binding"] == "require"


@pytest.mark.skipif(psycopg.pq.version() < 180000, reason="an older libpq does not know them all")
async def test_the_list_of_what_libpq_alone_can_do(server_url: str) -> None:
    assert {option.keyword.decode() for option in psycopg.pq.Conninfo.get_defaults()} >= _LIBPQ_ALONE
    for name in _LIBPQ_ALONE:
        url = server_url + ("&" if "?" in server_url else "?") + f"{name}=1"
        with pytest.raises(asyncpg.PostgresError, match=f'unrecognized configuration parameter "{name}"'):
            await asyncpg.connect(url)


TWO: Final = {"host": "one,two", "port": "5001,5002"}


@pytest.mark.parametrize("driver", ["psycopg", None])
@pytest.mark.parametrize(
    ("url", "query"),
    [
        ("postgresql://me:a,b@one:5001,two:5002/app", TWO),
        ("postgresql://one:5001,two:5002/app?sslmode=require", TWO | {"sslmode": "require"}),
        ("postgresql://me@/app?host=one:5001&host=two:5002", TWO),
        ("postgresql://me@/app?host=one,two&port=5001,5002", TWO),
        ("postgresql://me@one,two:5002/app", {"host": "one,two", "port": "5432,5002"}),
        ("postgresql://me@[::1]:5001,[::2]/app", {"host": "::1,::2", "port": "5001,5432"}),
        ("postgresql://me@one,two", {"host": "one,two", "port": "5432,5432"}),
    ],
)
def test_several_hosts_are_read_in_every_form(url: str, query: dict[str, str], driver: str | None) -> None:
    read = database_url(url, driver)
    assert (read.host, read.port, dict(read.query)) == (None, None, query)
    assert database_url(read, driver) == read
    assert database_url(make_url(read), driver) == read


@pytest.mark.parametrize(
    "url",
    [
        *("me:se/cr,et@host/app", "me:secr,et@host/app", "me:secret@host/app?x=a,b"),
        *("me:aB,3#x@host/app", "me:12,ab?x@host/app"),
    ],
)
def test_a_comma_elsewhere_is_no_list_of_hosts(url: str) -> None:
    assert database_url(f"postgresql://{url}", "psycopg").host == "host"


@pytest.mark.parametrize(
    "url", ["me:secret@one:x,two:5002/app", "me:secret@/app?host=one,two&port=1,2,3", "me@one:1,two:2/app?port=3"]
)
def test_hosts_that_cannot_be_told_apart_are_refused(url: str) -> None:
    with pytest.raises(UsageError, match="written host:port,host:port") as refused:
        database_url(f"postgresql://{url}", "psycopg")
    assert "secret" not in str(refused.value)


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
    for module in (fang_async.connections, fang_threaded.connections, fang_postgres.connecting):
        monkeypatch.setattr(module, "CONNECT_TIMEOUT", seconds)
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
