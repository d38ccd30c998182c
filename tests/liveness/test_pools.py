"""Pools that lose a reply, their record or the database for a while, and pools that stop while runs go on."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError
from datetime import timedelta
from queue import Empty, SimpleQueue
from typing import Any, Final
from uuid import UUID

import pytest

import fang_postgres.pool.heart
from fang_core import (
    AsyncRunnable,
    BackendUnavailable,
    Lease,
    RetentionMode,
    Runnable,
    TaskConfig,
    UsageError,
    current_run,
)
from fang_core.events import Events
from fang_core.lifecycle import Outcome
from fang_core.runs.run import Run
from tests.modes import GATES, RAN, Database, Harness, eventually, ran
from tests.patience import PATIENT
from tests.proxy import Mode, Proxy

SOON: Final = timedelta(milliseconds=100)
LEASE: Final = timedelta(seconds=3)
RUNS: Final[SimpleQueue[Run]] = SimpleQueue()
"""What each run of a stubborn task knows of itself."""
GATE: Final = threading.Event()
CANCELLED: Final = threading.Event()


class ThreadedStubborn(Runnable):
    task_config = TaskConfig(kind="tests.ThreadedStubborn")

    def run(self, queue: Any) -> None:
        RUNS.put(current_run())
        GATE.wait()


class AsyncStubborn(AsyncRunnable):
    task_config = TaskConfig(kind="tests.AsyncStubborn")

    async def run(self, queue: Any) -> None:
        RUNS.put(current_run())
        while not GATE.is_set():
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                CANCELLED.set()


class Told(Events):
    """What the pool's events tell."""

    def __init__(self) -> None:
        self.reborn: SimpleQueue[tuple[UUID, UUID]] = SimpleQueue()
        self.lost: SimpleQueue[Outcome] = SimpleQueue()

    def pool_declared_dead(self, pool_id: UUID, successor: UUID) -> None:
        self.reborn.put((pool_id, successor))

    def task_lost(self, pool_id: UUID, outcome: Outcome) -> None:
        self.lost.put(outcome)


@pytest.fixture(autouse=True)
def gate() -> Iterator[None]:
    while not RUNS.empty():
        RUNS.get()
    GATE.clear()
    CANCELLED.clear()
    yield
    GATE.set()


def stubborn(harness: Harness) -> Any:
    return ThreadedStubborn() if harness.mode == "threaded" else AsyncStubborn()


def starts(harness: Harness, pool: Any) -> bool:
    """Whether the pool let itself be started."""
    try:
        harness.call(pool.start)
    except UsageError:
        return False
    return True


def pools(database: Database) -> list[Any]:
    return database.rows("SELECT id, beats, stopping FROM fang.fang_pools")


def tasks(database: Database) -> list[Any]:
    return database.rows("SELECT state::text, attempt, crashes, retries FROM fang.fang_tasks ORDER BY id")


def connections(database: Database) -> int:
    ours = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'fang'"
    return int(database.rows(ours)[0][0])


# Replies that are lost ------------------------------------------------------------------------------------------------


