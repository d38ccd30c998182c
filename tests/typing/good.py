"""What users write. Type checkers find nothing wrong in it."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Unpack
from uuid import uuid4

import asyncpg
import flask_sqlalchemy
import psycopg
import psycopg2
from django.db import connection as djangos
from django.db import connections
from pydantic import Field
from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_scoped_session
from sqlalchemy.orm import Session, scoped_session

from fang_async import AsyncQueue
from fang_core import (
    AsyncMemoryQueue,
    AsyncQueueable,
    AsyncRunnable,
    Cancel,
    Constant,
    Cron,
    Fair,
    InsertOptions,
    Limit,
    MemoryQueue,
    Missed,
    Queueable,
    Rate,
    RetryAfter,
    Runnable,
    ScheduleOnce,
    Snooze,
    Task,
    TaskConfig,
    TaskState,
    current_run,
)
from fang_threaded import Queue


def cubic(failures: int) -> timedelta:
    return timedelta(seconds=failures**3)


class Summarize(Runnable):
    task_config = TaskConfig(task_type="heavy", priority=-1, max_retries=5, backoff=cubic)

    path: Path
    lines: list[int] = Field(default_factory=list)

    def run(self, queue: Queueable) -> None:
        if not self.path.exists():
            raise Cancel("the file is gone")
        queue.insert_task(Summarize(path=self.path.parent), delay=timedelta(minutes=5))


class SummarizeAgain(Summarize):
    task_config = TaskConfig(
        kind="again",
        backoff=Constant(delay=timedelta(seconds=3)),
        uniq=True,
        timeout=timedelta(minutes=5),
        expires=None,
        isolation="process",
        memory_limit=2**30,
        limits=[Limit(5), Limit(2, by="path"), Rate(10, per=timedelta(minutes=1), by=("path",))],
        fair_by=Fair("path", weights={"/": 2}),
    )


class Nightly(Runnable):
    task_config = TaskConfig(cron=Cron("30 2 * * MON-FRI", "Europe/Berlin"), uniq=True)

    def run(self, queue: Queueable) -> None: ...


class Hourly(Nightly):
    task_config = TaskConfig(cron="@hourly")


class AtMidnight(Nightly):
    task_config = TaskConfig(cron=ScheduleOnce(datetime(2030, 1, 1, tzinfo=UTC)))


class OnDemand(Nightly):
    task_config = TaskConfig(cron=None)


def times(now: datetime) -> tuple[datetime | None, datetime | None]:
    cron = Cron("*/5 * * * *", UTC)
    return cron.next_after(now), cron.latest(now - timedelta(days=1), until=now)


class FetchFeed(AsyncRunnable):
    url: str
    priority: int = 0

    async def run(self, queue: AsyncQueueable) -> None:
        if current_run().task.retries > 3:
            raise Snooze(timedelta(hours=1))
        task = await queue.insert_task(Summarize(path=Path(self.url)))
        if task.state is TaskState.FAILED:
            raise RetryAfter(timedelta(seconds=10), "busy")


def insert(queue: Queueable) -> list[Task]:
    task = queue.insert_task(FetchFeed(url="https://example.org"), priority=1, task_type="feeds", max_retries=0)
    again = queue.find_task_by_id(task.id)
    assert again is None or again.scheduled_at <= datetime.now(UTC)
    both = [FetchFeed(url="https://example.org"), Summarize(path=Path("/"))]
    return queue.insert_tasks(both, scheduled_at=datetime.now(UTC))


def plan(queue: Queueable) -> list[str]:
    nightly = Cron("30 2 * * *", "Europe/Berlin")
    info = queue.schedules.put("nightly", Summarize(path=Path("/")), cron=nightly, overlap="skip", priority=1)
    queue.schedules.put("hourly", info, every=timedelta(hours=1), missed=Missed.ALL, jitter=timedelta(minutes=1))
    queue.schedules.pause("hourly", until=datetime.now(UTC), reason="an incident")
    queue.schedules.pause("hourly", until=timedelta(hours=2))
    assert queue.schedules.run_now("nightly").state is TaskState.NEW
    return [str(tick) for each in queue.schedules.list() for tick in each.upcoming]


async def plan_async(queue: AsyncQueueable) -> int:
    await queue.schedules.put("once", FetchFeed(url="https://example.org"), at=datetime.now(UTC))
    end = datetime.now(UTC)
    return await queue.schedules.backfill("once", end - timedelta(days=1), end)


async def insert_async(queue: AsyncQueueable) -> list[Task]:
    await queue.insert_task(Summarize(path=Path("/")), connection=None)
    return await queue.insert_tasks(FetchFeed(url=url) for url in ("a", "b"))


def add_request(headers: dict[str, str]) -> None:
    headers["request"] = "9c2e"


injecting = [Queue("postgresql://localhost/app", inject=[add_request]), MemoryQueue(inject=(add_request,))]
injecting_async = [AsyncQueue("postgresql://localhost/app", inject=[add_request]), AsyncMemoryQueue()]


def insert_late(queue: Queueable) -> Mapping[str, str] | None:
    minute = timedelta(minutes=1)
    queue.insert_task(Summarize(path=Path("/")), expires=minute, timeout=minute)
    return queue.insert_task(Summarize(path=Path("/")), expires=datetime.now(UTC), headers={"a": "b"}).headers


def enqueue(queue: Queueable, **options: Unpack[InsertOptions]) -> Task:
    return queue.insert_task(Summarize(path=Path("/")), **options)


def enqueue_urgent(queue: Queueable, delay: timedelta | None = None) -> list[Task]:
    options: InsertOptions = {"priority": -2, "task_type": "urgent"}
    options["uniq"] = True
    enqueue(queue, delay=delay, max_retries=None)
    enqueue(queue, **options)
    queue.insert_task(Summarize(path=Path("/")), id=uuid4(), connection=None, **options)
    return queue.insert_tasks([Summarize(path=Path("/"))], **options)


class Counted:
    """A queue of the application's own."""

    def __init__(self, queue: MemoryQueue) -> None:
        self.count = 0
        self.queue = queue

    def insert_task(
        self, task: Runnable | AsyncRunnable, /, *, connection: None = None, **options: Unpack[InsertOptions]
    ) -> Task:
        self.count += 1
        return self.queue.insert_task(task, connection=connection, **options)


