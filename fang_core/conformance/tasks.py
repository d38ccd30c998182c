"""The tasks that the suite inserts, in both modes: they write down that they ran, and then end as they were told."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final, Literal, NamedTuple

from fang_core.backoff import Constant
from fang_core.lifecycle import Cancel, RetryAfter, Snooze
from fang_core.queueable import AsyncQueueable, Queueable
from fang_core.run import current_run
from fang_core.runnable import AsyncRunnable, Runnable, TaskConfig

Ending = Literal["ok", "fail", "hostile", "snooze", "cancel", "later", "raise"]

AT_ONCE: Final = Constant(delay=timedelta(0), jitter=0)


class Ran(NamedTuple):
    """One run: the task's number, and which attempt it was."""

    n: int
    attempt: int


JOURNAL: Final[list[Ran]] = []
"""Every run of this process, in order; each ``Backend`` starts a new one."""


class ThreadedNote(Runnable):
    """For pools of threads."""

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
    """For pools of asyncio tasks."""

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
        await asyncio.sleep(0)  # suspends once, as most do
        JOURNAL.append(Ran(self.n, current_run().task.attempt))
        _end(self.ending, self.text)


class ThreadedUniqueNote(ThreadedNote):
    """For pools of threads; one of a content at a time."""

    task_config = TaskConfig(kind="conformance.ThreadedUniqueNote", uniq=True)


class AsyncUniqueNote(AsyncNote):
    """For pools of asyncio tasks; one of a content at a time."""

    task_config = TaskConfig(kind="conformance.AsyncUniqueNote", uniq=True)


class ThreadedYearlyNote(ThreadedNote):
    """For pools of threads; unique, and on a schedule of a task type that the suite's pools do not serve."""

    task_config = TaskConfig(
        kind="conformance.ThreadedYearlyNote", task_type="conformance.yearly", uniq=True, cron="@yearly"
    )


class AsyncYearlyNote(AsyncNote):
    """For pools of asyncio tasks; see ``ThreadedYearlyNote``."""

    task_config = TaskConfig(
        kind="conformance.AsyncYearlyNote", task_type="conformance.yearly", uniq=True, cron="@yearly"
    )


def _end(ending: Ending, text: str) -> None:
    match ending:
        case "ok":
            return
        case "fail":
            raise ValueError("no")
        case "hostile":  # leaves an ordinary `except`, and says what Postgres cannot store
            raise SystemExit("\0\ud800" + "x" * 100_000)
        case "snooze":
            raise Snooze(timedelta(hours=1))
        case "cancel":
            raise Cancel("not wanted")
        case "later":
            raise RetryAfter(timedelta(hours=1))
        case "raise":
            raise EXCEPTIONS[text]()


# Exceptions that a careless worker takes for its own end, or fails to write down --------------------------------------


class Silent(Exception):
    """Has no text."""

    def __str__(self) -> str:
        raise SystemExit("not even this")


class Disguised(Exception):
    """Does not say what it is."""

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        raise RuntimeError("no class")


class SnoozeOfItsOwn(Snooze):
    """Has a delay that is none."""

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
"""By the name that the error message begins with, where there is one."""
