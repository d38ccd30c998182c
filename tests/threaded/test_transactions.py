"""Inserting in the caller's transaction: it commits, rolls back, and survives a refusal with everything else there."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.orm import Session, sessionmaker

from fang_core import PayloadError, Runnable, UsageError
from fang_threaded import Queue


class Receipt(Runnable):
    n: int = 0
    note: str = ""

    def run(self, queue: Any) -> None: ...


@pytest.fixture
def queue(url: str) -> Iterator[Queue]:
    with Queue(url) as queue:
        yield queue


def driver_url(url: str, driver: str) -> Any:
    return make_url(url).set(drivername=f"postgresql+{driver}")


@pytest.fixture(params=["session-psycopg", "session-psycopg2", "connection-psycopg", "raw-psycopg", "raw-dict-rows"])
def connection(request: pytest.FixtureRequest, url: str) -> Iterator[Any]:
    kind, _, driver = request.param.partition("-")
    if kind == "raw":
        with psycopg.connect(url, row_factory=dict_row if driver == "dict-rows" else psycopg.rows.tuple_row) as raw:
            yield raw
            raw.rollback()
        return
    engine = create_engine(driver_url(url, driver))
    with Session(engine) if kind == "session" else engine.connect() as made:
        yield made
    engine.dispose()


def execute(connection: Any, statement: str) -> None:
    connection.execute(statement if isinstance(connection, psycopg.Connection) else text(statement))


def test_committed(queue: Queue, connection: Any) -> None:
    one = queue.insert_task(Receipt(n=1), connection=connection)
    many = queue.insert_tasks([Receipt(n=n) for n in range(3)], connection=connection)
    assert queue.find_task_by_id(one.id) is None
    assert queue.find_task_by_id(one.id, connection=connection) == one
    connection.commit()
    assert [queue.find_task_by_id(task.id) for task in [one, *many]] == [one, *many]


def test_rolled_back(queue: Queue, connection: Any) -> None:
    task = queue.insert_task(Receipt(), connection=connection)
    connection.rollback()
    assert queue.find_task_by_id(task.id) is None


def test_savepoint(queue: Queue, connection: Any) -> None:
    kept = queue.insert_task(Receipt(n=1), connection=connection)
    execute(connection, "SAVEPOINT here")
    undone = queue.insert_task(Receipt(n=2), connection=connection)
    execute(connection, "ROLLBACK TO SAVEPOINT here")
    connection.commit()
    assert queue.find_task_by_id(kept.id) == kept
    assert queue.find_task_by_id(undone.id) is None


def test_a_refused_task_leaves_the_transaction_usable(queue: Queue, connection: Any) -> None:
    kept = queue.insert_task(Receipt(), connection=connection)
    with pytest.raises(PayloadError):
        queue.insert_task(Receipt(note="\0"), connection=connection)
    connection.commit()
    assert queue.find_task_by_id(kept.id) == kept


def test_autocommit_stands_at_once(queue: Queue, url: str) -> None:
    with psycopg.connect(url, autocommit=True) as raw:
        task = queue.insert_task(Receipt(), connection=raw)
        assert queue.find_task_by_id(task.id) == task
    engine = create_engine(driver_url(url, "psycopg"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        task = queue.insert_task(Receipt(), connection=connection)
        assert queue.find_task_by_id(task.id) == task
    engine.dispose()


def test_other_objects_are_refused(queue: Queue) -> None:
    engine = create_engine("sqlite://")
    with Session(engine) as session, pytest.raises(UsageError, match="must be on Postgres, not sqlite"):
        queue.insert_task(Receipt(), connection=session)
    with pytest.raises(UsageError, match="takes a SQLAlchemy Session"):
        queue.insert_task(Receipt(), connection=object())
    engine.dispose()


def test_a_queue_on_the_applications_engine_or_sessionmaker(url: str) -> None:
    engine = create_engine(driver_url(url, "psycopg"), isolation_level="SERIALIZABLE")
    for database in (engine, sessionmaker(engine)):
        with Queue(database) as queue:
            task = queue.insert_task(Receipt())
            assert queue.find_task_by_id(task.id) == task
    with engine.connect() as connection:  # the application's engine was not closed
        assert connection.execute(text("SELECT count(*) FROM fang.fang_tasks")).scalar_one() == 2
    engine.dispose()


def test_a_snapshot_older_than_the_queues_record_is_refused_and_costs_nothing(url: str) -> None:
    with psycopg.connect(url) as connection, Queue(url) as queue:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.execute("SELECT 1 FROM fang.fang_tasks")
        with pytest.raises(UsageError, match="begin another one"):
            queue.fetch_and_touch_task(connection=connection)
        connection.rollback()
        assert queue.fetch_and_touch_task(connection=connection) is None
        assert connection.execute("SELECT count(*) FROM fang.fang_pools").fetchone() == (1,)
