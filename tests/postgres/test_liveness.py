"""Beats and their locks; rescue: whom it confirms, what becomes of the tasks, and what happens at the same time."""

import json
import random
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from fang_async import AsyncQueue
from fang_core import Runnable, Stop, TaskFilter
from fang_core.backends.claims import ClaimRequest
from fang_core.backends.pools import PoolRecord, PruneRequest
from fang_core.crashes import SUSPECT_AFTER
from fang_core.driving import drive
from fang_core.errors import BackendError, BackendUnavailable
from fang_core.lifecycle import Outcome
from fang_core.liveness import DECLARED_DEAD, BeatRequest, Pulse, lock_key
from fang_core.record import ClaimedTask, TaskState
from fang_postgres.pool.heart import PostgresHeart
from fang_threaded import Queue
from fang_threaded.database import PsycopgDatabase
from tests.driven import Driven
from tests.modes import Database, eventually
from tests.patience import PATIENT
from tests.postgres.blocking import await_waiting, wait_for_rows, while_changed

DEAD, OTHER, WATCHER = (uuid.UUID(int=(n << 64) + 7) for n in (5, 1 << 63, 9))  # one key is negative as a bigint
MAX_CRASHES = 3  # of those who find orphans
LEASE = timedelta(seconds=90)

OURS = """SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"""
TASKS = """SELECT state::text, crashes, retries, pool_id IS NULL AND claimed_at IS NULL,
    round(extract(epoch FROM scheduled_at - updated_at)), error_message FROM fang.fang_tasks ORDER BY id"""


class Crashing(Runnable):
    n: int = 0

    def run(self, queue: Any) -> None: ...


class Scene:
    """A database with three pools, and whatever hearts are asked for, each on a connection of its own."""

    def __init__(self, url: str) -> None:
        self.database = Database(url)
        self.queue = Queue(url)
        self.store = Driven(self.queue.store())
        self._hearts: list[PostgresHeart] = []
        for pool_id in (DEAD, OTHER, WATCHER):
            self.register(pool_id)

    def register(self, pool_id: uuid.UUID, max_crashes: int = 3) -> None:
        self.store.register(
            PoolRecord(pool_id, "threaded", "host", 1, ("common",), ("Crashing",), 1, LEASE, max_crashes)
        )

    def heart(self, locks: bool = True) -> PostgresHeart:
        self._hearts.append(self.store.heart(locks))
        return self._hearts[-1]

    def hold(self, crashes: list[int], pool_id: uuid.UUID = DEAD) -> list[ClaimedTask]:
        """Tasks that the pool has claimed, which have crashed so often before; in this order."""
        ids = [task.id for task in self.queue.insert_tasks([Crashing(n=n) for n in range(len(crashes))])]
        sql = "UPDATE fang.fang_tasks SET crashes = (%s::int[])[array_position(%s, id)] WHERE id = ANY(%s)"
        self.database.execute(sql, crashes, ids, ids)
        return sorted(self.claim(pool_id), key=lambda task: ids.index(task.id))

    def claim(self, pool_id: uuid.UUID = DEAD) -> list[ClaimedTask]:
        return self.store.claim(ClaimRequest(pool_id, ("common",), ("Crashing",), 1_000)).tasks

    def pools(self) -> set[uuid.UUID]:
        return {pool_id for (pool_id,) in self.database.rows("SELECT id FROM fang.fang_pools")}

    def close(self) -> None:
        for heart in self._hearts:
            heart.close()
        self.store.close()
        self.queue.close()
        self.database.close()


@pytest.fixture
def scene(url: str) -> Iterator[Scene]:
    scene = Scene(url)
    yield scene
    scene.close()


def still(pool_id: uuid.UUID = DEAD, beats: int = 0) -> Pulse:
    return Pulse(pool_id, beats, True, False, LEASE.total_seconds())


# Beats ----------------------------------------------------------------------------------------------------------------


