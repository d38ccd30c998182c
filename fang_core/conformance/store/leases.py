"""Tests the signs of life of pools, and the rescue of tasks from a pool that has died."""

import json
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from math import inf
from typing import Final, NamedTuple
from uuid import UUID

from fang_core.backends.pools import Rescued
from fang_core.claims.suspects import NO_SUSPECTS
from fang_core.conformance.backend import WITHIN, Backend
from fang_core.conformance.clients import Client
from fang_core.conformance.store.claims import ids
from fang_core.crashes import ISOLATED_TRIES, MOST_DOUBLINGS, MOST_GROUP, SUSPECT_AFTER, after_crash
from fang_core.liveness import DECLARED_DEAD, LOCK_FREE_FOR, Beat, Pulse, Watch
from fang_core.record import Task, TaskState

SECOND: Final = timedelta(seconds=1)
LEASE: Final = 5 * SECOND


class Crash(NamedTuple):
    """Describes a pool that dies while it holds a task that has already crashed ``crashes`` times, and other tasks."""

    crashes: int
    others: int = 1
    was_stopping: bool = False
    max_crashes: int = 3
    workers: int = 4
    is_isolated: bool = False


CRASHES: Final = (
    Crash(0),
    Crash(0, others=0, max_crashes=1),
    Crash(0, was_stopping=True),
    Crash(SUSPECT_AFTER - 1),
    Crash(SUSPECT_AFTER - 1, was_stopping=True),
    Crash(SUSPECT_AFTER - 1, others=0),
    Crash(SUSPECT_AFTER),
    Crash(SUSPECT_AFTER, others=4),
    Crash(SUSPECT_AFTER, others=4, workers=2),
    Crash(SUSPECT_AFTER, others=8, workers=8),
    Crash(SUSPECT_AFTER, others=0),
    Crash(SUSPECT_AFTER, others=0, max_crashes=SUSPECT_AFTER + 2),
    Crash(SUSPECT_AFTER, others=0, was_stopping=True),
    Crash(MOST_DOUBLINGS + 1, others=0, max_crashes=100),
    Crash(SUSPECT_AFTER - 1, others=0, is_isolated=True),
    Crash(SUSPECT_AFTER, others=0, is_isolated=True),
    Crash(SUSPECT_AFTER, is_isolated=True),
    Crash(SUSPECT_AFTER, is_isolated=True, was_stopping=True),
)
"""Has at least one crash for each row of the table in ``fang_core.crashes``."""


