"""The conformance suite over every backend."""

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from fang_async import AsyncQueue
from fang_core import AsyncMemoryQueue, MemoryQueue
from fang_core.conformance import Backend, ConformanceSuite, QueueSuite
from fang_redis import AsyncRedisQueue, RedisQueue
from fang_sqlite import AsyncSqliteQueue, SqliteQueue
from fang_threaded import Queue, WorkerPool


class TestEveryBackend(ConformanceSuite):
    pass


def test_no_group_hides_a_test_of_another() -> None:
    names = Counter(name for group in ConformanceSuite.__bases__ for name in vars(group) if not name.startswith("__"))
    assert [name for name, times in names.items() if times > 1] == []


class Forgetful(MemoryQueue):
    def find_task_by_id(self, task_id: UUID, /, *, connection: Any = None) -> None:
        return None


def test_a_backend_that_does_not_conform_fails_with_both_sides_shown() -> None:
    backend = Backend("threaded", queue=Forgetful, pool=WorkerPool)
    with pytest.raises(AssertionError, match=r"assert None == Task\("):
        QueueSuite().test_an_inserted_task_is_found_as_it_was_returned(backend)
    backend.close()


def test_the_page_says_what_our_backends_can_do(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs/testing.md").read_text()
    told = [[cell.strip() for cell in line.split("|")[1:7]] for line in page.splitlines() if line.startswith("| `")]
    file = str(tmp_path / "tasks.db")
    queues = (
        *(MemoryQueue(), SqliteQueue(file), RedisQueue("redis://localhost")),
        *(Queue("postgresql://"), Queue("postgresql://", behind_pooler=True)),
    )
    others = (
        *(AsyncMemoryQueue(), AsyncSqliteQueue(file), AsyncRedisQueue("redis://localhost")),
        *(AsyncQueue("postgresql://"), AsyncQueue("postgresql://", behind_pooler=True)),
    )
    can = [dataclasses.asdict(queue.capabilities) for queue in queues]
    assert told == [[f"`{name}`", *("yes" if each[name] else "" for each in can)] for name in can[0]]
    assert [queue.capabilities for queue in others] == [queue.capabilities for queue in queues]
