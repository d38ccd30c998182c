"""Defines the tasks that the suite inserts, in both modes: they record that they ran, and end as their fields say."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final, Literal, NamedTuple

from fang_core.flow.limits import Limit
from fang_core.lifecycle import Cancel, RetryAfter, Snooze
from fang_core.runs.run import current_run
from fang_core.tasks.async_queueable import AsyncQueueable
from fang_core.tasks.backoff import Constant
from fang_core.tasks.queueable import Queueable
from fang_core.tasks.runnable import AsyncRunnable, Runnable, TaskConfig

Ending = Literal["ok", "fail", "hostile", "snooze", "cancel", "later", "raise"]

AT_ONCE: Final = Constant(delay=timedelta(0), jitter=0)


class Ran(NamedTuple):
    """Records one run: the task's number, and its attempt."""

    n: int
    attempt: int


JOURNAL: Final[list[Ran]] = []
"""Lists every run of this process, in order; each ``Backend`` clears it."""


class ThreadedNote(Runnable):
    """A task for pools of threads."""

    task_config = TaskConfig(
        kind="conformance.ThreadedNote",
        former_kinds=("conformance.FormerThreadedNote",),
        max_retries=2,
        backoff=AT_ONCE,
    )
    n: int = 0
    ending: Ending = "ok"
    text: str = ""

    def run(self, queue: Queueable) -> None:
        JOURNAL.append(Ran(self.n, current_run().task.attempt))
        _end(self.ending, self.text)


class AsyncNote(AsyncRunnable):
    """A task for pools of asyncio tasks."""

    task_config = TaskConfig(
        kind="conformance.AsyncNote",
        former_kinds=("conformance.FormerAsyncNote",),
        max_retries=2,
        backoff=AT_ONCE,
    )
    n: int = 0
    ending: Ending = "ok"
    text: str = ""

    async def run(self, queue: AsyncQueueable) -> None:
        await asyncio.sleep(0)  # suspends once, as most runs do
        JOURNAL.append(Ran(self.n, current_run().task.attempt))
        _end(self.ending, self.text)


class ThreadedUniqueNote(ThreadedNote):
    """A unique task for pools of threads."""

    task_config = TaskConfig(kind="conformance.ThreadedUniqueNote", uniq=True)


class AsyncUniqueNote(AsyncNote):
    """A unique task for pools of asyncio tasks."""

    task_config = TaskConfig(kind="conformance.AsyncUniqueNote", uniq=True)


class ThreadedYearlyNote(ThreadedNote):
    """A unique, scheduled task for pools of threads, of a task type that the suite's pools do not serve."""

    task_config = TaskConfig(
        kind="conformance.ThreadedYearlyNote",
        task_type="conformance.yearly",
        uniq=True,
        cron="@yearly",
        timeout=timedelta(hours=1),
        expires=timedelta(days=30),
    )


class AsyncYearlyNote(AsyncNote):
    """A unique, scheduled task for pools of asyncio tasks; see ``ThreadedYearlyNote``."""

    task_config = TaskConfig(
        kind="conformance.AsyncYearlyNote",
        task_type="conformance.yearly",
        uniq=True,
        cron="@yearly",
        timeout=timedelta(hours=1),
        expires=timedelta(days=30),
    )


class ThreadedLimitedNote(ThreadedNote):
    """A task for pools of threads, of a task type with limits."""

    task_config = TaskConfig(
        kind="conformance.ThreadedLimitedNote", task_type="conformance.limited", limits=[Limit(3), Limit(2, by="n")]
    )


class AsyncLimitedNote(AsyncNote):
    """A task for pools of asyncio tasks, of a task type with limits; see ``ThreadedLimitedNote``."""

    task_config = TaskConfig(
        kind="conformance.AsyncLimitedNote", task_type="conformance.limited", limits=[Limit(3), Limit(2, by="n")]
    )


def _end(ending: Ending, text: str) -> None:
    match ending:
        case "ok":
            return
        case "fail":
            raise ValueError("no")
        case "hostile":  # passes `except Exception`, and has a text that Postgres cannot store
            raise SystemExit("\0\ud800" + "x" * 100_000)
        case "snooze":
            raise Snooze(timedelta(hours=1))
        case "cancel":
            raise Cancel("not wanted")
        case "later":
            raise RetryAfter(timedelta(hours=1))
        case "raise":
            raise EXCEPTIONS[text]()


# Exceptions that a careless worker takes for its own end, or fails to record ------------------------------------------


class Silent(Exception):
    """Raises from its ``__str__``."""

    def __str__(self) -> str:
        raise SystemExit("not even this")


class Disguised(Exception):
    """Raises from its ``__class__``."""

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        raise RuntimeError("no class")


class SnoozeOfItsOwn(Snooze):
    """Has a delay that is no ``timedelta``."""

    def __init__(self) -> None:
        self.delay = 3_600  # type: ignore[assignment]


def _recursion() -> BaseException:
    return _recursion()


EXCEPTIONS: Final[dict[str, Callable[[], BaseException]]] = {
    "SystemExit": lambda: SystemExit(3),
    "KeyboardInterrupt": KeyboardInterrupt,
    "CancelledError": asyncio.CancelledError,
    "GeneratorExit": GeneratorExit,
    "StopIteration": lambda: StopIteration("text"),
    "StopAsyncIteration": lambda: StopAsyncIteration("text"),
    "RecursionError": _recursion,
    "MemoryError": MemoryError,
    "BaseExceptionGroup": lambda: BaseExceptionGroup("several", [SystemExit(1), KeyboardInterrupt()]),
    "Silent": Silent,
    "Disguised": Disguised,
    "SnoozeOfItsOwn": SnoozeOfItsOwn,
    "ValueError": lambda: ValueError("30 MB " + "é" * 15_000_000),
    "LookupError": lambda: LookupError("\0 and \ud800 and \udfff"),
}
"""Maps a name, with which the error message begins if it can, to a function that makes the exception."""
