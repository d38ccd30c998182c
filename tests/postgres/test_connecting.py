"""Database URLs: what is accepted, and that a refusal never repeats one."""

import asyncpg
import psycopg
import pytest
from sqlalchemy import create_engine

from fang_core import UsageError
from fang_postgres.connecting import _LIBPQ_ALONE, database_url


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