def test_a_beat_takes_the_lock_once_and_says_so(scene: Scene) -> None:
    heart = scene.heart()
    for count in (1, 2, 3):
        beat = heart.beat(BeatRequest(DEAD, False))
        assert beat.registered
        assert scene.database.rows(OURS) == [(1,)]
        row = "SELECT beats, locks, stopping FROM fang.fang_pools WHERE id = %s"
        assert scene.database.rows(row, DEAD) == [(count, True, False)]
    heart.beat(BeatRequest(DEAD, True))
    assert scene.database.rows("SELECT stopping FROM fang.fang_pools WHERE id = %s", DEAD) == [(True,)]
    scene.database.execute("SELECT pg_advisory_lock(%s)", lock_key(OTHER))  # the key is what it should be
    assert {pulse.pool_id for pulse in heart.beat(BeatRequest(DEAD, False)).pulses if pulse.is_locked} == {DEAD, OTHER}


@pytest.mark.parametrize("pool_id", [DEAD, OTHER])
def test_a_beat_sees_counters_and_locks_of_others(scene: Scene, pool_id: uuid.UUID) -> None:
    heart = scene.heart()
    heart.beat(BeatRequest(pool_id, False))
    watcher = scene.heart()
    pulses = {pulse.pool_id: pulse for pulse in watcher.beat(BeatRequest(WATCHER, False)).pulses}
    assert pulses.keys() == {DEAD, OTHER, WATCHER}
    assert pulses[pool_id] == Pulse(pool_id, 1, True, True, LEASE.total_seconds())

    heart.close()  # with the connection goes the lock, whatever the record says
    eventually(lambda: scene.database.rows(OURS) == [(1,)])
    assert still(pool_id, 1) in watcher.beat(BeatRequest(WATCHER, False)).pulses


def test_a_lock_that_a_former_connection_still_holds_is_taken_when_it_ends(scene: Scene) -> None:
    former, heart = scene.heart(), scene.heart()
    former.beat(BeatRequest(DEAD, False))
    heart.beat(BeatRequest(DEAD, False))
    locks = "SELECT locks FROM fang.fang_pools WHERE id = %s"
    assert scene.database.rows(locks, DEAD) == [(False,)]  # judged by the lease alone
    former.close()
    eventually(lambda: scene.database.rows(OURS) == [(0,)])
    heart.beat(BeatRequest(DEAD, False))
    assert scene.database.rows(locks, DEAD) == [(True,)]


def test_without_locks_none_is_taken(scene: Scene) -> None:
    scene.heart(False).beat(BeatRequest(DEAD, False))
    assert scene.database.rows(OURS) == [(0,)]
    assert scene.database.rows("SELECT beats, locks FROM fang.fang_pools WHERE id = %s", DEAD) == [(1, False)]


def test_a_beat_says_whether_it_continues_the_session_of_the_last(scene: Scene) -> None:
    heart = scene.heart()
    assert [heart.beat(BeatRequest(DEAD, False)).continues for _ in range(3)] == [False, True, True]
    scene.database.execute(f"SELECT pg_terminate_backend(pid, 5000) FROM ({OURS.replace('count(*)', 'pid')}) AS ours")
    with pytest.raises(BackendUnavailable):
        heart.beat(BeatRequest(DEAD, False))
    assert [heart.beat(BeatRequest(DEAD, False)).continues for _ in range(2)] == [False, True]
    pooled = scene.heart(locks=False)  # perhaps a pooler's
    assert [pooled.beat(BeatRequest(OTHER, False)).continues for _ in range(2)] == [False, False]


async def test_a_beat_says_whether_it_continues_the_session_of_the_last_with_asyncio(url: str, scene: Scene) -> None:
    store = await AsyncQueue(url).store()
    heart = store.heart(True)
    assert [(await heart.beat(BeatRequest(DEAD, False))).continues for _ in range(3)] == [False, True, True]
    scene.database.execute(f"SELECT pg_terminate_backend(pid, 5000) FROM ({OURS.replace('count(*)', 'pid')}) AS ours")
    with pytest.raises(BackendUnavailable):
        await heart.beat(BeatRequest(DEAD, False))
    assert [(await heart.beat(BeatRequest(DEAD, False))).continues for _ in range(2)] == [False, True]
    await heart.close()
    await store.close()


