"""Queues to move between: one of each backend, empty, and what tests ask of them beside the protocol."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import pytest
import redis

from fang_backends import queue_of
from fang_core import MemoryQueue, Task
from fang_core.tasks.selecting.filter import ANY_TASK

# URLs of empty queues -------------------------------------------------------------------------------------------------


@contextmanager
def postgres(request: pytest.FixtureRequest) -> Iterator[str]:
    """A database of its own: a move within Postgres needs two."""
    new_database: Callable[[], Iterator[str]] = request.getfixturevalue("new_database")
    databases = new_database()
    yield next(databases)
    next(databases, None)


@contextmanager
def on_redis(request: pytest.FixtureRequest) -> Iterator[str]:
    """Another database of the server for each queue of a test."""
    server: str = request.getfixturevalue("redis_server_url")
    url = f"{server.partition('?')[0]}?db={next(DATABASES)}"
    with redis.Redis.from_url(url) as client:
        client.flushdb()
        yield url
        client.flushdb()


DATABASES = itertools.cycle(range(8, 16))


@contextmanager
def on_sqlite(request: pytest.FixtureRequest) -> Iterator[str]:
    """A file of its own."""
    folder: Path = request.getfixturevalue("tmp_path")
    yield f"sqlite:///{folder}/{next(NUMBERS)}.db"


NUMBERS = itertools.count()
URLS: dict[str, Callable[[pytest.FixtureRequest], AbstractContextManager[str]]] = {
    "sqlite": on_sqlite,
    "postgres": postgres,
    "redis": on_redis,
}

# Queues ---------------------------------------------------------------------------------------------------------------


class Place(NamedTuple):
    """A queue under test, and its name."""

    name: str
    queue: Any

    @property
    def tasks(self) -> dict[UUID, Task]:
        """All tasks, as they are."""
        ids = [task.id for task in self.queue.list_tasks(ANY_TASK, limit=500).tasks]
        return {parcel.task.id: parcel.task for parcel in self.queue.moving.read(ids)}


PLACES = ("memory", *URLS)


@contextmanager
def opened(name: str, request: pytest.FixtureRequest) -> Iterator[Place]:
    if name == "memory":
        yield Place(name, MemoryQueue())
        return
    with URLS[name](request) as url, queue_of(url) as queue:
        yield Place(name, queue)
