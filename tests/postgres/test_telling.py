"""What puts tasks behind the cursors of pools says so, for each lane with the earliest time, though nobody waits."""

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from fang_core.backends.claims import ClaimRequest
from fang_core.backends.pools import PoolRecord
from fang_core.backends.ticks import Tick
from fang_core.lifecycle import Outcome, change_by_hand, retry_by_hand
from fang_core.record import ClaimedTask, Task, TaskState
from fang_core.tasks.insertion import NewTask, Overrides
from fang_postgres.operations import Operations
from fang_postgres.statement import Operation
from fang_threaded.database import run_on
from tests.patience import PATIENT

OPS = Operations("fang")
POOL = uuid.UUID(int=7)
PAST = datetime(2020, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
LATER = PAST + timedelta(microseconds=1)


def telling(priority: int, at: datetime) -> str:
    microseconds = (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    return f"common,{priority},{microseconds}"


class Database:
    """With a pool that does not wait, and that holds three tasks."""

    def __init__(self, url: str) -> None:
        self.connection = psycopg.connect(url, autocommit=True)
        self.ear = psycopg.connect(url, autocommit=True)
        self.ear.execute("LISTEN fang_fang")
        self.run(OPS.register(PoolRecord(POOL, "threaded", "h", 1, ("common",), ("Told",), 1)))
        self.tasks: list[ClaimedTask] = []
        for priority, at in ((0, LATER), (0, PAST), (2, LATER)):
            self.connection.execute(
                'INSERT INTO fang.fang_tasks (metadata, priority, scheduled_at) VALUES (\'{"type": "Told"}\', %s, %s)',
                [priority, at],
            )
        self.tasks = self.run(OPS.claim(ClaimRequest(POOL, ("common",), ("Told",), 10))).tasks

    def run(self, operation: Operation[Any]) -> Any:
        return run_on(self.connection, operation)

    def settle(self, state: TaskState, delay: timedelta | None = None) -> None:
        (settle,) = OPS.complete(POOL, [Outcome(task.id, task.attempt, state, delay) for task in self.tasks])
        assert len(self.run(settle)) == 3

    def heard(self) -> list[str]:
        """Up to now."""
        self.connection.execute("SELECT pg_notify('fang_fang', 'the last one')")
        payloads = []
        for notification in self.ear.notifies(timeout=PATIENT):
            if notification.payload == "the last one":
                return sorted(payloads)
            payloads.append(notification.payload)
        raise AssertionError("notifications do not arrive")

    def close(self) -> None:
        self.connection.close()
        self.ear.close()


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    database = Database(url)
    yield database
    database.close()


BOTH_LEVELS = [telling(0, PAST), telling(2, LATER)]


def new_row(task_type: str = "common") -> NewTask:
    return NewTask(uuid.uuid4(), '{"type": "Told"}', "Told", (task_type, 1, 20, None, None), f"hash of {uuid.uuid4()}")


def test_an_insert_of_now_is_ahead_of_all_cursors(database: Database) -> None:
    for overrides in (Overrides(), Overrides(delay=timedelta(0))):
        database.run(OPS.insert(new_row(), overrides, notify=True))
        database.run(OPS.insert_many([new_row()], overrides, notify=True))
        database.run(OPS.insert_unique([new_row()], overrides, notify=True))
    assert database.heard() == []


def test_a_single_insert_is_told_where_a_pool_waits_for_its_kind_or_nobody_knows_it(database: Database) -> None:
    database.run(OPS.set_waiting(POOL, True))
    other = new_row()._replace(kind="Other")
    database.run(OPS.insert(other, Overrides(), notify=True))
    database.run(OPS.insert(new_row(), Overrides(), notify=True))
    assert database.heard() == ["common", "common"]
    database.run(OPS.register(PoolRecord(uuid.uuid4(), "async", "h", 1, ("common",), ("Other",), 1)))
    database.run(OPS.insert(other._replace(id=uuid.uuid4(), uniq_hash=None), Overrides(), notify=True))
    assert database.heard() == []
    database.run(OPS.insert(new_row(), Overrides(), notify=True))
    assert database.heard() == ["common"]


def test_an_insert_with_a_due_time_in_the_past(database: Database) -> None:
    past = Overrides(scheduled_at=PAST)
    database.run(OPS.insert(new_row(), past, notify=True))
    assert database.heard() == [telling(1, PAST)]
    database.run(OPS.insert_many([new_row(), new_row()], past, notify=True))
    assert database.heard() == [telling(1, PAST)]
    database.run(OPS.insert_unique([new_row()], past, notify=True))
    assert database.heard() == [telling(1, PAST)]


def test_a_tick_is_due_at_its_own_time(database: Database) -> None:
    database.run(OPS.tick(Tick("nightly", PAST, new_row()), notify=True))
    assert database.heard() == [telling(1, PAST)]


@pytest.mark.parametrize("state", [TaskState.NEW, TaskState.RETRIED])
def test_give_back(database: Database, state: TaskState) -> None:
    database.settle(state)
    assert database.heard() == BOTH_LEVELS


@pytest.mark.parametrize("state", [TaskState.FAILED, TaskState.CANCELLED])
def test_what_has_ended_is_nobodys_to_take(database: Database, state: TaskState) -> None:
    database.settle(state)
    assert database.heard() == []


def test_a_retry_that_is_due_later_is_not_behind_and_is_told_to_those_who_wait(database: Database) -> None:
    database.settle(TaskState.RETRIED, timedelta(seconds=5))
    assert database.heard() == []


def test_those_who_wait_hear_of_a_retry_that_is_due_soon(database: Database) -> None:
    database.run(OPS.set_waiting(POOL, True))
    database.settle(TaskState.RETRIED, timedelta(seconds=5))
    assert database.heard() == ["common"]


def test_rescue(database: Database) -> None:
    database.run(OPS.rescue(POOL, charged=True, max_crashes=3))
    assert database.heard() == BOTH_LEVELS


def test_a_rescue_that_parks_tells_nobody(database: Database) -> None:
    database.run(OPS.rescue(POOL, charged=True, max_crashes=1))
    assert database.heard() == []


def test_reconcile(database: Database) -> None:
    database.run(OPS.reconcile(POOL, [database.tasks[0].id]))
    assert database.heard() == [telling(0, LATER), telling(2, LATER)]


def test_revival_by_hand(database: Database) -> None:
    database.settle(TaskState.FAILED)
    failed: Task = database.run(OPS.find(database.tasks[0].id))
    revived: Task = database.run(OPS.change(change_by_hand(failed, TaskState.NEW), notify=True))
    assert database.heard() == [telling(0, revived.scheduled_at)]
    cancelled: Task = database.run(OPS.change(change_by_hand(revived, TaskState.CANCELLED), notify=True))
    assert cancelled.state is TaskState.CANCELLED
    assert database.heard() == []


def test_a_two_phase_transaction_is_silent(database: Database) -> None:
    database.settle(TaskState.FAILED)
    failed: Task = database.run(OPS.find(database.tasks[0].id))
    database.run(OPS.change(change_by_hand(failed, TaskState.NEW), notify=False))
    assert database.heard() == []


def test_retry_by_hand_without_backoff(database: Database) -> None:
    held: Task = database.run(OPS.find(database.tasks[0].id))
    retried: Task = database.run(OPS.change(retry_by_hand(held, timedelta(0), "again"), notify=True))
    assert database.heard() == [telling(0, retried.scheduled_at)]