class LeaseSuite:
    """Tests what pools learn of each other by ``Heart.beat``, and ``rescue`` and ``rescue_orphans``."""

    # Beats ------------------------------------------------------------------------------------------------------------

    def test_a_beat_counts_and_is_seen_by_the_others(self, backend: Backend) -> None:
        backend.needs("outlives_processes")
        client, watcher = backend.client(lease=LEASE), backend.client(lease=2 * LEASE)
        counts = [pulse.beats for pulse in map(watcher.pulse, [client] * 2) if pulse]
        assert len(set(counts)) == 1  # the counter of a pool that does not beat stands still
        for _ in range(3):
            beat = client.beat()
            assert beat.registered
            assert beat.server_up >= 0
            assert {pulse.pool_id: pulse.lease for pulse in beat.pulses} == {
                client.id: LEASE.total_seconds(),
                watcher.id: 2 * LEASE.total_seconds(),
            }
            seen = watcher.pulse(client)
            assert seen is not None
            counts.append(seen.beats)
        assert counts[1:] == sorted(set(counts))

    def test_a_pool_without_a_record_is_told_so_and_seen_by_no_other(self, backend: Backend) -> None:
        backend.needs("outlives_processes")
        stranger, former, watcher = backend.stranger(), backend.client(), backend.client()
        assert former.beat().registered
        former.unregister()
        for client in (stranger, former):
            assert not client.beat().registered
            assert not client.beat(stopping=True).registered
            assert watcher.pulse(client) is None

    def test_the_end_of_a_process_shows_although_its_record_stays(self, backend: Backend) -> None:
        backend.needs("shows_deaths")
        client, watcher = backend.client(), backend.client()
        client.beat()
        alive = seen(watcher, client)
        assert (alive.claims_lock, alive.is_locked) == (True, True)
        client.die()
        eventually(lambda: not seen(watcher, client).is_locked)
        assert seen(watcher, client) == alive._replace(is_locked=False)

    def test_a_watch_takes_a_pool_for_dead_that_is_and_no_other(self, backend: Backend) -> None:
        """Passes the watch made-up times, and a server that was started long ago."""
        backend.needs("outlives_processes")
        shows = backend.capabilities.shows_deaths
        alive, dead, silent = (backend.client(lease=LEASE) for _ in range(3))
        watcher, watch = backend.client(lease=LEASE), Watch()
        for client in (alive, dead, silent):
            client.heart(shows)
            client.beat()

        def look(second: float) -> set[Client]:
            alive.beat()
            watched: Beat = watcher.beat()._replace(server_up=inf)
            found = {pulse.pool_id for pulse in watch.dead(watcher.id, watched, second)}
            return {client for client in (alive, dead, silent, watcher) if client.id in found}

        watcher.heart(shows)
        assert look(0.0) == set()
        dead.die()
        if shows:
            eventually(lambda: not seen(watcher, dead).is_locked)
        found_at: dict[Client, float] = {}
        for second in range(1, int(LEASE.total_seconds()) + 1):
            for client in look(float(second)):
                found_at.setdefault(client, float(second))
        lease = LEASE.total_seconds()
        assert found_at == {dead: LOCK_FREE_FOR if shows else lease, silent: lease}

    # Rescue -----------------------------------------------------------------------------------------------------------

    def test_what_a_dead_pool_held_is_taken_back_and_its_record_goes(self, backend: Backend) -> None:
        backend.needs("outlives_processes")
        dead, other, watcher = backend.client(), backend.client(), backend.client()
        dead.beat()
        backend.insert_many([backend.note(n=n) for n in range(3)])
        held, (others,) = dead.claim(2), other.claim()
        kept = backend.row(others)
        told = watcher.rescue(seen(watcher, dead))
        kind = backend.note.__fang_options__.kind
        assert sorted(told) == sorted(
            Rescued(task.id, kind, 1, 1, TaskState.RETRIED, False, True, "common") for task in held
        )
        assert backend.row(others) == kept
        assert watcher.pulse(dead) is None
        assert not dead.beat().registered
        assert dead.ask().registered is False
        assert not any(dead.end(task) for task in held)
        assert watcher.rescue_orphans() == []
        assert [(task.attempt, task.crashes) for task in other.claim()] == [(2, 1)] * 2  # due again at once

    def test_a_pool_whose_counter_has_moved_is_not_dead(self, backend: Backend) -> None:
        backend.needs("outlives_processes")
        back, dead, watcher = backend.client(), backend.client(), backend.client()
        pulses = []
        for client in (back, dead):
            backend.insert(backend.note())
            client.beat()
            assert len(client.claim()) == 1
            pulses.append(seen(watcher, client))
        back.beat()
        assert [task.attempt for task in watcher.rescue(*pulses)] == [1]
        assert back.beat().registered
        assert not dead.beat().registered
        assert watcher.rescue(*pulses) == []

    def test_of_rescuers_at_the_same_time_each_task_has_one(self, backend: Backend) -> None:
        backend.needs("outlives_processes")
        dead, *watchers = [backend.client() for _ in range(3)]
        tasks = backend.insert_many([backend.note(n=n) for n in range(20)])
        assert len(dead.claim()) == 20
        pulses = [seen(watcher, dead) for watcher in watchers]
        both = backend.call_together(*(partial(watcher.heart().rescue, pulses[:1]) for watcher in watchers))
        assert sorted(task.id for told in both for task in told) == sorted(ids(tasks))
        assert {backend.row(task).crashes for task in tasks} == {1}

    def test_a_dead_pools_record_stays_until_the_last_of_its_tasks_can_be_taken_back(self, backend: Backend) -> None:
        """Moves one of the tasks by hand, in a caller's open transaction."""
        backend.needs("outlives_processes", "transactions", "concurrent_writers")
        dead, watcher = backend.client(), backend.client()
        dead.beat()
        backend.insert_many([backend.note(n=n) for n in range(2)])
        locked, free = dead.claim()
        with backend.rolled_back() as connection:
            backend.move(backend.row(locked), TaskState.CANCELLED, connection=connection)
            assert [task.id for task in watcher.rescue(seen(watcher, dead))] == [free.id]
            assert watcher.rescue_orphans() == []
            assert not dead.beat().registered
            assert dead.ask().registered is False
            assert seen(watcher, dead).beats == DECLARED_DEAD
        assert [task.id for task in watcher.rescue(seen(watcher, dead))] == [locked.id]
        assert watcher.pulse(dead) is None

    def test_orphans_are_taken_back(self, backend: Backend) -> None:
        """Checks that tasks held by a pool without a record are taken back, and no other tasks."""
        backend.needs("outlives_processes")
        gone, other, watcher = backend.client(max_crashes=5), backend.client(), backend.client()
        for client in (gone, other):
            backend.insert(backend.note())
            assert len(client.claim()) == 1
        assert watcher.rescue_orphans() == []
        gone.unregister()
        told = watcher.rescue_orphans(1)  # the finder's max_crashes counts
        assert [each[2:] for each in told] == [(1, 1, TaskState.FAILED, False, True, "common")]
        assert watcher.rescue_orphans() == []

    def test_each_row_of_the_crash_table_is_kept(self, backend: Backend) -> None:
        backend.needs("outlives_processes")
        watcher = backend.client()
        held = [hold(backend, crash, f"crash {n}") for n, crash in enumerate(CRASHES)]
        pulses = watcher.beat().pulses
        told = {each.id: each for each in watcher.rescue(*(pulse for pulse in pulses if pulse.pool_id != watcher.id))}
        assert told.keys() >= {task.id for task in held}
        for crash, before in zip(CRASHES, held, strict=True):
            expected = after_crash(
                before,
                was_stopping=crash.was_stopping,
                held=1 + crash.others,
                workers=crash.workers,
                max_crashes=crash.max_crashes,
                is_isolated=crash.is_isolated,
            )
            assert told[before.id] == Rescued(
                *(before.id, before.kind, before.attempt, expected.crashes, expected.state),
                was_stopping=crash.was_stopping,
                charged=expected.is_charged,
                task_type=before.task_type,
            )
            after = backend.row(before)
            assert after == before._replace(
                state=expected.state,
                crashes=expected.crashes,
                group_limit=expected.group_limit,
                scheduled_at=before.scheduled_at if expected.delay is None else after.scheduled_at,
                error_message=expected.error_message,
                errors=after.errors,
                pool_id=None,
                claimed_at=None,
                updated_at=after.updated_at,
            )
            if expected.delay is not None:
                waits = after.scheduled_at - after.updated_at
                assert -SECOND / 10 < waits - expected.delay < expected.delay  # the statement may have been slow
            entries = [{**entry, "time": None} for entry in after.errors]
            assert entries == ([{**json.loads(expected.error_entry), "time": None}] if expected.error_entry else [])

    def test_a_suspect_of_a_kind_that_its_pool_has_learned_to_isolate_is_not_charged(self, backend: Backend) -> None:
        backend.needs("outlives_processes")
        dead, watcher = backend.client(), backend.client()
        task = backend.crashed(SUSPECT_AFTER)
        kind = backend.note.__fang_options__.kind
        dead.update_kinds(kind, isolated=(kind,))
        dead.beat()
        assert len(dead.claim()) == 1
        (told,) = watcher.rescue(seen(watcher, dead))
        assert (told.charged, backend.row(task).crashes) == (False, SUSPECT_AFTER)

    def test_a_suspect_that_dies_in_children_with_one_pool_after_the_other_runs_alone_at_last(
        self, backend: Backend
    ) -> None:
        """It kills its pool from its child process, and is parked in the end."""
        backend.needs("outlives_processes")
        watcher, kinds = backend.client(), (backend.note.__fang_options__.kind,)
        suspect = hold(backend, Crash(SUSPECT_AFTER, others=0, is_isolated=True), "apart")
        for tries in range(1, ISOLATED_TRIES + 1):
            assert _rescued(watcher, suspect) == [(suspect.id, False)]
            assert backend.row(suspect).group_limit == MOST_GROUP >> tries
            pool = backend.client(task_types=("apart",), isolated_kinds=kinds)
            if tries == ISOLATED_TRIES:
                assert pool.claim(group_size=2, isolated_kinds=kinds) == []
            assert ids(pool.claim(group_size=1 if tries == ISOLATED_TRIES else NO_SUSPECTS, isolated_kinds=kinds))
            suspect = backend.row(suspect)
        assert _rescued(watcher, suspect) == [(suspect.id, True)]
        assert (backend.row(suspect).state, backend.row(suspect).crashes) == (TaskState.FAILED, SUSPECT_AFTER + 1)

    def test_a_suspect_is_claimed_for_groups_up_to_its_limit(self, backend: Backend) -> None:
        backend.needs("outlives_processes")
        watcher, other = backend.client(), backend.client(task_types=("tried",))
        suspect = hold(backend, Crash(SUSPECT_AFTER, others=5, workers=4), "tried")
        (pulse,) = (each for each in watcher.beat().pulses if each.pool_id == suspect.pool_id)
        assert len(watcher.rescue(pulse)) == 6
        assert backend.row(suspect).group_limit == 2
        assert suspect.id not in ids(other.claim(group_size=3))
        assert [(task.id, task.group_limit) for task in other.claim(group_size=2)] == [(suspect.id, 2)]


