"""Listeners see what happens and cannot get in its way."""

import logging
import re
from asyncio import CancelledError
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import pytest

from fang_async import AsyncMemoryQueue, AsyncWorkerPool
from fang_core import Events, UsageError
from fang_core.events import EventBus
from fang_threaded import MemoryQueue, WorkerPool


class Recorder(Events):
    def __init__(self) -> None:
        self.seen: list[tuple[str, object]] = []

    def pool_started(self, pool_id: UUID) -> None:
        self.seen.append(("pool_started", pool_id))

    def tasks_claimed(self, pool_id: UUID, count: int) -> None:
        self.seen.append(("tasks_claimed", count))


class Broken(Events):
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def pool_started(self, pool_id: UUID) -> None:
        raise self.error


def test_every_listener_hears_in_order() -> None:
    one, two = Recorder(), Recorder()
    bus = EventBus([one, two])
    pool = uuid4()

    bus.emit(Events.pool_started, pool)
    bus.emit(Events.tasks_claimed, pool, 3)

    assert one.seen == two.seen == [("pool_started", pool), ("tasks_claimed", 3)]


@pytest.mark.parametrize(
    "error", [ValueError(), SystemExit(1), KeyboardInterrupt(), CancelledError(), GeneratorExit()], ids=repr
)
def test_a_hook_that_raises_is_logged_and_goes_no_further(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    after = Recorder()

    with caplog.at_level(logging.ERROR, "fang_core"):
        EventBus([Broken(error), after]).emit(Events.pool_started, uuid4())

    assert len(after.seen) == 1
    (record,) = caplog.records
    assert record.getMessage() == "an event hook of Broken failed in pool_started"
    assert record.exc_info is not None
    assert record.exc_info[1] is error


class Awaited(Events):
    async def run_ended(self, *_: object) -> None:  # type: ignore[override]
        """Nobody would await it."""


@pytest.mark.parametrize("pool", [lambda **options: WorkerPool(MemoryQueue(), **options),
                                  lambda **options: AsyncWorkerPool(AsyncMemoryQueue(), **options)])  # fmt: skip
@pytest.mark.parametrize(
    ("listeners", "message"),
    [
        (Recorder(), "events is a list of listeners, as in events=[Recorder()]"),
        (None, "events is a list of listeners"),
        ([Recorder], "events: Recorder is a class: give an instance of it"),
        ([Recorder(), "x"], "events: a listener is an instance of a class derived from Events, not of str"),
        ([Awaited()], "events: Awaited.run_ended is async, but hooks are called, not awaited: write a plain 'def'"),
    ],
)
def test_what_would_hear_nothing_is_refused(pool: Callable[..., object], listeners: Any, message: str) -> None:
    with pytest.raises(UsageError, match=f"^{re.escape(message)}"):
        pool(events=listeners)


def test_hooks_do_nothing_by_themselves() -> None:
    hooks = [name for name in vars(Events) if not name.startswith("_")]

    assert "task_lost" in hooks
    for name in hooks:
        method = getattr(Events(), name)
        assert method(*[None] * (method.__code__.co_argcount - 1)) is None


def test_a_hook_knows_by_whom_it_is_called_and_nobody_else_is() -> None:
    seen: list[tuple[bool, bool]] = []

    class Asking(Events):
        def pool_started(self, pool_id: UUID) -> None:
            other.emit(Events.pool_stopped, pool_id)
            seen.append((bus.is_caller, other.is_caller))
            raise SystemExit

    bus, other = EventBus([Asking()]), EventBus([Events()])
    bus.emit(Events.pool_started, uuid4())

    assert seen == [(True, False)]
    assert not bus.is_caller
