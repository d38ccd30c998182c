"""Database URLs: what is accepted, and that a refusal never repeats one."""

import pytest

from fang_core import UsageError
from fang_postgres.connecting import database_url


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