def test_a_lock_of_another_sort_or_database_is_nobodys(scene: Scene, server_url: str) -> None:
    key = lock_key(DEAD)
    with psycopg.connect(server_url) as elsewhere:
        elsewhere.execute("SELECT pg_advisory_lock(%s)", [key])
        scene.database.execute("SELECT pg_advisory_lock(%s::int, %s::int)", key >> 32, key & 0xFFFFFFFF)
        assert not [pulse for pulse in scene.heart(False).beat(BeatRequest(WATCHER, False)).pulses if pulse.is_locked]


def test_a_pool_without_a_record_is_told_so_and_takes_no_lock(scene: Scene) -> None:
    scene.database.execute("DELETE FROM fang.fang_pools")
    beat = scene.heart().beat(BeatRequest(DEAD, False))
    assert (beat.registered, beat.pulses) == (False, [])
    assert scene.database.rows(OURS) == [(0,)]


def test_a_beat_says_how_long_the_server_is_up(scene: Scene) -> None:
    ((up,),) = scene.database.rows("SELECT extract(epoch FROM clock_timestamp() - pg_postmaster_start_time())::float")
    assert up <= scene.heart().beat(BeatRequest(DEAD, False)).server_up <= up + 30


def test_a_heart_that_is_cut_off_begins_anew_and_has_its_lock_again(scene: Scene) -> None:
    heart = scene.heart()
    heart.beat(BeatRequest(DEAD, False))
    holder = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND classid = 0 AND objid = 5"
    scene.database.rows(f"SELECT pg_terminate_backend(pid) FROM ({holder}) held")
    with pytest.raises(BackendError):
        heart.beat(BeatRequest(DEAD, False))
    assert heart.beat(BeatRequest(DEAD, False)).registered
    assert scene.database.rows(OURS) == [(1,)]


def test_a_heart_needs_no_connection_of_the_applications(scene: Scene, url: str) -> None:
    with Queue(url, max_pool_size=1) as queue:
        store = Driven(queue.store())
        writes = drive(queue._connections.writes())
        assert isinstance(writes, PsycopgDatabase)
        taken = writes.connection_pool.take()  # the only one is in use
        heart = store.heart(True)
        assert heart.beat(BeatRequest(DEAD, False)).registered
        heart.close()
        writes.connection_pool.give_back(taken)
        store.close()


# What a pool is told --------------------------------------------------------------------------------------------------


def test_requests_to_cancel_come_until_they_are_answered(scene: Scene) -> None:
    first, second, third, other = scene.hold([0, 0, 0, 0])
    held = [(task.id, task.attempt) for task in (first, second, third)]
    sql = "UPDATE fang.fang_tasks SET cancel_request = %s WHERE id = %s"
    for task, request in ((first, {"reason": "a mistake", "by": "me", "at": "now"}), (second, {}), (other, {})):
        scene.database.execute(sql, json.dumps(request), task.id)
    heart = scene.heart()
    for _ in range(2):
        beat = heart.beat(BeatRequest(DEAD, held=held))
        assert not beat.lost
        assert sorted(beat.cancels) == sorted([(first.id, "a mistake", "me"), (second.id, "", "")])
    scene.database.execute(sql, None, first.id)
    assert [cancel.task_id for cancel in heart.beat(BeatRequest(DEAD, held=held)).cancels] == [second.id]
    assert heart.beat(BeatRequest(OTHER, held=held)).cancels == []  # another pool's


