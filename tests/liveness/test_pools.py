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

import fang_async.heart
import fang_async.pool
import fang_threaded.heart
import fang_threaded.pool
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
from fang_core.run import Run
from tests.modes import GATES, RAN, Database, Side, eventually, ran
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


def stubborn(side: Side) -> Any:
    return ThreadedStubborn() if side.mode == "threaded" else AsyncStubborn()


def starts(side: Side, pool: Any) -> bool:
    """Whether the pool let itself be started."""
    try:
        side.call(pool.start)
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
    side: Side, url: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = side.queue(url)
    pool = side.pool(queue, poll=SOON, lease=LEASE, retention_mode=RetentionMode.KEEP_ALL)
    lost: list[Any] = []

    def lose(claim: Any) -> None:
        if claim.tasks and not lost:
            lost.extend(claim.tasks)
            raise BackendUnavailable("the reply was lost")

    eventually(lambda: database.waiting == [True])  # so its first claim is over
    side.wrap(monkeypatch, pool._shift.store, "claim", after=lose)
    former = pool.id
    side.call(queue.insert_task, side.note(n=1))
    assert ran(within=2) == [1]
    eventually(lambda: tasks(database)[0][0] == "finished")
    assert tasks(database) == [("finished", 2, 0, 0)]
    assert (len(lost), pool.id) == (1, former)
    assert RAN.empty()


# A pool that was declared dead ----------------------------------------------------------------------------------------


def test_a_pool_that_was_declared_dead_loses_its_runs_and_goes_on(side: Side, url: str, database: Database) -> None:
    told = Told()
    queue = side.queue(url)
    pool = side.pool(queue, poll=SOON, lease=LEASE, number_of_workers=2, events=[told])
    side.call(queue.insert_task, stubborn(side))
    run = RUNS.get(timeout=5)
    assert run.lease is Lease.HELD
    former = pool.id

    # As another's rescue would, but that the task waits for somebody else; so its outcome would be seen.
    with database.connection.transaction():
        database.execute("UPDATE fang.fang_tasks SET state = 'retried', pool_id = NULL, task_type = 'elsewhere'")
        database.execute("DELETE FROM fang.fang_pools")
    assert told.reborn.get(timeout=5) == (former, pool.id)
    assert former != pool.id
    assert run.lease is Lease.LOST
    if side.mode == "async":
        assert CANCELLED.wait(5)

    side.call(queue.insert_task, side.note(n=1))
    assert ran() == [1]  # by the second worker, under the new id
    eventually(lambda: len(tasks(database)) == 1)
    eventually(lambda: [row[0] for row in pools(database)] == [pool.id] and pools(database)[0][1] > 0)
    GATE.set()
    assert told.lost.get(timeout=5).id == run.task.id
    assert tasks(database) == [("retried", 1, 0, 0)]
    assert told.reborn.empty()


def test_what_was_not_started_is_not_begun_once_the_pool_was_declared_dead(
    side: Side, url: str, database: Database
) -> None:
    """A suspect above all: it waits for another run to end, and would then run beside whoever has it now."""
    told = Told()
    queue = side.queue(url)
    pool = side.pool(queue, poll=SOON, lease=LEASE, number_of_workers=2, events=[told])
    side.call(queue.insert_task, stubborn(side))
    RUNS.get(timeout=5)
    task = side.call(queue.insert_task, side.note(n=7), delay=timedelta(hours=1))
    database.execute("UPDATE fang.fang_tasks SET crashes = 2, scheduled_at = now() WHERE id = %s", task.id)
    eventually(lambda: pool._shift.holdings.has_suspect)
    with database.connection.transaction():
        database.execute("UPDATE fang.fang_tasks SET state = 'retried', pool_id = NULL, task_type = 'elsewhere'")
        database.execute("DELETE FROM fang.fang_pools")
    told.reborn.get(timeout=5)
    assert told.lost.get(timeout=5).id == task.id
    GATE.set()
    side.call(queue.insert_task, side.note(n=1))
    assert ran() == [1]
    assert RAN.empty()


def test_a_late_answer_about_a_former_id_is_not_taken_for_news(side: Side, url: str) -> None:
    queue = side.queue(url)
    told = Told()
    pool = side.pool(queue, poll=SOON, lease=LEASE, events=[told])
    former = pool.id
    pool._shift._declared_dead(former)
    assert told.reborn.get(timeout=5) == (former, pool.id)
    pool._shift._declared_dead(former)
    side.call(queue.insert_task, side.note(n=1))
    assert ran() == [1]
    assert told.reborn.empty()


