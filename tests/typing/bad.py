"""What users get wrong. Each line that ends in ``# red`` is an error to every type checker, and no other line is."""

from datetime import UTC, datetime, timedelta
from typing import Unpack
from uuid import uuid4

import psycopg
from pydantic import BaseModel
from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
from sqlalchemy.orm import Session

from fang_async import AsyncQueue
from fang_core import (
    AsyncMemoryQueue,
    AsyncQueueable,
    AsyncRunnable,
    Cron,
    InsertOptions,
    MemoryQueue,
    Queueable,
    Runnable,
    ScheduleOnce,
    TaskConfig,
)
from fang_threaded import Queue


class Plain(BaseModel):
    path: str


class Summarize(Runnable):
    path: str

    def run(self, queue: Queueable) -> None: ...


# Options


class UnknownOption(Runnable):
    task_config = TaskConfig(max_retry=5)  # red

    def run(self, queue: Queueable) -> None: ...


class WrongTypeOfOption(Runnable):
    task_config = TaskConfig(max_retries="5")  # red

    def run(self, queue: Queueable) -> None: ...


class WrongBackoff(Runnable):
    task_config = TaskConfig(backoff=timedelta(seconds=5))  # red

    def run(self, queue: Queueable) -> None: ...


class WrongUniq(Runnable):
    task_config = TaskConfig(uniq="yes")  # red

    def run(self, queue: Queueable) -> None: ...


class WrongCron(Runnable):
    task_config = TaskConfig(cron=timedelta(hours=1))  # red

    def run(self, queue: Queueable) -> None: ...


class WrongTimeout(Runnable):
    task_config = TaskConfig(timeout=5)  # red

    def run(self, queue: Queueable) -> None: ...


class WrongExpiry(Runnable):
    task_config = TaskConfig(expires=datetime.now(UTC))  # red

    def run(self, queue: Queueable) -> None: ...


class WrongIsolation(Runnable):
    task_config = TaskConfig(isolation="thread")  # red

    def run(self, queue: Queueable) -> None: ...


class NoConfigAtAll(Runnable):
    task_config = 5  # red

    def run(self, queue: Queueable) -> None: ...


Cron("@daily", 5)  # red
ScheduleOnce("tomorrow")  # red
Cron("@daily").next_after("today")  # red
Cron("@daily").pattern = "@hourly"  # red


# Inserts


def insert(queue: Queueable) -> None:
    queue.insert_task(Summarize)  # red
    queue.insert_task(Plain(path="/"))  # red
    queue.insert_task("Summarize")  # red
    queue.insert_task(Summarize(path="/"), Summarize(path="/"))  # red
    queue.insert_task(Summarize(path="/"), priorty=1)  # red
    queue.insert_task(Summarize(path="/"), priority="high")  # red
    queue.insert_task(Summarize(path="/"), expires=60)  # red
    queue.insert_task(Summarize(path="/"), headers={"a": 1})  # red
    queue.insert_task(Summarize(path="/"), max_retry=1)  # red
    queue.insert_task(Summarize(path="/"), max_retries="1")  # red
    queue.insert_task(Summarize(path="/"), task_type=5)  # red
    queue.insert_task(Summarize(path="/"), uniq="yes")  # red
    queue.insert_task(Summarize(path="/"), id="5")  # red
    queue.insert_task(Summarize(path="/"), delay=60)  # red
    queue.insert_task(Summarize(path="/"), scheduled_at="tomorrow")  # red
    queue.insert_task(Summarize(path=5))  # red
    queue.insert_task(Summarize())  # red
    queue.insert_tasks([Plain(path="/")])  # red
    queue.insert_tasks(Summarize(path="/"))  # red
    queue.insert_tasks([Summarize(path="/")], priorty=1)  # red
    queue.insert_tasks([Summarize(path="/")], priority="high")  # red
    queue.insert_tasks([Summarize(path="/")], id=uuid4())  # red
    queue.find_task_by_id("5")  # red
    print(queue.find_task_by_id(uuid4()).state)  # red