def hold(backend: Backend, crash: Crash, task_type: str) -> Task:
    """Lets a new pool hold the task of a crash, and the other tasks; returns the task's row."""
    isolated_kinds = (backend.note.__fang_options__.kind,) if crash.is_isolated else ()
    client = backend.client(
        task_types=(task_type,), max_crashes=crash.max_crashes, workers=crash.workers, isolated_kinds=isolated_kinds
    )
    if crash.was_stopping:
        client.beat(stopping=True)
    task = backend.crashed(crash.crashes, task_type=task_type)
    for _ in range(crash.others):
        backend.insert(backend.note(), task_type=task_type)
    assert len(client.claim()) == 1 + crash.others
    return backend.row(task)


def _rescued(watcher: Client, task: Task) -> list[tuple[UUID, bool]]:
    """Declares the pool that holds the task dead; returns what was taken back, and whether it was charged."""
    (pulse,) = (each for each in watcher.beat().pulses if each.pool_id == task.pool_id)
    return [(each.id, each.charged) for each in watcher.rescue(pulse)]


def seen(watcher: Client, client: Client) -> Pulse:
    """Returns the pulse that the watcher sees of another pool; fails the test if its record is gone."""
    pulse = watcher.pulse(client)
    assert pulse is not None, "the record of a pool is gone"
    return pulse


def eventually(holds: Callable[[], bool]) -> None:
    """Waits until ``holds`` returns True, by polling, for conditions that have no event."""
    deadline = time.monotonic() + WITHIN
    while not holds():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.01)