def test_a_claim_whose_reply_is_lost_is_given_back_at_once_and_runs_uncharged(
    harness: Harness, url: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = harness.queue(url)
    pool = harness.pool(queue, poll=SOON, lease=LEASE, retention_mode=RetentionMode.KEEP_ALL)
    lost: list[Any] = []
    claims = 0

    def lose(claim: Any) -> None:
        nonlocal claims
        claims += 1
        if claim.tasks and not lost:
            lost.extend(claim.tasks)
            raise BackendUnavailable("the reply was lost")

    eventually(lambda: database.waiting == [True])  # so its first claim is over
    harness.wrap(monkeypatch, pool._lifetime.store, "claim", after=lose)
    eventually(lambda: claims > 0)  # so no claim is under way that loses nothing
    former = pool.id
    harness.call(queue.insert_task, harness.note(n=1))
    assert ran() == [1]
    eventually(lambda: tasks(database)[0][0] == "finished")
    assert tasks(database) == [("finished", 2, 0, 0)]
    assert (len(lost), pool.id) == (1, former)
    assert RAN.empty()


# A pool that was declared dead ----------------------------------------------------------------------------------------


@pytest.mark.both_modes
def test_a_pool_that_was_declared_dead_loses_its_runs_and_goes_on(
    harness: Harness, url: str, database: Database
) -> None:
    told = Told()
    queue = harness.queue(url)
    pool = harness.pool(queue, poll=SOON, lease=LEASE, number_of_workers=2, events=[told])
    harness.call(queue.insert_task, stubborn(harness))
    run = RUNS.get(timeout=PATIENT)
    assert run.lease is Lease.HELD
    former = pool.id

    # As another's rescue would, but that the task waits for somebody else; so its outcome would be seen.
    with database.connection.transaction():
        database.execute("UPDATE fang.fang_tasks SET state = 'retried', pool_id = NULL, task_type = 'elsewhere'")
        database.execute("DELETE FROM fang.fang_pools")
    assert told.reborn.get(timeout=PATIENT) == (former, pool.id)
    assert former != pool.id
    assert run.lease is Lease.LOST
    if harness.mode == "async":
        assert CANCELLED.wait(PATIENT)

    harness.call(queue.insert_task, harness.note(n=1))
    assert ran() == [1]  # by the second worker, under the new id
    eventually(lambda: len(tasks(database)) == 1)
    eventually(lambda: [row[0] for row in pools(database)] == [pool.id] and pools(database)[0][1] > 0)
    GATE.set()
    assert told.lost.get(timeout=PATIENT).id == run.task.id
    assert tasks(database) == [("retried", 1, 0, 0)]
    assert told.reborn.empty()


def test_what_was_not_started_is_not_begun_once_the_pool_was_declared_dead(
    harness: Harness, url: str, database: Database
) -> None:
    """A suspect above all: it waits for another run to end, and would then run beside whoever has it now."""
    told = Told()
    queue = harness.queue(url)
    pool = harness.pool(queue, poll=SOON, lease=LEASE, number_of_workers=2, events=[told])
    harness.call(queue.insert_task, stubborn(harness))
    RUNS.get(timeout=PATIENT)
    task = harness.call(queue.insert_task, harness.note(n=7), delay=timedelta(hours=1))
    database.execute(
        "UPDATE fang.fang_tasks SET crashes = 2, group_limit = 1, scheduled_at = now() WHERE id = %s", task.id
    )
    eventually(lambda: pool._lifetime.in_flight.has_lone_suspect)
    with database.connection.transaction():
        database.execute("UPDATE fang.fang_tasks SET state = 'retried', pool_id = NULL, task_type = 'elsewhere'")
        database.execute("DELETE FROM fang.fang_pools")
    told.reborn.get(timeout=PATIENT)
    assert told.lost.get(timeout=PATIENT).id == task.id
    GATE.set()
    harness.call(queue.insert_task, harness.note(n=1))
    assert ran() == [1]
    assert RAN.empty()


def test_a_late_answer_about_a_former_id_is_not_taken_for_news(harness: Harness, url: str) -> None:
    queue = harness.queue(url)
    told = Told()
    pool = harness.pool(queue, poll=SOON, lease=LEASE, events=[told])
    former = pool.id
    pool._lifetime.declared_dead(former)
    assert told.reborn.get(timeout=PATIENT) == (former, pool.id)
    pool._lifetime.declared_dead(former)
    harness.call(queue.insert_task, harness.note(n=1))
    assert ran() == [1]
    assert told.reborn.empty()


def test_a_rebirth_that_fails_is_tried_again_and_told_once(
    harness: Harness, url: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Told()
    queue = harness.queue(url)
    pool = harness.pool(queue, poll=SOON, lease=LEASE, events=[told])
    former = pool.id
    tries: list[Any] = []

    def fail(record: Any) -> None:
        tries.append(record)
        if len(tries) < 3:
            raise BackendUnavailable("not yet")

    harness.wrap(monkeypatch, pool._lifetime.store, "register", before=fail)
    database.execute("DELETE FROM fang.fang_pools")
    assert told.reborn.get(timeout=PATIENT) == (former, pool.id)
    assert len(tries) == 3
    harness.call(queue.insert_task, harness.note(n=1))
    assert ran() == [1]
    assert told.reborn.empty()


def test_a_dead_pool_that_learns_a_kind_does_not_come_back_under_its_id(
    harness: Harness, url: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Told()
    queue = harness.queue(url)
    pool = harness.pool(queue, poll=SOON, lease=LEASE, events=[told])
    former = pool.id

    def bury(pool_id: UUID, kinds: Any, isolated_kinds: Any) -> None:
        assert "tests.Learnt" in kinds
        database.execute("DELETE FROM fang.fang_pools WHERE id = %s", former)

    harness.wrap(monkeypatch, pool._lifetime.store, "update_kinds", before=bury)

    class Learnt(harness.note):  # type: ignore[name-defined,misc]
        task_config = TaskConfig(kind="tests.Learnt")

    harness.call(queue.insert_task, Learnt(n=4))
    assert ran() == [4]
    assert told.reborn.get_nowait() == (former, pool.id)
    assert [row[0] for row in pools(database)] == [pool.id]


def test_a_claim_that_nobody_saw_when_its_pool_was_declared_dead_is_given_back_uncharged(
    harness: Harness, url: str, database: Database
) -> None:
    """It was committed between the rescue of what the pool held and the end of its record."""
    queue = harness.queue(url)
    pool = harness.pool(queue, poll=SOON, lease=LEASE, retention_mode=RetentionMode.KEEP_ALL)
    former = pool.id
    task = harness.call(queue.insert_task, harness.note(n=1), delay=timedelta(hours=1))
    with database.connection.transaction():
        database.execute(
            "UPDATE fang.fang_tasks SET state = 'in_progress', attempt = 1, scheduled_at = now(), pool_id = %s"
            " WHERE id = %s",
            former,
            task.id,
        )
        database.execute("DELETE FROM fang.fang_pools")
    assert ran() == [1]
    eventually(lambda: tasks(database) == [("finished", 2, 0, 0)])
    assert pool.id != former


# A heart without answers ----------------------------------------------------------------------------------------------


def test_a_lease_is_doubtful_while_the_heart_gets_no_answer_and_held_again_after(
    harness: Harness, proxy: Proxy, url: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fang_postgres.pool.heart, "ANSWER_WITHIN", LEASE.total_seconds() + 0.5)
    queue = harness.queue(proxy.url)
    pool = harness.pool(queue, poll=SOON, lease=LEASE, number_of_workers=2)
    harness.call(queue.insert_task, stubborn(harness))
    run = RUNS.get(timeout=PATIENT)
    eventually(lambda: pools(database)[0][1] > 1)
    assert proxy.set_where(Mode.BLACKHOLE, rb"pg_try_advisory_lock") == 1
    eventually(lambda: run.lease is Lease.DOUBTFUL)
    harness.call(queue.insert_task, harness.note(n=1))
    with pytest.raises(Empty):
        RAN.get(timeout=0.5)  # it claims nothing now
    assert [state for state, *_ in tasks(database)] == ["in_progress", "new"]
    eventually(lambda: run.lease is Lease.HELD)  # on a new connection, since the old one does not answer
    assert ran() == [1]
    GATE.set()
    eventually(lambda: tasks(database) == [])
    assert pool.id == pools(database)[0][0]


# Runs that outlive stop() ---------------------------------------------------------------------------------------------


def test_a_run_that_outlives_the_stop_stays_held_until_it_ends(harness: Harness, url: str, database: Database) -> None:
    queue = harness.queue(url)
    pool = harness.pool(queue, poll=SOON, lease=LEASE, grace_period=timedelta(seconds=0))
    harness.call(queue.insert_task, stubborn(harness))
    harness.call(queue.insert_task, harness.note(n=1))
    RUNS.get(timeout=PATIENT)
    assert harness.stop(pool) == 1
    ((pool_id, beats, _),) = pools(database)
    assert pool_id == pool.id
    with pytest.raises(UsageError, match="have not ended"):
        harness.call(pool.start)
    eventually(lambda: pools(database)[0][1] > beats + 1)  # it beats on
    assert pools(database)[0][2]
    assert [state for state, *_ in tasks(database)] == ["in_progress", "new"]

    GATE.set()
    eventually(lambda: pools(database) == [])
    assert tasks(database) == [("new", 0, 0, 0)]  # the other one, which never was begun
    eventually(lambda: not [thread for thread in threading.enumerate() if thread.name.startswith("fang-")])
    harness.call(queue.close)
    eventually(lambda: connections(database) == 0)


def test_a_pool_says_that_it_is_stopping_while_it_waits_for_its_runs(
    harness: Harness, url: str, database: Database
) -> None:
    queue = harness.queue(url)
    pool = harness.pool(queue, poll=SOON, lease=LEASE)
    harness.call(queue.insert_task, harness.note(n=1, waits=True))
    assert ran() == [1]
    assert pools(database)[0][2] is False
    stopping = harness.begin(pool.stop)
    eventually(lambda: pools(database)[0][2], within=0.9)  # at once, not at the next second
    GATES["gate"].set()
    assert stopping.result(PATIENT) == 0
    assert (pools(database), tasks(database)) == ([], [])


def test_a_stopped_pool_starts_again_under_another_id(harness: Harness, url: str, database: Database) -> None:
    queue = harness.queue(url)
    pool = harness.pool(queue, poll=SOON, lease=LEASE, grace_period=timedelta(seconds=0))
    former = pool.id
    harness.call(queue.insert_task, stubborn(harness))
    RUNS.get(timeout=PATIENT)
    assert harness.stop(pool) == 1
    GATE.set()
    eventually(lambda: starts(harness, pool))
    harness.call(queue.insert_task, harness.note(n=1))
    assert ran() == [1]
    assert pool.id != former
    harness.call(pool.stop)


@pytest.mark.both_modes
def test_a_stop_that_nobody_waits_for_any_more_goes_on(
    harness: Harness, url: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = harness.queue(url)
    pool = harness.pool(queue, poll=SOON, lease=LEASE)
    harness.call(queue.insert_task, harness.note(n=1, waits=True))
    assert ran() == [1]
    workers = pool._lifetime.workers
    stop = workers.stop
    interruptions: list[BaseException] = [asyncio.CancelledError() if harness.mode == "async" else KeyboardInterrupt()]

    async def stops(deadline: float) -> Any:
        if interruptions:
            raise interruptions.pop()
        return await stop(deadline)

    monkeypatch.setattr(workers, "stop", stops)
    with pytest.raises((KeyboardInterrupt, CancelledError)):
        harness.call(pool.stop)
    assert not starts(harness, pool)  # it has not ended yet
    eventually(lambda: pools(database)[0][2])

    GATES["gate"].set()
    eventually(lambda: pools(database) == [])
    assert tasks(database) == []
    eventually(lambda: starts(harness, pool))


@pytest.mark.both_modes
def test_a_pool_that_is_interrupted_while_it_signs_off_leaves_no_heart_behind(
    harness: Harness, url: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = harness.queue(url)
    pool = harness.pool(queue, poll=SOON, lease=LEASE)

    reconcile = pool._lifetime.store.reconcile
    interruptions = iter([asyncio.CancelledError if harness.mode == "async" else KeyboardInterrupt])

    async def interrupted(*args: Any) -> Any:
        for interruption in interruptions:
            raise interruption
        return await reconcile(*args)

    monkeypatch.setattr(pool._lifetime.store, "reconcile", interrupted)
    with pytest.raises((KeyboardInterrupt, CancelledError)):
        harness.stop(pool)
    eventually(lambda: not [thread for thread in threading.enumerate() if thread.name.startswith("fang-")])
    harness.call(queue.close)
    eventually(lambda: connections(database) == 0)


@pytest.mark.both_modes
def test_runs_of_a_pool_that_stops_hear_that_it_was_declared_dead(
    harness: Harness, url: str, database: Database
) -> None:
    queue = harness.queue(url)
    pool = harness.pool(queue, poll=SOON, lease=LEASE)
    harness.call(queue.insert_task, stubborn(harness))
    run = RUNS.get(timeout=PATIENT)
    stopping = harness.begin(pool.stop)
    eventually(lambda: pools(database)[0][2])
    assert run.lease is Lease.HELD
    database.execute("DELETE FROM fang.fang_pools")
    eventually(lambda: run.lease is Lease.LOST)
    if harness.mode == "async":
        assert CANCELLED.wait(PATIENT)
    GATE.set()
    assert stopping.result(PATIENT) == 0


# The end of a process -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ends_in_time", [True, False])
def test_a_last_call_ends_the_process_unless_the_pool_has_stopped_by_then(
    harness: Harness, url: str, ends_in_time: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fang_core.pool.base.EXIT_LATE", 3600 if ends_in_time else 0.1)
    codes: SimpleQueue[int] = SimpleQueue()
    monkeypatch.setattr("os._exit", codes.put)
    queue = harness.queue(url)
    pool = harness.pool(queue, poll=SOON, lease=LEASE, grace_period=timedelta(seconds=0.1))
    harness.call(queue.insert_task, stubborn(harness))
    RUNS.get(timeout=PATIENT)
    pool.begin_last_call()
    if not ends_in_time:
        assert codes.get(timeout=PATIENT) == 75
    GATE.set()
    assert harness.stop(pool) == 0
    eventually(lambda: not [thread for thread in threading.enumerate() if thread.name.startswith("fang-")])
    assert codes.empty()


def test_a_queue_that_closes_under_a_pool_serves_it_until_it_stops(
    harness: Harness, url: str, database: Database
) -> None:
    queue = harness.queue(url)
    harness.call(queue.open)
    pool = harness.pool(queue, poll=SOON, lease=LEASE)
    harness.call(queue.close)
    harness.call(harness.queue(url).insert_task, harness.note(n=1))
    assert ran() == [1]
    assert queue.is_open
    eventually(lambda: tasks(database) == [])
    assert harness.stop(pool) == 0
    assert not queue.is_open
    assert pools(database) == []


# Rescue ---------------------------------------------------------------------------------------------------------------


def hold_still(harness: Harness, queue: Any, database: Database, task: Any, **columns: Any) -> None:
    """The task is held by a pool that does not beat, with these columns in its record."""
    given = {"mode": "threaded", "host": "h", "pid": 1, "task_types": [], "kinds": [], "workers": 1} | columns
    task = harness.call(queue.insert_task, task, delay=timedelta(hours=1))
    database.execute(
        f"WITH pool AS (INSERT INTO fang.fang_pools (id, {', '.join(given)})"
        f" VALUES (gen_random_uuid(){', %s' * len(given)}) RETURNING id)"
        " UPDATE fang.fang_tasks SET state = 'in_progress', attempt = 1, scheduled_at = now(), claimed_at = now(),"
        " pool_id = pool.id FROM pool WHERE fang_tasks.id = %s",
        *given.values(),
        task.id,
    )


def test_a_pool_that_stands_still_is_rescued_after_its_lease(harness: Harness, url: str, database: Database) -> None:
    queue = harness.queue(url)
    harness.pool(queue, poll=SOON)
    hold_still(harness, queue, database, harness.note(n=1), lease=LEASE, beats=7)
    assert ran() == [1]
    eventually(lambda: len(pools(database)) == 1)


def test_a_pool_of_a_long_lease_may_stand_still_for_longer_than_others(
    harness: Harness, url: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C code holds the GIL in it, as far as others can see."""
    queue, told = harness.queue(url), Told()
    pool = harness.pool(queue, poll=SOON, lease=timedelta(hours=1), events=[told])
    harness.call(queue.insert_task, stubborn(harness))
    run = RUNS.get(timeout=PATIENT)
    stopped = threading.Event()

    def stop(*_: Any) -> None:
        stopped.set()
        GATE.wait()

    harness.wrap(monkeypatch, pool._lifetime._heartbeat._heart, "beat", before=stop)
    assert stopped.wait(PATIENT)
    try:
        harness.pool(harness.queue(url), poll=SOON, lease=LEASE)
        hold_still(
            harness, queue, database, harness.note(n=1), lease=LEASE
        )  # who is dead no sooner than the other would be
        assert ran() == [1]
        assert sorted(tasks(database))[0] == ("in_progress", 1, 0, 0)
        assert run.lease is Lease.HELD
    finally:
        GATE.set()
    eventually(lambda: tasks(database) == [])
    assert (told.reborn.empty(), told.lost.empty()) == (True, True)


def test_a_task_is_parked_by_the_max_crashes_of_its_own_pool(harness: Harness, url: str, database: Database) -> None:
    queue = harness.queue(url)
    harness.pool(queue, poll=SOON, max_crashes=1)
    hold_still(harness, queue, database, harness.note(n=1), lease=LEASE, max_crashes=2)
    assert ran() == [1]


def test_a_pool_says_by_what_it_is_to_be_judged_also_when_it_is_reborn(
    harness: Harness, url: str, database: Database
) -> None:
    told = Told()
    lease = timedelta(minutes=10, milliseconds=1)
    pool = harness.pool(harness.queue(url), poll=SOON, lease=lease, max_crashes=7, events=[told])
    said = "SELECT id, lease, max_crashes FROM fang.fang_pools"
    assert database.rows(said) == [(pool.id, lease, 7)]
    database.execute("DELETE FROM fang.fang_pools")
    told.reborn.get(timeout=PATIENT)
    assert database.rows(said) == [(pool.id, lease, 7)]