@pytest.mark.parametrize("value", ["9" * 5_000, "[" * 5_000 + "]" * 5_000], ids=["a long number", "a deep list"])
def test_no_json_of_a_row_stops_a_heart(scene: Scene, value: str) -> None:
    """Python refuses to read these, jsonb holds them."""
    send = "INSERT INTO fang.fang_messages (pool_id, kind, body) VALUES (%s, %s, %s)"
    scene.database.execute(send, DEAD, "resize", f'{{"workers": {value}}}')
    scene.database.execute(send, DEAD, "stop", value)
    assert [delivery.message for delivery in scene.heart().beat(BeatRequest(DEAD)).messages] == [None, Stop()]
    scene.database.execute("UPDATE fang.fang_pools SET runs = %s", f'{{"a": {value}}}')
    assert {info.id for info in scene.queue.pools()} == {DEAD, OTHER, WATCHER}


def test_of_many_messages_a_beat_brings_the_first(scene: Scene) -> None:
    send = "INSERT INTO fang.fang_messages (pool_id, kind) SELECT %s, 'stop' FROM generate_series(1, 250)"
    scene.database.execute(send, DEAD)
    heart, heard, handled = scene.heart(), list[int](), list[int]()
    while messages := heart.beat(BeatRequest(DEAD, handled=handled)).messages:
        handled = [message.id for message in messages]
        heard += handled
    assert heard == sorted(set(heard))
    assert len(heard) == 250
    assert scene.database.rows("SELECT count(*) FROM fang.fang_messages") == [(0,)]


def test_upkeep_removes_messages_to_pools_that_are_gone(scene: Scene) -> None:
    send = "INSERT INTO fang.fang_messages (pool_id, kind) VALUES (%s, 'stop')"
    for pool_id in (DEAD, uuid.UUID(int=77)):
        scene.database.execute(send, pool_id)
    scene.store.prune(PruneRequest(("common",), None, None, 10))
    assert scene.database.rows("SELECT pool_id FROM fang.fang_messages") == [(DEAD,)]


# What rescue makes of the tasks ---------------------------------------------------------------------------------------


def rescued(scene: Scene, *pulses: Pulse) -> set[tuple[str, int]]:
    """The states and crashes of what comes back; whether these were charged is told as it is."""
    before = dict(scene.database.rows("SELECT id, crashes FROM fang.fang_tasks"))
    back = scene.heart().rescue(list(pulses) or [still()])
    assert [task.charged for task in back] == [task.crashes > before[task.id] for task in back]
    return {(task.state, task.crashes) for task in back}


def test_the_first_crash_is_charged_and_restricts_nothing(scene: Scene) -> None:
    tasks = scene.hold([0, 0])
    assert rescued(scene) == {("retried", 1)}
    assert [row[:4] for row in scene.database.rows(TASKS)] == [("retried", 1, 0, True)] * 2
    assert scene.database.rows("SELECT scheduled_at <= now() FROM fang.fang_tasks") == [(True,), (True,)]
    assert {task.attempt for task in scene.claim(OTHER)} == {tasks[0].attempt + 1}
    assert scene.pools() == {OTHER, WATCHER}


def test_from_the_second_on_it_waits_if_it_was_alone(scene: Scene) -> None:
    scene.hold([1])
    assert rescued(scene) == {("retried", SUSPECT_AFTER)}
    assert scene.database.rows(TASKS)[0][:5] == ("retried", 2, 0, True, 4)
    assert scene.claim(OTHER) == []


@pytest.mark.parametrize("crashes", [[2, 0], [2, 1, 2]])
def test_a_suspect_beside_others_is_not_charged(scene: Scene, crashes: list[int]) -> None:
    scene.hold(crashes)
    assert rescued(scene) == {("retried", 2)} | {("retried", n + 1) for n in crashes if n < SUSPECT_AFTER}
    uncharged = scene.database.rows(
        "SELECT count(*) FROM fang.fang_tasks WHERE errors = '[]' AND scheduled_at <= now()"
    )
    assert uncharged == [(crashes.count(SUSPECT_AFTER),)]


