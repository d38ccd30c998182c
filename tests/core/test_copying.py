"""What queues and pools say when they are copied or pickled, as multiprocessing and pydantic's defaults do."""

import copy
import pickle
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from pydantic import BaseModel

from fang_async import AsyncMemoryQueue, AsyncQueue, AsyncWorkerPool
from fang_core.errors import NotCopyable, UsageError
from fang_threaded import MemoryQueue, Queue, WorkerPool

URL = "postgresql://app:secret@localhost/app"


class OwnQueue(Queue):
    def __getstate__(self) -> dict[str, Any]:
        return {}


@pytest.mark.parametrize("copying", [copy.copy, copy.deepcopy, pickle.dumps, partial(pickle.dumps, protocol=0)])
@pytest.mark.parametrize(
    "make",
    [
        lambda: Queue(URL),
        lambda: AsyncQueue(URL),
        lambda: OwnQueue(URL),
        MemoryQueue,
        AsyncMemoryQueue,
        lambda: WorkerPool(MemoryQueue()),
        lambda: WorkerPool(Queue(URL)),
        lambda: AsyncWorkerPool(AsyncMemoryQueue()),
        lambda: AsyncWorkerPool(AsyncQueue(URL)),
    ],
)
def test_a_queue_or_pool_says_that_it_cannot_be_copied(make: Callable[[], Any], copying: Callable[[Any], Any]) -> None:
    value = make()
    with pytest.raises(NotCopyable, match=f"{type(value).__name__} cannot be copied or pickled.*share") as refused:
        copying(value)
    assert isinstance(refused.value, UsageError)
    assert isinstance(refused.value, TypeError)  # which is what Python says of locks and sockets
    assert "\n" not in str(refused.value)
    assert "secret" not in str(refused.value)


def test_a_queue_that_a_model_holds_is_told_too() -> None:
    class Holder(BaseModel):
        queues: list[Any] = [Queue(URL)]  # pydantic copies it for each instance

    with pytest.raises(NotCopyable, match="Queue cannot be copied"):
        Holder()
