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
from sqlalchemy import Engine

from fang_async import AsyncQueue, AsyncWorkerPool
from fang_core.config import RetentionMode, SleepParams
from fang_core.errors import TimedOut
from fang_core.events import Events
from fang_core.lifecycle import Crashed, Failure, Result
from fang_core.pool.telling import recorder
from fang_core.record import ClaimedTask
from fang_core.tasks.registry import Mode
from fang_isolation.isolation import NOT_BEGUN
from fang_postgres.connections.engine import engine_for
from fang_redis import AsyncRedisQueue, RedisQueue
from fang_sqlite import AsyncSqliteQueue, SqliteQueue
from fang_threaded import Queue, WorkerPool
from tests.faults.deeds import Work, at_work, in_child, is_redis, is_sqlite
from tests.faults.flow_tasks import TYPES
from tests.faults.nursery import tell
from tests.faults.tasks import TICKS

ORDERS: Final = "FAULTS_ORDERS"
"""The variable by which processes of a supervisor are given theirs, as JSON."""


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
    stuck_after: float | None = None
    warn_after: float | None = None
    stats_every: float | None = None
    """How often it writes its history."""
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
    flow: bool = False
    """Whether it serves the task types that are limited and paused."""
    isolated: bool = False
    """Whether it knows the tasks that run in child processes."""
    isolates_suspects: bool = False
    """Whether suspects of all others do, too."""
    pid: int | None = None
    """What it says that its pid is."""

    def options(self) -> dict[str, Any]:
        """Of the pool."""
        names = ("lease", "grace_period", "stuck_after", "warn_after")
        seconds = {name: getattr(self, name) for name in names}
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
        if self.flow:
            options["task_type"] = TYPES
        if self.isolates_suspects:
            options["middleware"] = [in_child]
        return options | {"number_of_workers": self.workers, "isolate_suspects": self.isolates_suspects}


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

    def run_ended(self, task: ClaimedTask, result: Result, seconds: float) -> None:
        if isinstance(result, Crashed):
            Work.ledger.write_of(task, "died")
        elif isinstance(result, Failure) and isinstance(result.exception, TimedOut) and "Isolated" in task.kind:
            Work.ledger.write_of(task, "failed")  # its child was killed
        elif result is NOT_BEGUN:
            Work.ledger.write_of(task, "failed")  # and so were those before it, while they started

    def run_stuck(self, pool_id: UUID, task: ClaimedTask, place: str | None) -> None:
        logger.info("event: run_stuck")
        Work.ledger.write_of(task, "stuck")

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
    os.environ["FANG_FAULTS_DIRECTORY"], os.environ["FANG_FAULTS_URL"] = given.directory, given.url  # for children
    if given.isolated:
        import tests.faults.isolated_tasks  # noqa: F401

    if given.stats_every is not None:
        vars(recorder)["EVERY"] = given.stats_every
    pool = make_pool(given)
    if isinstance(pool, WorkerPool):
        pool.run()
    else:
        asyncio.run(_run_asyncio(pool))


def make_pool(given: Given) -> WorkerPool | AsyncWorkerPool:
    """The pool of this process, which is now at work."""
    engine = engine_for(given.url) if given.shared_engine else None
    options: dict[str, Any] = {"events": [Reporting(given.dies_at_start)], **given.options()}
    if given.mode == "threaded":
        pool: WorkerPool | AsyncWorkerPool = WorkerPool(_queue(given, engine), **options)
    else:
        pool = AsyncWorkerPool(_async_queue(given), **options)
    at_work(Path(given.directory), given.url, lambda: pool.id, engine)
    return pool


def _queue(given: Given, engine: Engine | None) -> Any:
    if is_sqlite(given.url):
        return SqliteQueue(given.url)
    if is_redis(given.url):
        return RedisQueue(given.url)
    return Queue(engine or given.url, max_pool_size=given.max_pool_size, behind_pooler=given.behind_pooler)


def _async_queue(given: Given) -> Any:
    if is_sqlite(given.url):
        return AsyncSqliteQueue(given.url)
    if is_redis(given.url):
        return AsyncRedisQueue(given.url)
    return AsyncQueue(given.url, max_pool_size=given.max_pool_size, behind_pooler=given.behind_pooler)


async def _run_asyncio(pool: AsyncWorkerPool) -> None:
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
