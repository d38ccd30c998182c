"""Makes the queues: the class of a backend is imported when one of its URLs is given, so that no other is needed."""

from importlib import import_module
from typing import Any, Final, NamedTuple, Protocol, Self

from fang_backends.urls import Engine, engine_of, redis_url, text_of
from fang_core.backends.moving import MovableQueue
from fang_core.backends.store import AsyncBackend
from fang_core.errors import UsageError

DEFAULT_NAME: Final = "fang"


class OwnQueue(MovableQueue, Protocol):
    """A queue of any backend, which is open while it is entered."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...


class OwnAsyncQueue(AsyncBackend, Protocol):
    """A queue of any backend for asyncio, which is open while it is entered."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *exc: object) -> None: ...


class _Place(NamedTuple):
    """Says where the class of a queue is defined."""

    module: str
    name: str


_QUEUES: Final = {
    Engine.POSTGRES: _Place("fang_threaded.queue", "Queue"),
    Engine.SQLITE: _Place("fang_sqlite", "SqliteQueue"),
    Engine.REDIS: _Place("fang_redis", "RedisQueue"),
}
_ASYNC_QUEUES: Final = {
    Engine.POSTGRES: _Place("fang_async.queue", "AsyncQueue"),
    Engine.SQLITE: _Place("fang_sqlite", "AsyncSqliteQueue"),
    Engine.REDIS: _Place("fang_redis", "AsyncRedisQueue"),
}


def queue_of(url: Any, /, *, name: str = DEFAULT_NAME, max_pool_size: int | None = None) -> OwnQueue:
    """Makes a queue for threaded code of a URL, which decides the backend; nothing connects yet.

    Args:
        url: ``postgresql://...``, ``sqlite:///path``, or ``redis://...``, ``rediss://``, ``unix://`` and ``valkey://``.
        name: the Postgres schema of the tables, or the name of the queue on Redis. A file has one queue, of no name.
        max_pool_size: how many connections a queue on Postgres makes at most.

    Raises ``UsageError`` for a URL that names no backend or cannot be read, ``MissingExtra`` if it needs a driver.
    """
    queue: OwnQueue = _make(_QUEUES, url, name, max_pool_size)
    return queue


def async_queue_of(url: Any, /, *, name: str = DEFAULT_NAME, max_pool_size: int | None = None) -> OwnAsyncQueue:
    """Makes a queue for asyncio of a URL; see ``queue_of``."""
    queue: OwnAsyncQueue = _make(_ASYNC_QUEUES, url, name, max_pool_size)
    return queue


def _make(places: dict[Engine, _Place], url: Any, name: str, max_pool_size: int | None) -> Any:
    engine = engine_of(url)
    if engine is Engine.SQLITE and name != DEFAULT_NAME:
        raise UsageError(f"a SQLite file has no schema {name!r:.60}: leave it out, and take a file for each")
    place = places[engine]
    cls = getattr(import_module(place.module), place.name)
    if engine is Engine.POSTGRES:
        sizes = {} if max_pool_size is None else {"max_pool_size": max_pool_size}
        return cls(url, schema=name, **sizes)
    if engine is Engine.SQLITE:
        return cls(text_of(url))
    return cls(redis_url(url), name=name)