def test_a_rebirth_that_fails_is_tried_again_and_told_once(
    side: Side, url: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Told()
    queue = side.queue(url)
    pool = side.pool(queue, poll=SOON, lease=LEASE, events=[told])
    former = pool.id
    tries: list[Any] = []

    def fail(record: Any) -> None:
        tries.append(record)
        if len(tries) < 3:
            raise BackendUnavailable("not yet")

    side.wrap(monkeypatch, pool._shift.store, "register", before=fail)
    database.execute("DELETE FROM fang.fang_pools")
    assert told.reborn.get(timeout=5) == (former, pool.id)
    assert len(tries) == 3
    side.call(queue.insert_task, side.note(n=1))
    assert ran() == [1]
    assert told.reborn.empty()


def test_a_dead_pool_that_learns_a_kind_does_not_come_back_under_its_id(
    side: Side, url: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Told()
    queue = side.queue(url)
    pool = side.pool(queue, poll=SOON, lease=LEASE, events=[told])
    former = pool.id

    def bury(pool_id: UUID, kinds: Any) -> None:
        assert "tests.Learnt" in kinds
        database.execute("DELETE FROM fang.fang_pools WHERE id = %s", pool_id)

    side.wrap(monkeypatch, pool._shift.store, "learn", before=bury)

    class Learnt(side.note):  # type: ignore[name-defined,misc]
        task_config = TaskConfig(kind="tests.Learnt")

    side.call(queue.insert_task, Learnt(n=4))
    assert ran() == [4]
    assert told.reborn.get_nowait() == (former, pool.id)
    assert [row[0] for row in pools(database)] == [pool.id]


def test_a_claim_that_nobody_saw_when_its_pool_was_declared_dead_is_given_back_uncharged(
    side: Side, url: str, database: Database
) -> None:
    """It was committed between the rescue of what the pool held and the end of its record."""
    queue = side.queue(url)
    pool = side.pool(queue, poll=SOON, lease=LEASE, retention_mode=RetentionMode.KEEP_ALL)
    former = pool.id
    task = side.call(queue.insert_task, side.note(n=1), delay=timedelta(hours=1))
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
    side: Side, proxy: Proxy, url: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (fang_threaded.heart, fang_async.heart):
        monkeypatch.setattr(module, "ANSWER_WITHIN", LEASE.total_seconds() + 0.5)
    queue = side.queue(proxy.url)
    pool = side.pool(queue, poll=SOON, lease=LEASE, number_of_workers=2)
    side.call(queue.insert_task, stubborn(side))
    run = RUNS.get(timeout=5)
    eventually(lambda: pools(database)[0][1] > 1)
    assert proxy.set_where(Mode.BLACKHOLE, rb"pg_try_advisory_lock") == 1
    eventually(lambda: run.lease is Lease.DOUBTFUL)
    side.call(queue.insert_task, side.note(n=1))
    with pytest.raises(Empty):
        RAN.get(timeout=0.5)  # it claims nothing now
    assert [state for state, *_ in tasks(database)] == ["in_progress", "new"]
    eventually(lambda: run.lease is Lease.HELD, within=10)  # on a new connection, since the old one does not answer
    assert ran() == [1]
    GATE.set()
    eventually(lambda: tasks(database) == [])
    assert pool.id == pools(database)[0][0]


# Runs that outlive stop() ---------------------------------------------------------------------------------------------


def test_a_run_that_outlives_the_stop_stays_held_until_it_ends(side: Side, url: str, database: Database) -> None:
    queue = side.queue(url)
    pool = side.pool(queue, poll=SOON, lease=LEASE, grace_period=timedelta(seconds=0))
    side.call(queue.insert_task, stubborn(side))
    side.call(queue.insert_task, side.note(n=1))
    RUNS.get(timeout=5)
    assert side.stop(pool) == 1
    ((pool_id, beats, _),) = pools(database)
    assert pool_id == pool.id
    with pytest.raises(UsageError, match="have not ended"):
        side.call(pool.start)
    eventually(lambda: pools(database)[0][1] > beats + 1)  # it beats on
    assert pools(database)[0][2]
    assert [state for state, *_ in tasks(database)] == ["in_progress", "new"]

    GATE.set()
    eventually(lambda: pools(database) == [])
    assert tasks(database) == [("new", 0, 0, 0)]  # the other one, which never was begun
    eventually(lambda: not [thread for thread in threading.enumerate() if thread.name.startswith("fang-")])
    side.call(queue.close)
    eventually(lambda: connections(database) == 0)


def test_a_pool_says_that_it_is_stopping_while_it_waits_for_its_runs(side: Side, url: str, database: Database) -> None:
    queue = side.queue(url)
    pool = side.pool(queue, poll=SOON, lease=LEASE)
    side.call(queue.insert_task, side.note(n=1, waits=True))
    assert ran() == [1]
    assert pools(database)[0][2] is False
    stopping = side.begin(pool.stop)
    eventually(lambda: pools(database)[0][2], within=0.9)  # at once, not at the next second
    GATES["gate"].set()
    assert stopping.result(5) == 0
    assert (pools(database), tasks(database)) == ([], [])


def test_a_stopped_pool_starts_again_under_another_id(side: Side, url: str, database: Database) -> None:
    queue = side.queue(url)
    pool = side.pool(queue, poll=SOON, lease=LEASE, grace_period=timedelta(seconds=0))
    former = pool.id
    side.call(queue.insert_task, stubborn(side))
    RUNS.get(timeout=5)
    assert side.stop(pool) == 1
    GATE.set()
    eventually(lambda: starts(side, pool))
    side.call(queue.insert_task, side.note(n=1))
    assert ran() == [1]
    assert pool.id != former
    side.call(pool.stop)


def test_a_stop_that_nobody_waits_for_any_more_goes_on(
    side: Side, url: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = side.queue(url)
    pool = side.pool(queue, poll=SOON, lease=LEASE)
    side.call(queue.insert_task, side.note(n=1, waits=True))
    assert ran() == [1]
    crew = pool._shift.crew
    dismiss = crew.dismiss
    interruptions: list[BaseException] = [asyncio.CancelledError() if side.mode == "async" else KeyboardInterrupt()]

    def dismisses(deadline: float) -> Any:
        if interruptions:
            raise interruptions.pop()
        return dismiss(deadline)

    monkeypatch.setattr(crew, "dismiss", dismisses)
    with pytest.raises((KeyboardInterrupt, CancelledError)):
        side.call(pool.stop)
    assert not starts(side, pool)  # it has not ended yet
    eventually(lambda: pools(database)[0][2])

    GATES["gate"].set()
    eventually(lambda: pools(database) == [])
    assert tasks(database) == []
    eventually(lambda: starts(side, pool))


def test_a_pool_that_is_interrupted_while_it_signs_off_leaves_no_heart_behind(
    side: Side, url: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = side.queue(url)
    pool = side.pool(queue, poll=SOON, lease=LEASE)

    def interrupted(*_: Any) -> Any:
        raise asyncio.CancelledError if side.mode == "async" else KeyboardInterrupt

    monkeypatch.setattr(pool._shift.store, "reconcile", interrupted)
    with pytest.raises((KeyboardInterrupt, CancelledError)):
        side.stop(pool)
    eventually(lambda: not [thread for thread in threading.enumerate() if thread.name.startswith("fang-")])
    side.call(queue.close)
    eventually(lambda: connections(database) == 0)


def test_runs_of_a_pool_that_stops_hear_that_it_was_declared_dead(side: Side, url: str, database: Database) -> None:
    queue = side.queue(url)
    pool = side.pool(queue, poll=SOON, lease=LEASE)
    side.call(queue.insert_task, stubborn(side))
    run = RUNS.get(timeout=5)
    stopping = side.begin(pool.stop)
    eventually(lambda: pools(database)[0][2])
    assert run.lease is Lease.HELD
    database.execute("DELETE FROM fang.fang_pools")
    eventually(lambda: run.lease is Lease.LOST)
    if side.mode == "async":
        assert CANCELLED.wait(5)
    GATE.set()
    assert stopping.result(10) == 0


# The end of a process -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ends_in_time", [True, False])
def test_a_last_call_ends_the_process_unless_the_pool_has_stopped_by_then(
    side: Side, url: str, ends_in_time: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (fang_threaded.pool, fang_async.pool):
        monkeypatch.setattr(module, "LAST_CALL", 3600 if ends_in_time else 0.1)
    codes: SimpleQueue[int] = SimpleQueue()
    monkeypatch.setattr("os._exit", codes.put)
    queue = side.queue(url)
    pool = side.pool(queue, poll=SOON, lease=LEASE, grace_period=timedelta(seconds=0.1))
    side.call(queue.insert_task, stubborn(side))
    RUNS.get(timeout=5)
    pool.begin_last_call()
    if not ends_in_time:
        assert codes.get(timeout=5) == 75
    GATE.set()
    assert side.stop(pool) == 0
    eventually(lambda: not [thread for thread in threading.enumerate() if thread.name.startswith("fang-")])
    assert codes.empty()


def test_a_queue_that_closes_under_a_pool_serves_it_until_it_stops(side: Side, url: str, database: Database) -> None:
    queue = side.queue(url)
    side.call(queue.open)
    pool = side.pool(queue, poll=SOON, lease=LEASE)
    side.call(queue.close)
    side.call(side.queue(url).insert_task, side.note(n=1))
    assert ran() == [1]
    assert queue.is_open
    eventually(lambda: tasks(database) == [])
    assert side.stop(pool) == 0
    assert not queue.is_open
    assert pools(database) == []


# Rescue ---------------------------------------------------------------------------------------------------------------


def hold_still(side: Side, queue: Any, database: Database, task: Any, **columns: Any) -> None:
    """The task is held by a pool that does not beat, with these columns in its record."""
    given = {"mode": "threaded", "host": "h", "pid": 1, "task_types": [], "kinds": [], "workers": 1} | columns
    task = side.call(queue.insert_task, task, delay=timedelta(hours=1))
    database.execute(
        f"WITH pool AS (INSERT INTO fang.fang_pools (id, {', '.join(given)})"
        f" VALUES (gen_random_uuid(){', %s' * len(given)}) RETURNING id)"
        " UPDATE fang.fang_tasks SET state = 'in_progress', attempt = 1, scheduled_at = now(), claimed_at = now(),"
        " pool_id = pool.id FROM pool WHERE fang_tasks.id = %s",
        *given.values(),
        task.id,
    )


def test_a_pool_that_stands_still_is_rescued_after_its_lease(side: Side, url: str, database: Database) -> None:
    queue = side.queue(url)
    side.pool(queue, poll=SOON)
    hold_still(side, queue, database, side.note(n=1), lease=LEASE, beats=7)
    assert ran(within=6) == [1]
    eventually(lambda: len(pools(database)) == 1)


def test_a_pool_of_a_long_lease_may_stand_still_for_longer_than_others(
    side: Side, url: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C code holds the GIL in it, as far as others can see."""
    queue, told = side.queue(url), Told()
    pool = side.pool(queue, poll=SOON, lease=timedelta(hours=1), events=[told])
    side.call(queue.insert_task, stubborn(side))
    run = RUNS.get(timeout=5)
    stopped = threading.Event()

    def stop(*_: Any) -> None:
        stopped.set()
        GATE.wait()

    side.wrap(monkeypatch, pool._shift._heartbeat._heart, "beat", before=stop)
    assert stopped.wait(5)
    try:
        side.pool(side.queue(url), poll=SOON, lease=LEASE)
        hold_still(side, queue, database, side.note(n=1), lease=LEASE)  # who is dead no sooner than the other would be
        assert ran(within=10) == [1]
        assert sorted(tasks(database))[0] == ("in_progress", 1, 0, 0)
        assert run.lease is Lease.HELD
    finally:
        GATE.set()
    eventually(lambda: tasks(database) == [])
    assert (told.reborn.empty(), told.lost.empty()) == (True, True)


def test_a_task_is_parked_by_the_max_crashes_of_its_own_pool(side: Side, url: str, database: Database) -> None:
    queue = side.queue(url)
    side.pool(queue, poll=SOON, max_crashes=1)
    hold_still(side, queue, database, side.note(n=1), lease=LEASE, max_crashes=2)
    assert ran(within=6) == [1]


def test_a_pool_says_by_what_it_is_to_be_judged_also_when_it_is_reborn(
    side: Side, url: str, database: Database
) -> None:
    told = Told()
    lease = timedelta(minutes=10, milliseconds=1)
    pool = side.pool(side.queue(url), poll=SOON, lease=lease, max_crashes=7, events=[told])
    said = "SELECT id, lease, max_crashes FROM fang.fang_pools"
    assert database.rows(said) == [(pool.id, lease, 7)]
    database.execute("DELETE FROM fang.fang_pools")
    told.reborn.get(timeout=5)
    assert database.rows(said) == [(pool.id, lease, 7)]