def test_of_two_suspects_none_is_charged(scene: Scene) -> None:
    scene.hold([2, 2])
    assert rescued(scene) == {("retried", 2)}


def test_a_suspect_alone_fails_at_the_last_crash_with_the_reason(scene: Scene) -> None:
    (task,) = scene.hold([2])
    assert rescued(scene) == {("failed", 3)}
    ((state, crashes, retries, is_free, _, message),) = scene.database.rows(TASKS)
    assert (state, crashes, retries, is_free) == ("failed", 3, 0, True)
    assert message == "crashed: the process of its worker died under it, 3 of 3 times"
    ((errors,),) = scene.database.rows("SELECT errors::text FROM fang.fang_tasks")
    (entry,) = json.loads(errors)
    assert (entry["number"], entry["error"], entry["traceback"]) == (task.attempt, message, None)


def test_a_task_is_parked_by_the_max_crashes_of_the_pool_that_died(scene: Scene) -> None:
    for pool_id, max_crashes in ((DEAD, 5), (OTHER, 1)):
        scene.store.unregister(pool_id)
        scene.register(pool_id, max_crashes)
    scene.hold([2])
    scene.hold([0], pool_id=OTHER)
    assert rescued(scene, still(), still(OTHER)) == {("retried", 3), ("failed", 1)}
    assert [row[5].rpartition(", ")[2] for row in scene.database.rows(TASKS)] == ["3 of 5 times", "1 of 1 times"]


@pytest.mark.parametrize(("max_crashes", "state"), [(1, "failed"), (2, "retried")])
def test_an_orphan_is_parked_by_the_max_crashes_of_who_finds_it(scene: Scene, max_crashes: int, state: str) -> None:
    scene.hold([0])
    scene.store.unregister(DEAD)
    assert [(task.state, task.crashes) for task in scene.heart().rescue_orphans(max_crashes)] == [(state, 1)]


@pytest.mark.parametrize(("crashes", "state"), [(0, "new"), (1, "retried"), (2, "retried")])
def test_nothing_is_charged_to_a_pool_that_was_stopping(scene: Scene, crashes: int, state: str) -> None:
    scene.hold([crashes])
    scene.heart().beat(BeatRequest(DEAD, True))
    due = scene.database.rows("SELECT scheduled_at FROM fang.fang_tasks")
    assert rescued(scene, still(beats=1)) == {(state, crashes)}
    assert scene.database.rows("SELECT scheduled_at FROM fang.fang_tasks") == due
    assert scene.database.rows("SELECT error_message, errors::text FROM fang.fang_tasks") == [(None, "[]")]


@pytest.mark.parametrize("stopping", [False, True])
def test_a_rescue_tells_whether_the_pool_was_stopping(scene: Scene, stopping: bool) -> None:
    scene.hold([0])
    scene.heart().beat(BeatRequest(DEAD, stopping))
    assert [task.was_stopping for task in scene.heart().rescue([still(beats=1)])] == [stopping]


def test_others_tasks_and_ended_ones_are_left_alone(scene: Scene) -> None:
    scene.hold([0])
    (cancelled,) = scene.hold([0], pool_id=OTHER)
    scene.database.execute(
        "UPDATE fang.fang_tasks SET state = 'cancelled', pool_id = %s WHERE id = %s", DEAD, cancelled.id
    )
    scene.hold([0], pool_id=OTHER)
    assert len(scene.heart().rescue([still()])) == 1
    states = scene.database.rows("SELECT state::text FROM fang.fang_tasks ORDER BY 1")
    assert sorted(state for (state,) in states) == ["cancelled", "in_progress", "retried"]


def test_orphans_are_charged_and_nobody_elses_tasks(scene: Scene) -> None:
    scene.hold([0])
    scene.hold([0], pool_id=OTHER)
    assert scene.heart().rescue_orphans(MAX_CRASHES) == []
    scene.store.unregister(DEAD)
    assert [(task.state, task.crashes) for task in scene.heart().rescue_orphans(MAX_CRASHES)] == [("retried", 1)]
    assert scene.heart().rescue_orphans(MAX_CRASHES) == []


