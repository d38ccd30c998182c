"""What a worker process of a fleet does: it runs one pool, under the orders that it was given."""

import asyncio
import logging
import os
import resource
import signal
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from pydantic import BaseModel

from fang_async import AsyncQueue, AsyncWorkerPool
from fang_core.config import RetentionMode, SleepParams
from fang_core.events import Events
from fang_core.record import ClaimedTask
from fang_core.registry import Mode
from fang_postgres.engine import engine_for
from fang_threaded import Queue, WorkerPool
from tests.faults.deeds import at_work
from tests.faults.nursery import tell
from tests.faults.tasks import TICKS


class Given(BaseModel):
    """The orders. What is None is left to the pool's own default; times are seconds."""

    mode: Mode
    url: str
    directory: str
    log: str
    workers: int = 4
    lease: float | None = None
    grace_period: float | None = None
    poll: float | None = None
    max_pool_size: int = 10
    behind_pooler: bool = False
    """Whether the URL leads to a transaction pooler."""
    shared_engine: bool = False
    """Threaded only: the pool works on an engine of the application's, which its tasks use as well."""
    dies_at_start: bool = False
    """The process kills itself when its first run is about to start."""
    keep_all: bool = False
    """Whether rows stay when their tasks have ended."""
    ticks: bool = False
    """Whether it serves the task type whose tasks are scheduled."""
    pid: int | None = None
    """What it says that its pid is."""

    def options(self) -> dict[str, Any]:
        """Of the pool."""
        seconds = {"lease": self.lease, "grace_period": self.grace_period}
        options: dict[str, Any] = {
            name: timedelta(seconds=value) for name, value in seconds.items() if value is not None
        }
        if self.poll is not None:
            poll = timedelta(seconds=self.poll)
            options["sleep_params"] = SleepParams(min_sleep_period=poll, max_sleep_period=poll)
        if self.keep_all:
            options["retention_mode"] = RetentionMode.KEEP_ALL
        if self.ticks:
            options["task_type"] = ("common", TICKS)
        return options | {"number_of_workers": self.workers}


REAL_PID: Final = os.getpid
"""What ``os.getpid`` was before a process began to lie."""


logger = logging.getLogger(__name__)


class Reporting(Events):
    """Says that the pool is ready, and in the log what it hears of faults; and dies where it was told to."""

    def __init__(self, dies_at_start: bool) -> None:
        self._dies_at_start = dies_at_start

    def pool_started(self, pool_id: UUID) -> None:
        tell("ready", REAL_PID())

    def backend_failed(self, pool_id: UUID, error: BaseException) -> None:
        logger.info("event: backend_failed, %s", type(error).__name__)

    def pool_declared_dead(self, pool_id: UUID, successor: UUID) -> None:
        logger.info("event: pool_declared_dead")

    def run_started(self, task: ClaimedTask) -> None:
        if self._dies_at_start:
            os.kill(REAL_PID(), signal.SIGKILL)


def main(orders: dict[str, Any]) -> None:
    """In a process of its own."""
    given = Given(**orders)
    _take_leave(given.log)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # crashes are wanted here, their cores are not
    if given.pid is not None:
        said = given.pid
        os.getpid = lambda: said
    if given.mode == "threaded":
        _run_threads(given)
    else:
        asyncio.run(_run_asyncio(given))


def _run_threads(given: Given) -> None:
    engine = engine_for(given.url) if given.shared_engine else None
    queue = Queue(engine or given.url, max_pool_size=given.max_pool_size, behind_pooler=given.behind_pooler)
    pool = WorkerPool(queue, events=[Reporting(given.dies_at_start)], **given.options())
    at_work(Path(given.directory), given.url, lambda: pool.id, engine)
    pool.run()


async def _run_asyncio(given: Given) -> None:
    queue = AsyncQueue(given.url, max_pool_size=given.max_pool_size, behind_pooler=given.behind_pooler)
    pool = AsyncWorkerPool(queue, events=[Reporting(given.dies_at_start)], **given.options())
    at_work(Path(given.directory), given.url, lambda: pool.id, None)
    await pool.run()


def _take_leave(path: str) -> None:
    """From the nursery: of what is shared with it, only its standard output is kept, to say that the pool is ready."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 2)
    os.close(log)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(name)s %(levelname)s %(message)s")
