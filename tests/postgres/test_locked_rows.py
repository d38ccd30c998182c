"""A task that somebody else has locked holds up no other, and keeps its outcome until it is free; in both modes."""

import threading
import uuid
from collections.abc import Iterator
from datetime import timedelta
from queue import SimpleQueue
from typing import Any

import psycopg
import pytest
from sqlalchemy import func, literal_column, select

from fang_core import Events, TaskState
from fang_core.backends.claims import ClaimRequest, LaneRequest
from fang_core.backends.pools import Live, PoolRecord, PruneRequest
from fang_core.errors import RowsLocked
from fang_core.lifecycle import Outcome
from fang_core.monitoring.history import POOL as POOLS_OWN
from fang_core.monitoring.history import Flush, StatsRow, minute_of
from fang_postgres.connections.connecting import SETTINGS
from fang_postgres.operations import Operations
from fang_postgres.operations.outcomes import LOCK_WAIT
from fang_postgres.planner_guard import SLOW, PlanGuard
from fang_postgres.statement import Operation, Statement
from tests.modes import GATES, Database, Harness, abstains, eventually, insert_suspect, ran
from tests.patience import PATIENT
from tests.postgres.test_lane_gates import held_up

POOL = uuid.UUID(int=7)
LOCK = "SELECT 1 FROM fang.fang_tasks WHERE id = %s FOR UPDATE"
LOCK_TIMEOUT = Operation(
    Statement("lock_timeout", select(func.current_setting(literal_column("'lock_timeout'")))),
    {},
    lambda rows: rows[0][0],
)
CHANGES = {
    "cancelled": "UPDATE fang.fang_tasks SET state = 'cancelled', pool_id = NULL, claimed_at = NULL WHERE id = %s",
    "removed": "DELETE FROM fang.fang_tasks WHERE id = %s",
}


class Seen(Events):
    def __init__(self) -> None:
        self.lost: SimpleQueue[uuid.UUID] = SimpleQueue()
        self.failed: list[BaseException] = []

    def task_lost(self, pool_id: uuid.UUID, outcome: Outcome) -> None:
        self.lost.put(outcome.id)

    def backend_failed(self, pool_id: uuid.UUID, error: BaseException) -> None:
        self.failed.append(error)


@pytest.fixture
def locker(url: str) -> Iterator[psycopg.Connection[Any]]:
    """Whoever leaves a transaction open."""
    with psycopg.connect(url) as connection:
        yield connection
        connection.rollback()


class Scene:
    """A pool that runs a task which waits, and which is locked meanwhile; others come behind it."""

    def __init__(self, harness: Harness, url: str, **options: Any) -> None:
        self.seen = Seen()
        self.harness = harness
        self.queue = harness.queue(url)
        self.pool = harness.pool(self.queue, number_of_workers=2, events=[self.seen], **options)
        (self.task,) = self.insert(0, waits=True)
        ran()

    def insert(self, *numbers: int, waits: bool = False) -> list[Any]:
        tasks = [self.harness.note(n=n, waits=waits) for n in numbers]
        rows: list[Any] = self.harness.call(self.queue.insert_tasks, tasks)
        return rows

    def locked(self) -> int:
        """Returns how many outcomes wait for a lock."""
        return len(self.pool._lifetime.completer._locked)

    def end_locked(self) -> None:
        """Its run ends, and its outcome meets the lock."""
        GATES["gate"].set()
        eventually(self.locked)


def left(database: Database) -> list[Any]:
    return [row[0] for row in database.rows("SELECT id FROM fang.fang_tasks")]


def test_others_are_written_while_it_is_locked_and_it_is_when_it_is_free(
    harness: Harness, url: str, database: Database, locker: psycopg.Connection[Any]
) -> None:
    scene = Scene(harness, url)
    locker.execute(LOCK, [scene.task.id])
    GATES["gate"].set()
    for n in range(1, 6):
        scene.insert(n)
    assert ran(5) == [1, 2, 3, 4, 5]
    eventually(lambda: left(database) == [scene.task.id])
    locker.rollback()
    eventually(lambda: not left(database))
    assert (scene.seen.lost.empty(), scene.seen.failed) == (True, [])
    eventually(lambda: not scene.pool._lifetime.in_flight)


