"""The two shells mirror each other: the same public names with the same parameters, and `async` where there is I/O."""

import inspect
from typing import Any

import pytest

from fang_async import AsyncQueue, AsyncWorkerPool
from fang_async.database import Database as AsyncDatabase
from fang_core import AsyncMemoryQueue, MemoryQueue
from fang_core.monitoring.audit import AsyncAudit, Audit
from fang_core.tasks.async_queueable import AsyncQueueable
from fang_core.tasks.managing import AsyncLimits, Limits
from fang_core.tasks.queueable import Queueable
from fang_core.tasks.scheduling import AsyncQueueSchedules, QueueSchedules
from fang_threaded import Queue, WorkerPool
from fang_threaded.database import PsycopgDatabase

PAIRS = [
    (Queueable, AsyncQueueable),
    (Queue, AsyncQueue),
    (WorkerPool, AsyncWorkerPool),
    (MemoryQueue, AsyncMemoryQueue),
    (Limits, AsyncLimits),
    (Audit, AsyncAudit),
    (QueueSchedules, AsyncQueueSchedules),
]
PROTOCOLS = [
    (Queueable, Queue),
    (Queueable, MemoryQueue),
    (AsyncQueueable, AsyncQueue),
    (AsyncQueueable, AsyncMemoryQueue),
]


def methods(cls: type) -> dict[str, Any]:
    return {name: value for name, value in inspect.getmembers(cls, inspect.isfunction) if not name.startswith("_")}


def parameters(function: Any) -> list[tuple[str, Any, Any]]:
    return [(p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values()]


@pytest.mark.parametrize(("threaded", "asynchronous"), PAIRS, ids=lambda cls: cls.__name__)
def test_the_same_methods_with_the_same_parameters(threaded: type, asynchronous: type) -> None:
    sync_methods, async_methods = methods(threaded), methods(asynchronous)
    assert sync_methods.keys() == async_methods.keys()
    for name, function in sync_methods.items():
        assert parameters(function) == parameters(async_methods[name]), name


@pytest.mark.parametrize(("threaded", "asynchronous"), [(Queue, AsyncQueue), (WorkerPool, AsyncWorkerPool)])
def test_constructors_take_the_same(threaded: type, asynchronous: type) -> None:
    assert parameters(threaded.__init__) == parameters(asynchronous.__init__)


@pytest.mark.parametrize(("protocol", "implementation"), PROTOCOLS, ids=lambda cls: cls.__name__)
def test_queues_keep_the_protocol(protocol: type, implementation: type) -> None:
    for name, function in methods(protocol).items():
        assert parameters(function) == parameters(getattr(implementation, name)), name


def test_databases_mirror() -> None:
    assert methods(PsycopgDatabase).keys() == methods(AsyncDatabase).keys()
