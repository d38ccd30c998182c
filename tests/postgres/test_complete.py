"""Effects once: a run completes its task in the transaction of its effects, in both modes and on every connection."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import timedelta
from typing import Any, ClassVar

import asyncpg
import psycopg
import pytest
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from fang_async import AsyncQueue, AsyncRunnable, AsyncWorkerPool
from fang_core import Constant, Events, NotInRun, RetentionMode, Runnable, TaskConfig, TaskState, UsageError
from fang_core.errors import TaskLost
from fang_threaded import Queue, WorkerPool

SOON = TaskConfig(max_retries=1, backoff=Constant(delay=timedelta(0), jitter=0))
EFFECT = "INSERT INTO effects VALUES ({n})"


class Threaded(Runnable):
    task_config = SOON
    act: ClassVar[Callable[[Any, int], None]]
    n: int = 1

    def run(self, queue: Any) -> None:
        type(self).act(queue, self.n)


class Asynchronous(AsyncRunnable):
    task_config = SOON
    act: ClassVar[Callable[[Any, int], Any]]
    n: int = 1

    async def run(self, queue: Any) -> None:
        await type(self).act(queue, self.n)


class Lost(Events):
    def __init__(self) -> None:
        self.lost: list[Any] = []

    def task_lost(self, pool_id: Any, outcome: Any) -> None:
        self.lost.append(outcome.id)


@pytest.fixture
def admin(url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE effects (n int)")
        yield connection


def effects(admin: psycopg.Connection[Any]) -> list[int]:
    return [row[0] for row in admin.execute("SELECT n FROM effects ORDER BY n")]


def states(admin: psycopg.Connection[Any]) -> list[str]:
    return [row[0] for row in admin.execute("SELECT state::text FROM fang.fang_tasks")]


# Threaded -------------------------------------------------------------------------------------------------------------


@contextmanager
def psycopg_transaction(url: str) -> Iterator[tuple[Any, Callable[[str], Any]]]:
    with psycopg.connect(url) as connection:
        yield connection, lambda sql: connection.execute(sql.encode())


@contextmanager
def session_transaction(url: str) -> Iterator[tuple[Any, Callable[[str], Any]]]:
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"))
    try:
        with Session(engine) as session, session.begin():
            yield session, lambda sql: session.execute(text(sql))
    finally:
        engine.dispose()


THREADED = pytest.mark.parametrize("transaction", [psycopg_transaction, session_transaction])


def drain(url: str, act: Callable[[Any, int], None], count: int = 1, **options: Any) -> tuple[int, list[Any]]:
    Threaded.act = staticmethod(act)
    events = Lost()
    with Queue(url) as queue:
        queue.insert_tasks([Threaded(n=n) for n in range(count)])
        return WorkerPool(queue, events=[events], **options).drain(), events.lost


@THREADED
@pytest.mark.parametrize("mode", list(RetentionMode))
def test_effect_and_completion_commit_together(
    url: str, admin: psycopg.Connection[Any], transaction: Any, mode: RetentionMode
) -> None:
    def act(queue: Any, n: int) -> None:
        with transaction(url) as (connection, execute):
            execute(EFFECT.format(n=n))
            queue.complete(connection=connection)

    assert drain(url, act, count=3, retention_mode=mode) == (3, [])
    assert effects(admin) == [0, 1, 2]
    assert states(admin) == (["finished"] * 3 if mode is RetentionMode.KEEP_ALL else [])


@THREADED
def test_an_error_rolls_both_back_and_is_a_failure(url: str, admin: psycopg.Connection[Any], transaction: Any) -> None:
    def act(queue: Any, n: int) -> None:
        with transaction(url) as (connection, execute):
            execute(EFFECT.format(n=n))
            queue.complete(connection=connection)
            raise ValueError("after all")

    assert drain(url, act) == (2, [])
    assert effects(admin) == []
    assert states(admin) == ["failed"]


@THREADED
def test_after_a_rollback_and_a_normal_return_the_task_is_finished_as_usual(
    url: str, admin: psycopg.Connection[Any], transaction: Any
) -> None:
    def act(queue: Any, n: int) -> None:
        with suppress(KeyError), transaction(url) as (connection, execute):
            execute(EFFECT.format(n=n))
            queue.complete(connection=connection)
            raise KeyError

    assert drain(url, act, retention_mode=RetentionMode.KEEP_ALL) == (1, [])
    assert (effects(admin), states(admin)) == ([], ["finished"])


@THREADED
def test_a_run_that_lost_its_task_can_only_roll_back(
    url: str, admin: psycopg.Connection[Any], transaction: Any
) -> None:
    def act(queue: Any, n: int) -> None:
        admin.execute("UPDATE fang.fang_tasks SET state = 'cancelled', pool_id = NULL, claimed_at = NULL")
        with transaction(url) as (connection, execute):
            execute(EFFECT.format(n=n))
            with pytest.raises(TaskLost, match="roll back"):
                queue.complete(connection=connection)
            with pytest.raises(Exception, match=r"(?i)aborted|inactive|rolled back"):
                execute(EFFECT.format(n=n))
            raise KeyError

    ran, _ = drain(url, act)
    assert (ran, effects(admin), states(admin)) == (1, [], ["cancelled"])


def test_a_savepoint_is_enough_to_go_on_after_a_loss(url: str, admin: psycopg.Connection[Any]) -> None:
    def act(queue: Any, n: int) -> None:
        admin.execute("UPDATE fang.fang_tasks SET state = 'cancelled', pool_id = NULL, claimed_at = NULL")
        with psycopg.connect(url) as connection:
            with suppress(TaskLost), connection.transaction():
                connection.execute(EFFECT.format(n=n).encode())
                queue.complete(connection=connection)
            connection.execute(EFFECT.format(n=7).encode())

    drain(url, act)
    assert effects(admin) == [7]


def test_autocommit_is_refused_and_so_is_who_does_not_run(url: str, admin: psycopg.Connection[Any]) -> None:
    seen: list[str] = []

    def act(queue: Any, n: int) -> None:
        engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
        with psycopg.connect(url, autocommit=True) as connection, engine.connect() as core:
            for each in (connection, core):
                with pytest.raises(UsageError, match="autocommit"):
                    queue.complete(connection=each)
                seen.append("refused")
            with connection.transaction():  # a block is a transaction, whatever the connection's mode
                queue.complete(connection=connection)
        engine.dispose()

    assert drain(url, act) == (1, [])
    assert (seen, states(admin)) == (["refused", "refused"], [])
    with Queue(url) as queue, pytest.raises(NotInRun):
        queue.complete(connection=admin)


def test_a_transaction_that_is_left_open_holds_up_nobody(url: str, admin: psycopg.Connection[Any]) -> None:
    left: list[psycopg.Connection[Any]] = []

    def act(queue: Any, n: int) -> None:
        if n == 0:
            left.append(psycopg.connect(url))
            left[0].execute(EFFECT.format(n=n).encode())
            queue.complete(connection=left[0])

    assert drain(url, act, count=20, number_of_workers=2) == (20, [])
    assert (states(admin), effects(admin)) == (["in_progress"], [])
    left[0].commit()
    left[0].close()
    assert (states(admin), effects(admin)) == ([], [0])


# Async ----------------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def asyncpg_transaction(url: str) -> AsyncIterator[tuple[Any, Callable[[str], Any]]]:
    connection = await asyncpg.connect(url)
    try:
        async with connection.transaction():
            yield connection, connection.execute
    finally:
        await connection.close()


@asynccontextmanager
async def async_session_transaction(url: str) -> AsyncIterator[tuple[Any, Callable[[str], Any]]]:
    engine = create_async_engine(make_url(url).set(drivername="postgresql+asyncpg"))
    try:
        async with AsyncSession(engine) as session, session.begin():
            yield session, lambda sql: session.execute(text(sql))
    finally:
        await engine.dispose()


ASYNC = pytest.mark.parametrize("transaction", [asyncpg_transaction, async_session_transaction])


async def drain_async(url: str, act: Callable[[Any, int], Any], **options: Any) -> tuple[int, list[Any]]:
    Asynchronous.act = staticmethod(act)
    events = Lost()
    async with AsyncQueue(url) as queue:
        await queue.insert_task(Asynchronous(n=1))
        return await AsyncWorkerPool(queue, events=[events], **options).drain(), events.lost


@ASYNC
async def test_async_effect_and_completion_commit_together(
    url: str, admin: psycopg.Connection[Any], transaction: Any
) -> None:
    async def act(queue: Any, n: int) -> None:
        async with transaction(url) as (connection, execute):
            await execute(EFFECT.format(n=n))
            await queue.complete(connection=connection)

    assert await drain_async(url, act, retention_mode=RetentionMode.KEEP_ALL) == (1, [])
    assert (effects(admin), states(admin)) == ([1], [TaskState.FINISHED])


@ASYNC
async def test_async_a_run_that_lost_its_task_can_only_roll_back(
    url: str, admin: psycopg.Connection[Any], transaction: Any
) -> None:
    async def act(queue: Any, n: int) -> None:
        await asyncio.to_thread(admin.execute, "DELETE FROM fang.fang_tasks")
        async with transaction(url) as (connection, execute):
            await execute(EFFECT.format(n=n))
            await queue.complete(connection=connection)

    ran, lost = await drain_async(url, act)
    assert (ran, effects(admin), states(admin), len(lost)) == (1, [], [], 0)


async def test_async_autocommit_is_refused(url: str, admin: psycopg.Connection[Any]) -> None:
    refused: list[str] = []

    async def act(queue: Any, n: int) -> None:
        connection = await asyncpg.connect(url)
        engine = create_async_engine(make_url(url).set(drivername="postgresql+asyncpg"), isolation_level="AUTOCOMMIT")
        try:
            async with engine.connect() as core:
                for each in (connection, core):
                    with pytest.raises(UsageError, match="autocommit"):
                        await queue.complete(connection=each)
                    refused.append(type(each).__name__)
        finally:
            await connection.close()
            await engine.dispose()

    assert await drain_async(url, act) == (1, [])
    assert len(refused) == 2
