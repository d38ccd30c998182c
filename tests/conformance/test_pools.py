"""The conformance suite over the four backends."""

from collections import Counter
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest

from fang_async import AsyncWorkerPool
from fang_core import AsyncMemoryQueue, MemoryQueue
from fang_core.conformance import Backend, ConformanceSuite, QueueSuite
from fang_threaded import WorkerPool
from tests.backends import async_on_postgres, threaded_on_postgres


@pytest.fixture(params=["memory-threaded", "memory-async", "postgres-threaded", "postgres-async"])
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    match request.param:
        case "memory-threaded":
            made = Backend("threaded", queue=MemoryQueue, pool=WorkerPool)
        case "memory-async":
            made = Backend("async", queue=AsyncMemoryQueue, pool=AsyncWorkerPool)
        case "postgres-threaded":
            made = threaded_on_postgres(request.getfixturevalue("url"))
        case _:
            made = async_on_postgres(request.getfixturevalue("url"))
    yield made
    made.close()


class TestEveryBackend(ConformanceSuite):
    pass


def test_no_group_hides_a_test_of_another() -> None:
    names = Counter(name for group in ConformanceSuite.__bases__ for name in vars(group) if name.startswith("test"))
    assert [name for name, times in names.items() if times > 1] == []


class Forgetful(MemoryQueue):
    def find_task_by_id(self, task_id: UUID, /, *, connection: Any = None) -> None:
        return None


def test_a_backend_that_does_not_conform_fails_with_both_sides_shown() -> None:
    backend = Backend("threaded", queue=Forgetful, pool=WorkerPool)
    with pytest.raises(AssertionError, match=r"assert None == Task\("):
        QueueSuite().test_an_inserted_task_is_found_as_it_was_returned(backend)
    backend.close()
