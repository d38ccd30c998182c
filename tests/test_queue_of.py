"""A URL decides which backend a queue is on; what the backend needs is imported then, and named if it is missing."""

import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

import fang_async
import fang_threaded
from fang_backends import Engine, async_queue_of, engine_of, queue_of
from fang_backends.urls import redis_url, shown_url
from fang_core.errors import UsageError

ENGINES = {
    "postgresql://me:secret@host/app": Engine.POSTGRES,
    "postgres://host/app": Engine.POSTGRES,
    "POSTGRESQL+asyncpg://host/app": Engine.POSTGRES,
    " postgresql://host/app\n": Engine.POSTGRES,
    "sqlite:///tasks.db": Engine.SQLITE,
    "sqlite:////var/lib/tasks.db": Engine.SQLITE,
    "redis://:secret@host/2": Engine.REDIS,
    "rediss://host": Engine.REDIS,
    "unix:///run/redis.sock": Engine.REDIS,
    "valkey://host": Engine.REDIS,
    "valkeys://host": Engine.REDIS,
}


@pytest.mark.parametrize("url", ENGINES)
def test_the_scheme_names_the_backend(url: str) -> None:
    assert engine_of(url) is ENGINES[url]


def test_a_url_of_sqlalchemy_is_one_too() -> None:
    assert engine_of(make_url("postgresql+psycopg://me:secret@host/app")) is Engine.POSTGRES
    assert engine_of(make_url("sqlite:///tasks.db")) is Engine.SQLITE


@pytest.mark.parametrize(
    ("url", "told"),
    [
        (
            "mysql://me:secret@host/app",
            "no backend for mysql://; there are postgresql://, postgres://, sqlite://, redis://",
        ),
        (
            "me:secret@host/app",
            "no URL of a database: write postgresql://user@host/database, sqlite:///path/tasks.db or",
        ),
        ("", "no URL of a database"),
        (Path("tasks.db"), "a database URL is a text, not PosixPath: write postgresql://"),
    ],
)
@pytest.mark.parametrize("make", [queue_of, async_queue_of])
def test_what_names_no_backend_is_told_what_does(make, url: object, told: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UsageError, match=told) as caught:
        make(url)
    assert "secret" not in str(caught.value)


def test_a_queue_on_postgres_has_its_schema_and_connects_later() -> None:
    queue, other = queue_of("postgresql://nowhere.invalid/app", name="jobs"), async_queue_of("postgresql://nowhere/app")
    assert isinstance(queue, fang_threaded.Queue)
    assert isinstance(other, fang_async.AsyncQueue)
    assert not queue.is_open


def test_a_file_has_no_schema() -> None:
    with pytest.raises(UsageError, match="a SQLite file has no schema 'jobs': leave it out"):
        queue_of("sqlite:///tasks.db", name="jobs")


@pytest.mark.parametrize(
    ("url", "blocked", "extra"),
    [("postgresql://host/app", "psycopg", "threaded"), ("redis://host", "redis", "redis")],
)
def test_a_missing_driver_is_named_with_its_extra(url: str, blocked: str, extra: str) -> None:
    code = f"import sys; sys.modules['{blocked}'] = None\nfrom fang_backends import queue_of\nqueue_of({url!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert f"pip install 'fang-tasks[{extra}]'" in done.stderr.splitlines()[-1]


def test_the_url_of_one_backend_imports_no_other() -> None:
    code = (
        "import sys; from fang_backends import engine_of; engine_of('sqlite:///a.db')\n"
        "print({'sqlalchemy', 'psycopg', 'redis', 'fang_postgres', 'fang_threaded', 'fang_sqlite'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_a_valkey_is_read_as_a_redis() -> None:
    assert redis_url("valkey://:secret@host:6380/2?x=1") == "redis://:secret@host:6380/2?x=1"
    assert redis_url("VALKEYS://host") == "rediss://host"
    assert redis_url("unix:///run/redis.sock?db=1") == "unix:///run/redis.sock?db=1"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgres+psycopg://me:secret@host:5432/app?sslmode=require", "postgresql://host:5432/app"),
        ("postgresql://h1,h2/app", "postgresql://h1,h2/app"),
        ("postgresql://me:se?cr/et@host/app", "postgresql://host/app"),
        ("valkey://:secret@host/2", "redis://host/2"),
        ("unix://me:secret@/run/redis.sock?db=1", "unix:///run/redis.sock?db=1"),
        ("sqlite:////srv/tasks.db", "sqlite:////srv/tasks.db"),
        ("sqlite:///tasks.db", f"sqlite:///{Path.cwd()}/tasks.db"),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, shown: str) -> None:
    assert shown_url(url) == shown
