"""What a connection of a queue keeps, and what it may have been left with."""

from dataclasses import replace
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import create_engine, make_url, text

from fang_core.errors import BackendError, StatementRefused
from fang_core.store import PoolRecord
from fang_threaded import Queue, Runnable


class Noop(Runnable):
    def run(self, queue: Any) -> None: ...


def test_a_pool_keeps_no_lock_on_its_record(url: str) -> None:
    """A process that is stopped before it has read a reply could not be declared dead."""
    pool = PoolRecord(uuid4(), "threaded", "here", 1, ("common",), (), 1)

    def look(_: Any) -> bool:
        with psycopg.connect(url) as connection:
            found = connection.execute("SELECT 1 FROM fang.fang_pools FOR UPDATE SKIP LOCKED").fetchone()
        return found is not None

    with Queue(url) as queue:
        store = queue.store()
        store.register(pool)
        assert store._claims.run(replace(store._operations.announce(pool.id, True), decode=look))
        store.close()


@pytest.mark.parametrize(
    ("setting", "error"),
    [("default_transaction_read_only = on", BackendError), ("DateStyle = 'German'", NotImplementedError)],
)
def test_a_connection_that_a_run_has_spoilt_is_not_used_again(url: str, setting: str, error: type[Exception]) -> None:
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"), pool_size=1, max_overflow=0)
    with engine.connect() as connection:
        connection.execute(text(f"SET SESSION {setting}"))
        connection.commit()
    with Queue(engine) as queue:
        with pytest.raises(error):
            queue.insert_task(Noop())
        task = queue.insert_task(Noop())
        assert queue.find_task_by_id(task.id) is not None
    engine.dispose()


def test_a_connection_on_which_a_value_was_refused_is_kept(url: str) -> None:
    with Queue(url, max_pool_size=1) as queue:
        runner = queue._connections.writes()

        def backend() -> int:
            with runner.engine.connect() as connection:
                return int(connection.scalar(text("SELECT pg_backend_pid()")) or 0)

        before = backend()
        with pytest.raises(StatementRefused):
            runner.run(replace(queue._operations.find(uuid4()), params={"p_id": "no uuid"}))
        assert backend() == before