def test_a_suspect_that_is_locked_keeps_its_pool_from_nothing_but_another_suspect(
    harness: Harness, url: str, database: Database, locker: psycopg.Connection[Any]
) -> None:
    """Which would not be alone."""
    queue = harness.queue(url)
    first = insert_suspect(harness, queue, database, 0, waits=True)
    pool = harness.pool(queue, number_of_workers=2)
    assert ran() == [0]
    locker.execute(LOCK, [first])
    GATES["gate"].set()
    eventually(lambda: len(pool._lifetime.completer._locked))
    second = insert_suspect(harness, queue, database, 1)
    for n in range(2, 6):
        harness.call(queue.insert_task, harness.note(n=n))
        assert ran() == [n]
    eventually(lambda: sorted(left(database)) == sorted([first, second]))
    assert abstains(pool)
    locker.rollback()
    assert ran() == [1]
    eventually(lambda: not left(database))
    eventually(lambda: not pool._lifetime.in_flight)


@pytest.mark.parametrize("change", CHANGES)
def test_what_was_changed_under_the_lock_is_lost(
    harness: Harness, url: str, database: Database, locker: psycopg.Connection[Any], change: str
) -> None:
    scene = Scene(harness, url)
    locker.execute(CHANGES[change].encode(), [scene.task.id])
    scene.end_locked()
    locker.commit()
    assert scene.seen.lost.get(timeout=PATIENT) == scene.task.id
    row = harness.call(scene.queue.find_task_by_id, scene.task.id)
    assert (row and row.state) == (TaskState.CANCELLED if change == "cancelled" else None)


def test_a_stop_writes_it_where_it_becomes_free_in_time(
    harness: Harness, url: str, database: Database, locker: psycopg.Connection[Any]
) -> None:
    scene = Scene(harness, url)
    locker.execute(LOCK, [scene.task.id])
    scene.end_locked()
    completer = scene.pool._lifetime.completer
    flush, flushing = completer.flush, threading.Event()

    def watched(within: float) -> Any:
        flushing.set()
        return flush(within)

    completer.flush = watched
    stopped = harness.begin(scene.pool.stop)
    assert flushing.wait(PATIENT)
    locker.rollback()
    assert stopped.result(PATIENT) == 0
    harness._pools.remove(scene.pool)
    assert left(database) == []
    assert database.rows("SELECT 1 FROM fang.fang_pools") == []


def test_a_stop_leaves_it_to_others_uncharged_where_it_stays_locked(
    harness: Harness, url: str, database: Database, locker: psycopg.Connection[Any], caplog: pytest.LogCaptureFixture
) -> None:
    scene = Scene(harness, url, grace_period=timedelta(0))
    locker.execute(LOCK, [scene.task.id])
    scene.end_locked()
    harness.stop(scene.pool)
    assert "1 outcomes not written: other transactions have locked their tasks" in caplog.text
    # Whoever finds it does so by the record of its holder, which says that nobody is to be charged.
    held = "SELECT p.stopping FROM fang.fang_tasks t JOIN fang.fang_pools p ON p.id = t.pool_id"
    assert database.rows(held) == [(True,)]


def test_a_drain_waits_for_it(harness: Harness, url: str, database: Database, locker: psycopg.Connection[Any]) -> None:
    scene = Scene(harness, url)
    locker.execute(LOCK, [scene.task.id])
    drained = harness.begin(scene.pool.drain)
    scene.end_locked()
    locker.rollback()
    drained.result(PATIENT)
    assert left(database) == []