def test_a_kind_that_no_index_can_hold_is_rescued_and_found(scene: Scene) -> None:
    """Its rescue would fail, and with it that of all other tasks."""
    (task,) = scene.hold([0])
    kind = random.Random(0).randbytes(10_000).hex()
    scene.database.execute(
        "UPDATE fang.fang_tasks SET metadata = jsonb_set(metadata, '{type}', to_jsonb(%s::text))", kind
    )
    scene.store.unregister(DEAD)
    assert [each.state for each in scene.heart().rescue_orphans(1)] == ["failed"]
    of_kind = TaskFilter(kinds=[kind], states=[TaskState.FAILED])
    assert [each.id for each in scene.queue.list_tasks(of_kind).tasks] == [task.id]
    assert scene.queue.list_tasks(TaskFilter(kinds=[kind[:500]], states=[TaskState.FAILED])).tasks == ()
    assert scene.queue.retry_tasks(of_kind) == 1


def test_what_no_pool_holds_is_nobodys_to_rescue_and_a_persons_to_revive(scene: Scene) -> None:
    """A program in Rust claimed it, or a hand did: a run that may live is never taken away for its age."""
    (task,) = scene.hold([0])
    scene.database.execute(
        "UPDATE fang.fang_tasks SET pool_id = NULL, claimed_at = now() - interval '1 day', updated_at = claimed_at"
    )
    scene.hold([0])
    scene.store.unregister(DEAD)
    assert [each.id == task.id for each in scene.heart().rescue_orphans(MAX_CRASHES)] == [False]
    unheld = scene.queue.find_task_by_id(task.id)
    assert unheld is not None
    assert scene.queue.update_task_state(unheld, TaskState.NEW).state is TaskState.NEW
    assert [each.id for each in scene.claim(OTHER) if each.id == task.id] == [task.id]


def test_an_outcome_after_the_rescue_is_refused_also_when_it_was_claimed_again(scene: Scene) -> None:
    (task,) = scene.hold([0])
    late = [Outcome(task.id, task.attempt, None)]
    scene.heart().rescue([still()])
    assert scene.store.complete(DEAD, late) == set()
    scene.register(DEAD)
    assert len(scene.claim(DEAD)) == 1
    assert scene.store.complete(DEAD, late) == set()


def test_reconcile_gives_back_what_is_unknown_and_charges_nothing(scene: Scene) -> None:
    known, unknown, crashed = sorted(scene.hold([0, 0, 1]), key=lambda task: task.crashes)
    others = scene.hold([0], pool_id=OTHER)
    assert scene.store.reconcile(DEAD, [known.id]) == 2
    states = dict(scene.database.rows("SELECT id, state::text FROM fang.fang_tasks"))
    assert [states[task.id] for task in (known, unknown, crashed, *others)] == [
        *("in_progress", "new", "retried", "in_progress")
    ]
    assert scene.database.rows("SELECT sum(crashes), sum(retries) FROM fang.fang_tasks") == [(1, 0)]
    assert scene.store.reconcile(DEAD, [known.id]) == 0
    assert scene.store.reconcile(DEAD, []) == 1


def test_counters_at_their_limits_can_be_taken_back(scene: Scene) -> None:
    """And their sum, which no integer holds, keeps nothing else back either."""
    scene.hold([1, 2**15 - 1, 0])
    scene.database.execute("UPDATE fang.fang_tasks SET retries = 2147483647, max_retries = 2147483647")
    assert scene.store.reconcile(DEAD, []) == 3
    assert len(scene.claim(DEAD)) == 3
    assert rescued(scene) == {("retried", 2), ("retried", 2**15 - 1), ("retried", 1)}


# At the same time -----------------------------------------------------------------------------------------------------

BEAT = "UPDATE fang.fang_pools SET beats = beats + 1 WHERE id = %(id)s"