async def both_backends() -> int:
    with MemoryQueue() as queue:
        rows = insert(queue)
    async with AsyncMemoryQueue() as other:
        rows += await insert_async(other)
    return len(rows)


def hand_in(
    queue: Queue, engine: Engine, session: Session, scoped: scoped_session[Session], db: flask_sqlalchemy.SQLAlchemy
) -> None:
    task = Summarize(path=Path("/"))
    queue.insert_task(task, connection=session)
    queue.insert_tasks([task], connection=scoped)
    queue.insert_task(task, connection=db.session)
    with engine.begin() as connection, psycopg.connect() as raw:
        queue.insert_task(task, connection=connection)
        queue.insert_task(task, connection=raw)
    queue.insert_task(task, connection=engine.raw_connection())
    queue.insert_task(task, connection=psycopg2.connect())
    queue.insert_task(task, connection=djangos)
    queue.find_task_by_id(queue.insert_task(task, connection=None).id, connection=connections["other"])


async def hand_in_async(
    queue: AsyncQueue, engine: AsyncEngine, session: AsyncSession, scoped: async_scoped_session[AsyncSession]
) -> None:
    task = Summarize(path=Path("/"))
    await queue.insert_task(task, connection=session)
    await queue.insert_tasks([task], connection=scoped)
    async with engine.begin() as connection:
        await queue.insert_task(task, connection=connection)
    raw = await asyncpg.connect()
    await queue.insert_task(task, connection=raw)
    async with asyncpg.create_pool() as pool, pool.acquire() as pooled:
        await queue.insert_task(task, connection=pooled)