# The store ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def store(harness: Harness, url: str, database: Database) -> Iterator[Any]:
    """Of a registered pool that may hold tasks."""
    made = harness.call(harness.queue(url).store)
    harness.call(made.register, PoolRecord(POOL, "threaded", "h", 1, ("common",), ("Held",), 1))
    yield made
    harness.call(made.close)


def hold(harness: Harness, store: Any, database: Database, count: int) -> list[Any]:
    database.execute(
        'INSERT INTO fang.fang_tasks (metadata) SELECT \'{"type": "Held"}\' FROM generate_series(1, %s)', count
    )
    tasks: list[Any] = harness.call(store.claim, ClaimRequest(POOL, ("common",), ("Held",), count)).tasks
    return tasks


STATES = [None, TaskState.FINISHED, TaskState.FAILED]


@pytest.mark.parametrize("waits", [True, False])
def test_a_store_says_what_is_locked_and_what_it_wrote(
    harness: Harness, store: Any, database: Database, locker: psycopg.Connection[Any], waits: bool
) -> None:
    """Each in its own way of writing; one of another attempt is neither."""
    tasks = hold(harness, store, database, 10)
    locker.execute("SELECT 1 FROM fang.fang_tasks WHERE id = ANY(%s) FOR UPDATE", [[task.id for task in tasks[:3]]])
    outcomes = [Outcome(task.id, task.attempt, STATES[n % 3]) for n, task in enumerate(tasks)]
    outcomes[9] = outcomes[9]._replace(attempt=7)
    with pytest.raises(RowsLocked) as caught:
        harness.call(store.complete, POOL, outcomes, waits=waits)
    assert caught.value.locked == {task.id for task in tasks[:3]}
    assert caught.value.written == {task.id for task in tasks[3:9]}
    locker.rollback()
    rest = harness.call(store.complete, POOL, outcomes, waits=waits)
    assert rest == {task.id for task in tasks[:3]}


def test_what_a_run_completes_by_itself_is_never_said_to_be_locked(
    harness: Harness, store: Any, database: Database, locker: psycopg.Connection[Any]
) -> None:
    (task,) = hold(harness, store, database, 1)
    locker.execute(LOCK, [task.id])
    outcome = Outcome(task.id, task.attempt, None, completed_by_run=True)
    assert harness.call(store.complete, POOL, [outcome]) == set()


@pytest.mark.parametrize("managed", [False, True], ids=["plain", "managed"])
def test_a_claim_that_comes_late_locks_what_others_have_taken_until_it_ends(
    harness: Harness, url: str, store: Any, database: Database, locker: psycopg.Connection[Any], managed: bool
) -> None:
    """Its snapshot is older than their claim: it finds out that a task is taken by locking it."""
    late = uuid.UUID(int=8)
    harness.call(store.register, PoolRecord(late, "threaded", "h", 1, ("common",), ("Held",), 1))
    operations = Operations("fang")
    operation: Operation[Any] = operations.claim(ClaimRequest(late, ("common",), ("Held",), 10))
    if managed:
        database.execute("INSERT INTO fang.fang_types (task_type, max_running_per_key) VALUES ('common', 20)")
        operation = operations.claim_lanes(LaneRequest(late, "common", ("Held",), 10))
    insert = (
        "INSERT INTO fang.fang_tasks (metadata, lane) SELECT '{\"type\": \"Held\"}', 'a' FROM generate_series(1, 5)"
    )
    database.execute(insert)
    with held_up(url, operation, locker) as open_gate:
        if managed:
            claim = harness.call(store.claim_lanes, LaneRequest(POOL, "common", ("Held",), 5))
        else:
            claim = harness.call(store.claim, ClaimRequest(POOL, ("common",), ("Held",), 5))
        assert len(claim.tasks) == 5
        taken_late = open_gate()
    assert not (taken_late[0] if managed else taken_late).tasks
    outcomes = [Outcome(task.id, task.attempt, None) for task in claim.tasks]
    with pytest.raises(RowsLocked) as caught:
        harness.call(store.complete, POOL, outcomes)
    assert caught.value.written == set()
    locker.commit()
    assert harness.call(store.complete, POOL, outcomes) == {task.id for task in claim.tasks}


