"""Two-phase transactions: Postgres refuses to prepare one that has notified, so an insert in one must not."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import Engine, create_engine, make_url
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from fang_async import AsyncQueue
from fang_core import Runnable, TaskConfig, TaskState
from fang_core.backends.pools import PoolRecord
from fang_core.record import Task
from fang_threaded import Queue
from tests.driven import Driven


class Prepared(Runnable):
    task_config = TaskConfig(kind="two_phase.Prepared", uniq=True)
    n: int = 0

    def run(self, queue: Any) -> None: ...


@pytest.fixture
def queue(url: str) -> Iterator[Queue]:
    """A queue for whose inserts a pool waits."""
    with psycopg.connect(url) as connection:
        if connection.execute("SHOW max_prepared_transactions").fetchone() == ("0",):
            pytest.skip("the server has max_prepared_transactions = 0")
    with Queue(url) as queue:
        store, pool_id = Driven(queue.store()), uuid4()
        store.register(PoolRecord(pool_id, "threaded", "host", 1, ("common",), ("two_phase.Prepared",), 1))
        store.set_waiting(pool_id, True)
        yield queue
        store.close()


@pytest.fixture
def listener(url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("LISTEN fang_fang")
        yield connection


def notified(listener: psycopg.Connection[Any]) -> list[str]:
    """What has come so far: a notification of a committed transaction stands before the next answer."""
    listener.execute("SELECT 1")
    return [notify.payload for notify in listener.notifies(timeout=0)]


@pytest.fixture(params=["psycopg", "psycopg2"])
def engine(request: pytest.FixtureRequest, url: str) -> Iterator[Engine]:
    engine = create_engine(make_url(url).set(drivername=f"postgresql+{request.param}"))
    yield engine
    engine.dispose()


def everything(queue: Queue, connection: Any, ended: Task) -> list[Task]:
    """Every call that would wake a pool."""
    return [
        queue.insert_task(Prepared(n=1), connection=connection),
        *queue.insert_tasks([Prepared(n=2), Prepared(n=3)], connection=connection),
        *queue.insert_tasks([Prepared(n=4), Prepared(n=5)], uniq=False, connection=connection),
        queue.update_task_state(ended, TaskState.NEW, connection=connection),
    ]


def test_a_session(queue: Queue, listener: psycopg.Connection[Any], engine: Engine) -> None:
    ended = queue.update_task_state(queue.insert_task(Prepared()), TaskState.CANCELLED)
    assert notified(listener)
    with Session(engine, twophase=True) as session:
        tasks = everything(queue, session, ended)
        session.prepare()
        session.commit()
    assert notified(listener) == []
    assert [queue.find_task_by_id(task.id) for task in tasks] == tasks


def test_a_connection(queue: Queue, listener: psycopg.Connection[Any], engine: Engine) -> None:
    ended = queue.update_task_state(queue.insert_task(Prepared()), TaskState.CANCELLED)
    assert notified(listener)
    with engine.connect() as connection:
        transaction = connection.begin_twophase()
        with connection.begin_nested():
            tasks = everything(queue, connection, ended)
        transaction.prepare()
        transaction.commit()
        assert notified(listener) == []
        assert [queue.find_task_by_id(task.id) for task in tasks] == tasks
        transaction = connection.begin_twophase()
        undone = queue.insert_task(Prepared(n=9), connection=connection)
        transaction.prepare()
        transaction.rollback()
    assert queue.find_task_by_id(undone.id) is None


def test_a_psycopg_connection(url: str, queue: Queue, listener: psycopg.Connection[Any]) -> None:
    ended = queue.update_task_state(queue.insert_task(Prepared()), TaskState.CANCELLED)
    assert notified(listener)
    with psycopg.connect(url) as connection:
        connection.tpc_begin(connection.xid(1, uuid4().hex, "branch"))
        tasks = everything(queue, connection, ended)
        connection.tpc_prepare()
        connection.tpc_commit()
        assert notified(listener) == []
        assert [queue.find_task_by_id(task.id) for task in tasks] == tasks
        queue.insert_task(Prepared(n=9), connection=connection)  # an ordinary one again
        connection.commit()
    assert notified(listener) == ["common"]


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg_async"])
async def test_an_async_session(url: str, queue: Queue, listener: psycopg.Connection[Any], driver: str) -> None:
    engine = create_async_engine(make_url(url).set(drivername=f"postgresql+{driver}"))
    async with AsyncQueue(url) as asynchronous, AsyncSession(engine, twophase=True) as session:
        tasks = [
            await asynchronous.insert_task(Prepared(n=1), connection=session),
            *await asynchronous.insert_tasks([Prepared(n=2), Prepared(n=3)], connection=session),
        ]
        await session.run_sync(lambda held: held.prepare())
        await session.commit()
        assert notified(listener) == []
        assert [await asynchronous.find_task_by_id(task.id) for task in tasks] == tasks
    async with AsyncQueue(url) as asynchronous, AsyncSession(engine) as session:
        await asynchronous.insert_task(Prepared(n=9), connection=session)
        await session.commit()
    assert notified(listener) == ["common"]
    await engine.dispose()