@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
def test_a_pool_that_is_beating_just_now_is_passed_by(url: str, scene: Scene, end: str) -> None:
    scene.hold([0])
    watcher = scene.heart()
    assert while_changed(url, BEAT, {"id": DEAD}, lambda: watcher.rescue([still()]), end=end) == []
    assert scene.pools() == {DEAD, OTHER, WATCHER}
    again = watcher.rescue([still()])
    assert len(again) == (0 if end == "COMMIT" else 1)  # its counter still stands where it stood, or does not


def test_of_several_that_seem_dead_only_those_that_stand_still_are(scene: Scene) -> None:
    scene.hold([0], pool_id=OTHER)
    scene.hold([0])
    scene.heart().beat(BeatRequest(OTHER, False))
    assert len(scene.heart().rescue([still(OTHER), still()])) == 1
    assert scene.pools() == {OTHER, WATCHER}


def test_a_beat_waits_for_the_rescue_and_then_learns_of_it(url: str, scene: Scene) -> None:
    """A rescuer takes the record away last of all; here it is held up before that, by a locked table."""
    scene.hold([0])
    dead, watcher = scene.heart(), scene.heart()
    dead.beat(BeatRequest(DEAD, True))
    with ThreadPoolExecutor(2) as executor, psycopg.connect(url) as locker:
        locker.execute("LOCK TABLE fang.fang_tasks IN SHARE MODE")
        rescue = executor.submit(watcher.rescue, [still(beats=1)])
        await_waiting(scene.database.connection, 1)
        assert scene.pools() == {DEAD, OTHER, WATCHER}  # that it was stopping can still be read
        beat = executor.submit(dead.beat, BeatRequest(DEAD, True))
        await_waiting(scene.database.connection, 2)
        locker.rollback()
        assert [task.crashes for task in rescue.result(PATIENT)] == [0]
        assert not beat.result(PATIENT).registered


def test_a_rescue_that_is_held_up_gives_up_and_keeps_the_hearts_lock(url: str, scene: Scene) -> None:
    scene.hold([0])
    watcher = scene.heart()
    watcher.beat(BeatRequest(WATCHER, False))
    with psycopg.connect(url) as locker:
        locker.execute("LOCK TABLE fang.fang_tasks IN ACCESS EXCLUSIVE MODE")
        for rescue in (lambda: watcher.rescue([still()]), lambda: watcher.rescue_orphans(MAX_CRASHES)):
            with pytest.raises(BackendError, match="nothing was written"):
                rescue()
            assert scene.database.rows(OURS) == [(1,)]
            assert watcher.beat(BeatRequest(WATCHER, False)).registered
    assert len(watcher.rescue([still()])) == 1


@pytest.mark.parametrize("stopping", [False, True])
def test_a_record_stays_until_a_rescue_has_all_tasks_and_its_pool_is_dead_meanwhile(
    url: str, scene: Scene, stopping: bool
) -> None:
    """A run's own transaction locks one of them."""
    locked, free = scene.hold([0, 0])
    dead, watcher = scene.heart(), scene.heart()
    dead.beat(BeatRequest(DEAD, stopping))
    sql = "SELECT 1 FROM fang.fang_tasks WHERE id = %(id)s FOR UPDATE"
    first = while_changed(url, sql, {"id": locked.id}, lambda: watcher.rescue([still(beats=1)]), end="ROLLBACK")
    assert [task.id for task in first] == [free.id]
    assert scene.pools() == {DEAD, OTHER, WATCHER}
    assert watcher.rescue_orphans(MAX_CRASHES) == []
    beat = dead.beat(BeatRequest(DEAD, False))
    assert not beat.registered
    assert {pulse.beats for pulse in beat.pulses if pulse.pool_id == DEAD} == {DECLARED_DEAD}
    assert scene.claim(DEAD) == []
    scene.store.update_kinds(DEAD, ["Crashing", "Other"])
    scene.register(DEAD)

    second = watcher.rescue([still(beats=DECLARED_DEAD)])
    assert [(task.id, task.crashes) for task in second] == [(locked.id, 0 if stopping else 1)]
    assert scene.pools() == {OTHER, WATCHER}
    scene.store.update_kinds(DEAD, ["Crashing"])
    assert scene.pools() == {OTHER, WATCHER}