def plan(queue: Queueable) -> None:
    queue.schedules.put("nightly", Summarize, cron="@daily")  # red
    queue.schedules.put("nightly", Plain(path="/"), cron="@daily")  # red
    queue.schedules.put("nightly", Summarize(path="/"), cron="@daily", overlap="sometimes")  # red
    queue.schedules.put("nightly", Summarize(path="/"), every=60)  # red
    queue.schedules.put("nightly", Summarize(path="/"), cron="@daily", priority="high")  # red
    queue.schedules.put("nightly", Summarize(path="/"), cron="@daily", priorty=1)  # red
    queue.schedules.pause("nightly", until="tomorrow")  # red
    print(queue.schedules.list().name)  # red


async def plan_async(queue: AsyncQueueable) -> None:
    queue.schedules.pause("nightly")  # red
    print(queue.schedules.pause("nightly").name)  # red


async def insert_async(queue: AsyncQueueable) -> None:
    queue.insert_task(Summarize(path="/"))  # red
    print(queue.insert_task(Summarize(path="/")).state)  # red
    await queue.insert_task(Summarize)  # red
    await queue.insert_task(Summarize(path="/"), priorty=1)  # red
    await queue.insert_task(Summarize(path="/"), max_retries="1")  # red
    await queue.insert_tasks([Summarize(path="/")], priorty=1)  # red
    await queue.insert_tasks([Summarize(path="/")], id=uuid4())  # red


def insert_into_each(queue: Queue, memory: MemoryQueue) -> None:
    for each in (queue, memory):
        each.insert_task(Summarize(path="/"), priorty=1)  # red
        each.insert_task(Summarize(path="/"), priority="high")  # red
        each.insert_tasks([Summarize(path="/")], max_retry=1)  # red
        each.insert_tasks([Summarize(path="/")], scheduled_at="tomorrow")  # red


async def insert_into_each_async(queue: AsyncQueue, memory: AsyncMemoryQueue) -> None:
    for each in (queue, memory):
        await each.insert_task(Summarize(path="/"), priorty=1)  # red
        await each.insert_task(Summarize(path="/"), priority="high")  # red
        await each.insert_tasks([Summarize(path="/")], max_retry=1)  # red
        await each.insert_tasks([Summarize(path="/")], scheduled_at="tomorrow")  # red


# Functions that pass options on


def enqueue(queue: Queueable, path: str, **options: Unpack[InsertOptions]) -> None:
    queue.insert_task(Summarize(path=path), **options)
    queue.insert_task(Summarize(path=path), priority=1, **options)  # red


def enqueue_twice(queue: Queueable, options: InsertOptions) -> None:
    enqueue(queue, "/", **options)
    enqueue(queue, "/", priorty=1)  # red
    enqueue(queue, "/", priority="high")  # red
    enqueue(queue, "/", id=uuid4())  # red
    options["priorty"] = 1  # red
    options["delay"] = 60  # red


# connection=


def hand_in(queue: Queue, session: AsyncSession, connection: AsyncConnection, engine: Engine) -> None:
    queue.insert_task(Summarize(path="/"), connection=session)  # red
    queue.insert_task(Summarize(path="/"), connection=connection)  # red
    queue.insert_task(Summarize(path="/"), connection=engine)  # red
    queue.insert_tasks([Summarize(path="/")], connection="postgresql://localhost/app")  # red
    queue.remove_all_tasks(connection=session)  # red


async def hand_in_async(queue: AsyncQueue, session: Session, raw: psycopg.Connection, engine: Engine) -> None:
    await queue.insert_task(Summarize(path="/"), connection=session)  # red
    await queue.insert_task(Summarize(path="/"), connection=raw)  # red
    await queue.insert_task(Summarize(path="/"), connection=engine)  # red
    await queue.remove_all_tasks(connection=session)  # red


# run


class NoArguments(Runnable):
    def run(self) -> None: ...  # red


class TooManyArguments(Runnable):
    def run(self, queue: Queueable, more: int) -> None: ...  # red


class NotAsync(AsyncRunnable):
    def run(self, queue: AsyncQueueable) -> None: ...  # red


class NotSync(Runnable):
    async def run(self, queue: Queueable) -> None: ...  # red


class WrongQueue(Runnable):
    def run(self, queue: AsyncQueueable) -> None: ...  # red


class WrongQueueAsync(AsyncRunnable):
    async def run(self, queue: Queueable) -> None: ...  # red


class Returns(Runnable):
    def run(self, queue: Queueable) -> int: ...  # red


class NoRun(Runnable):
    path: str


NoRun(path="/")  # red