class Judged(PlanGuard):
    """What it was told of."""

    def __init__(self) -> None:
        super().__init__()
        self.by: list[str] = []

    def observe(self, seconds: float, now: float) -> bool:
        self.by.append("observe")
        return False

    def timed_out(self, seconds: float, now: float) -> bool:
        self.by.append("timed out")
        return False


def test_the_wait_ends_with_its_statement_and_is_no_slow_plan(
    harness: Harness, store: Any, database: Database, locker: psycopg.Connection[Any]
) -> None:
    (task,) = hold(harness, store, database, 1)
    judged = Judged()
    store._guard_of_outcomes = judged
    locker.execute(LOCK, [task.id])
    with pytest.raises(RowsLocked):
        harness.call(store.complete, POOL, [Outcome(task.id, 1, None)])
    assert judged.by == ["observe"]  # what was done without waiting, when the wait was over
    assert float(LOCK_WAIT.removesuffix("ms")) / 1000 < SLOW
    assert harness.call(store._writes.run, LOCK_TIMEOUT) == SETTINGS["lock_timeout"]


def test_of_a_locked_table_it_only_says_that_nothing_was_written(
    harness: Harness, url: str, database: Database, locker: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SETTINGS, "lock_timeout", "100ms")
    store = harness.call(harness.queue(url).store)
    locker.execute("LOCK TABLE fang.fang_tasks IN ACCESS EXCLUSIVE MODE")
    with pytest.raises(RowsLocked, match="nothing was written") as caught:
        harness.call(store.complete, POOL, [Outcome(POOL, 1, None)])
    assert (caught.value.written, caught.value.locked) == (frozenset(), frozenset())
    harness.call(store.close)


SEES = """CREATE TABLE fang.seen (name text, waits text);
    CREATE FUNCTION fang.see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO fang.seen VALUES (TG_TABLE_NAME || ' ' || TG_OP, current_setting('lock_timeout')); RETURN NULL;
    END $$"""
WATCHES = "CREATE TRIGGER see AFTER INSERT OR UPDATE OR DELETE ON fang.{} EXECUTE FUNCTION fang.see()"


def test_what_nothing_depends_on_waits_for_no_lock_on_its_table(harness: Harness, url: str) -> None:
    """It is written on connections of claims and outcomes, which somebody who has locked its table would stop."""
    database = Database(url)
    database.execute(SEES)
    for table in ("fang_live", "fang_stats"):
        database.execute(WATCHES.format(table))
    store = harness.call(harness.queue(url).store)
    try:
        harness.call(store.tell_live, POOL, Live(1, 0))
        for ago in (0, 10, 70):
            at = minute_of(harness.call(store.tell_time) - timedelta(minutes=ago))
            harness.call(store.flush_stats, POOL, Flush(at, {POOLS_OWN: StatsRow(worker_s=1.0)}))
        harness.call(store.prune, PruneRequest(("common",), None, None, 10))
        harness.call(store.fold_stats, None, 10)
    finally:
        harness.call(store.close)
    seen = set(database.rows("SELECT name, waits FROM fang.seen"))
    database.close()
    assert {name.partition(" ")[0] for name, _ in seen} == {"fang_live", "fang_stats"}
    assert {waits for _, waits in seen} == {"100ms"}


def test_a_pool_deregisters_although_nobody_may_write_what_pools_do(harness: Harness, url: str) -> None:
    database = Database(url)
    database.execute("ALTER TABLE fang.fang_live RENAME TO elsewhere")
    store = harness.call(harness.queue(url).store)
    try:
        harness.call(store.register, PoolRecord(POOL, harness.mode, "host", 1, ("common",), ("A",), 1))
        harness.call(store.unregister, POOL)
        assert database.rows("SELECT id FROM fang.fang_pools") == []
    finally:
        harness.call(store.close)
        database.close()
