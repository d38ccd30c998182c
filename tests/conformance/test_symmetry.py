"""The two shells mirror each other: the same public names with the same parameters, and `async` where there is I/O."""

import inspect
from typing import Any

import pytest

from fang_async import AsyncQueue, AsyncWorkerPool
from fang_async.claimer import Claimer as AsyncClaimer
from fang_async.completer import Completer as AsyncCompleter
from fang_async.listener import Listener as AsyncListener
from fang_async.maintenance import Maintenance as AsyncMaintenance
from fang_async.runner import Runner as AsyncRunner
from fang_async.shift import Shift as AsyncShift
from fang_async.store import AsyncPostgresStore
from fang_async.ticker import Ticker as AsyncTicker
from fang_core import AsyncMemoryQueue, MemoryQueue
from fang_core.queueable import AsyncQueueable, Queueable
from fang_core.store import AsyncStore, Store
from fang_threaded import Queue, WorkerPool
from fang_threaded.claimer import Claimer
from fang_threaded.completer import Completer
from fang_threaded.listener import Listener
from fang_threaded.maintenance import Maintenance
from fang_threaded.runner import OwnRunner
from fang_threaded.shift import Shift
from fang_threaded.store import PostgresStore
from fang_threaded.ticker import Ticker

PAIRS = [
    (Queueable, AsyncQueueable),
    (Store, AsyncStore),
    (Queue, AsyncQueue),
    (WorkerPool, AsyncWorkerPool),
    (PostgresStore, AsyncPostgresStore),
    (MemoryQueue, AsyncMemoryQueue),
    (Shift, AsyncShift),
    (Claimer, AsyncClaimer),
    (Completer, AsyncCompleter),
    (Listener, AsyncListener),
    (Maintenance, AsyncMaintenance),
    (Ticker, AsyncTicker),
]
OF_EVENT_LOOPS = {"abandon"}
"""What only asyncio needs: threads have no event loop that could end before they do."""
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
    assert sync_methods.keys() == async_methods.keys() - OF_EVENT_LOOPS
    for name, function in sync_methods.items():
        assert parameters(function) == parameters(async_methods[name]), name


@pytest.mark.parametrize(("threaded", "asynchronous"), [(Queue, AsyncQueue), (WorkerPool, AsyncWorkerPool)])
def test_constructors_take_the_same(threaded: type, asynchronous: type) -> None:
    assert parameters(threaded.__init__) == parameters(asynchronous.__init__)


@pytest.mark.parametrize(("protocol", "implementation"), PROTOCOLS, ids=lambda cls: cls.__name__)
def test_queues_keep_the_protocol(protocol: type, implementation: type) -> None:
    for name, function in methods(protocol).items():
        assert parameters(function) == parameters(getattr(implementation, name)), name


def test_runners_mirror_but_for_closing() -> None:
    assert methods(OwnRunner).keys() | {"close"} == methods(AsyncRunner).keys()
