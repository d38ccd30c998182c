"""The task that the suite inserts, in both modes: it writes down that it ran, and then ends as it was told."""

import asyncio
from datetime import timedelta
from typing import Final, Literal, NamedTuple

from fang_core.backoff import Constant
from fang_core.lifecycle import Cancel, RetryAfter, Snooze
from fang_core.queueable import AsyncQueueable, Queueable
from fang_core.run import current_run
from fang_core.runnable import AsyncRunnable, Runnable, TaskConfig

Ending = Literal["ok", "fail", "hostile", "snooze", "cancel", "later"]

AT_ONCE: Final = Constant(delay=timedelta(0), jitter=0)


class Ran(NamedTuple):
    """One run: the task's number, and which attempt it was."""

    n: int
    attempt: int


JOURNAL: Final[list[Ran]] = []
"""Every run of this process, in order; each ``Backend`` starts a new one."""


class ThreadedNote(Runnable):
    """For pools of threads."""

    task_config = TaskConfig(kind="conformance.ThreadedNote", max_retries=2, backoff=AT_ONCE)
    n: int = 0
    ending: Ending = "ok"
    text: str = ""

    def run(self, queue: Queueable) -> None:
        JOURNAL.append(Ran(self.n, current_run().task.attempt))
        _end(self.ending)


class AsyncNote(AsyncRunnable):
    """For pools of asyncio tasks."""

    task_config = TaskConfig(kind="conformance.AsyncNote", max_retries=2, backoff=AT_ONCE)
    n: int = 0
    ending: Ending = "ok"
    text: str = ""

    async def run(self, queue: AsyncQueueable) -> None:
        await asyncio.sleep(0)  # suspends once, as most do
        JOURNAL.append(Ran(self.n, current_run().task.attempt))
        _end(self.ending)


def _end(ending: Ending) -> None:
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