@pytest.mark.parametrize("by_orphans", [False, True])
def test_of_two_rescuers_at_once_each_task_has_one(scene: Scene, by_orphans: bool) -> None:
    ids = sorted(task.id for task in scene.hold([0] * 50))
    if by_orphans:
        scene.store.unregister(DEAD)
    gate = threading.Barrier(2)

    def rescue() -> list[uuid.UUID]:
        heart = scene.heart()
        heart.beat(BeatRequest(WATCHER, False))
        gate.wait()
        found = heart.rescue_orphans(MAX_CRASHES) if by_orphans else heart.rescue([still()])
        return [task.id for task in found]

    with ThreadPoolExecutor(2) as executor:
        both = [executor.submit(rescue) for _ in range(2)]
        assert sorted(both[0].result(PATIENT) + both[1].result(PATIENT)) == ids
    assert scene.database.rows("SELECT DISTINCT crashes FROM fang.fang_tasks") == [(1,)]


@pytest.mark.parametrize("first", ["rescue", "complete"])
def test_of_a_rescue_and_an_outcome_at_once_each_row_has_one(
    url: str, scene: Scene, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    """The one that comes first holds half of the rows; the other takes the rest, and leaves these as they are then."""
    wait_for_rows(monkeypatch)
    tasks = sorted(scene.hold([0] * 50), key=lambda task: task.id)
    half = {"ids": [task.id for task in tasks[:25]]}
    if first == "rescue":
        sql = "UPDATE fang.fang_tasks SET state = 'retried', crashes = 1, pool_id = NULL WHERE id = ANY(%(ids)s)"
        outcomes = [Outcome(task.id, task.attempt, TaskState.FINISHED) for task in tasks]
        done = while_changed(url, sql, half, lambda: scene.store.complete(DEAD, outcomes))
    else:
        sql = "UPDATE fang.fang_tasks SET state = 'finished' WHERE id = ANY(%(ids)s)"
        done = {task.id for task in while_changed(url, sql, half, lambda: scene.heart().rescue([still()]))}
    assert done == {task.id for task in tasks[25:]}
    counted = scene.database.rows("SELECT state::text, crashes, count(*)::int FROM fang.fang_tasks GROUP BY 1, 2")
    assert sorted(counted) == [("finished", 0, 25), ("retried", 1, 25)]


def test_rescues_and_outcomes_race_and_every_row_ends_once(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    wait_for_rows(monkeypatch)
    for _ in range(5):
        scene.register(DEAD)
        tasks = scene.hold([0] * 200)
        gate = threading.Barrier(3)

        def complete(mine: list[ClaimedTask], gate: threading.Barrier = gate) -> set[uuid.UUID]:
            gate.wait()
            done: set[uuid.UUID] = set()
            for n in range(0, len(mine), 10):
                done |= scene.store.complete(DEAD, [Outcome(task.id, task.attempt, None) for task in mine[n : n + 10]])
            return done

        def rescue(gate: threading.Barrier = gate) -> set[uuid.UUID]:
            heart = scene.heart()
            heart.beat(BeatRequest(WATCHER, False))
            gate.wait()
            return {task.id for task in heart.rescue([still()])}

        with ThreadPoolExecutor(3) as executor:
            ended = [executor.submit(complete, tasks[::2]), executor.submit(complete, tasks[1::2])]
            back = executor.submit(rescue).result(PATIENT)
            done = ended[0].result(PATIENT) | ended[1].result(PATIENT)
        assert done | back == {task.id for task in tasks}
        assert not done & back
        scene.database.execute("DELETE FROM fang.fang_tasks")
