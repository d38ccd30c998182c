"""Suspects, in groups or alone: they hold up neither their pool nor each other, and are not claimed over and over."""

import random
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from fang_core import Exponential, RetentionMode
from fang_core.backends.claims import Claim, ClaimRequest
from fang_core.backends.memory.state import MemoryState
from fang_core.claims import quarantine
from fang_core.claims.suspects import NO_SUSPECTS
from fang_core.crashes import SUSPECT_AFTER
from fang_core.failure import ErrorReport
from fang_core.lifecycle import NOT_RUN, Failure, Snoozed, decide
from tests.modes import GATES, HOUR, RAN, Database, Harness, abstains, eventually, insert_suspect, ran
from tests.patience import PATIENT


class Backend(MemoryState):
    """Counts what was claimed."""

    claimed = 0

    def claim(self, request: ClaimRequest) -> Claim:
        claim = super().claim(request)
        self.claimed += len(claim.tasks)
        return claim

    def suspect(self, task_id: UUID, group_limit: int | None = 1) -> None:
        self.tasks[task_id] = self.tasks[task_id]._replace(crashes=SUSPECT_AFTER, group_limit=group_limit)


def test_many_suspects_among_innocents_are_claimed_twice_on_average_at_most(harness: Harness) -> None:
    backend = Backend()
    queue = harness.memory_queue(backend)
    tasks = harness.call(queue.insert_tasks, [harness.note(n=n) for n in range(60)])
    for task in random.Random(7).sample(tasks, 45):
        backend.suspect(task.id)
    pool = harness.pool(queue, number_of_workers=50, retention_mode=RetentionMode.KEEP_ALL)
    assert ran(60) == list(range(60))
    assert harness.stop(pool) == 0
    assert backend.claimed <= 2 * 60 + 50
    assert max(task.attempt for task in backend.tasks.values()) <= 4


def test_suspects_of_a_group_run_at_once_beside_others_and_no_more_of_them_than_their_limit(harness: Harness) -> None:
    backend = Backend()
    queue = harness.memory_queue(backend)
    tasks = harness.call(queue.insert_tasks, [harness.note(n=n, waits=True) for n in range(6)])
    for task in tasks[:5]:
        backend.suspect(task.id, group_limit=3)
    harness.pool(queue, number_of_workers=8)
    assert ran(4) == [0, 1, 2, 5]
    eventually(lambda: backend.tasks[tasks[3].id].pool_id is None)  # and the others have gone back
    attempts = [backend.tasks[task.id].attempt for task in tasks]
    harness.call(queue.insert_task, harness.note(n=6))
    assert ran() == [6]
    assert attempts == [backend.tasks[task.id].attempt for task in tasks]  # they are claimed no more while others run
    GATES["gate"].set()
    assert ran(2) == [3, 4]


def test_a_group_follows_the_size_of_its_pool_and_is_halved_by_it(harness: Harness) -> None:
    backend = Backend()
    queue = harness.memory_queue(backend)
    for task in harness.call(queue.insert_tasks, [harness.note(n=n, waits=True) for n in range(6)]):
        backend.suspect(task.id, group_limit=None)
    pool = harness.pool(queue, number_of_workers=2)
    ran(2)
    harness.call(pool.resize, 4)
    ran(2)
    eventually(lambda: backend.pools[pool.id].record.workers == 4)
    harness.call(pool.resize, 3)
    assert pool._lifetime.in_flight.next_group_size == NO_SUSPECTS
    eventually(lambda: backend.pools[pool.id].record.workers == 3)
    harness.call(pool.resize, 4)
    eventually(lambda: backend.pools[pool.id].record.workers == 4)
    dead = backend.rescue(pool.id, was_stopping=False, max_crashes=3)
    assert [backend.tasks[task.id].group_limit for task in dead] == 4 * [2]
    GATES["gate"].set()


@pytest.fixture
def busy(harness: Harness, url: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[float], tuple[Any, Any]]:
    """Makes a queue and a pool of three with a run that goes on, and lets a suspect wait for so many seconds."""

    def make(wait: float) -> tuple[Any, Any]:
        monkeypatch.setattr(quarantine, "FIRST_WAIT", wait)
        queue = harness.queue(url)
        pool = harness.pool(queue, number_of_workers=3)
        harness.call(queue.insert_task, harness.note(n=1, waits=True))
        assert ran() == [1]
        return queue, pool

    return make


def row(database: Database, task_id: UUID) -> Any:
    return database.rows("SELECT state::text, retries, crashes FROM fang.fang_tasks WHERE id = %s", task_id)[0]


def test_a_suspect_goes_back_uncharged_while_other_runs_go_on_and_runs_once_they_have_ended(
    harness: Harness, busy: Callable[[float], tuple[Any, Any]], database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue, pool = busy(0.6)  # and so claims no suspects for longer than this test waits
    suspect = insert_suspect(harness, queue, database, 2)
    harness.call(queue.insert_task, harness.note(n=3))  # wakes the pool
    assert ran() == [3]  # when the suspect has gone back
    eventually(lambda: row(database, suspect) == ("retried", 0, SUSPECT_AFTER))  # which is written meanwhile
    assert abstains(pool)
    harness.call(queue.insert_task, harness.note(n=4))
    assert ran() == [4]
    assert RAN.empty()
    woken, wake = threading.Event(), pool._lifetime.claimer.wake
    monkeypatch.setattr(pool._lifetime.claimer, "wake", lambda: (woken.set(), wake()))  # it may sleep, or be about to
    GATES["gate"].set()
    assert ran() == [2]
    assert woken.wait(PATIENT)


def test_a_suspect_is_claimed_again_after_ten_times_its_wait(
    harness: Harness, busy: Callable[[float], tuple[Any, Any]], database: Database
) -> None:
    queue, pool = busy(0.1)
    suspect = insert_suspect(harness, queue, database, 2)
    harness.call(queue.insert_task, harness.note(n=3))
    assert ran() == [3]
    assert abstains(pool)
    first = attempt(database, suspect)
    eventually(lambda: attempt(database, suspect) > first)
    harness.call(queue.insert_task, harness.note(n=4))
    assert ran() == [4]
    GATES["gate"].set()
    assert ran() == [2]


def test_a_snooze_forgets_crashes_and_no_other_end_does(harness: Harness, url: str, database: Database) -> None:
    """All of them written by one statement."""
    endings = [Snoozed(HOUR), NOT_RUN, Failure(ErrorReport("no", None)), Snoozed(HOUR)]
    queue = harness.queue(url)
    pool = harness.pool(queue, task_type="elsewhere")
    for n in range(len(endings)):
        insert_suspect(harness, queue, database, n)
    database.execute("UPDATE fang.fang_tasks SET retries = 1 WHERE metadata -> 'n' = '3'")
    request = ClaimRequest(pool.id, ("common",), tuple(pool._lifetime.kinds.classes), 10)
    tasks = harness.call(pool._lifetime.store.claim, request).tasks
    outcomes = [
        decide(task, result, retention=RetentionMode.KEEP_ALL, backoff=Exponential())
        for task, result in zip(tasks, endings, strict=True)
    ]
    assert harness.call(pool._lifetime.store.complete, pool.id, outcomes) == {task.id for task in tasks}
    rows = [row(database, task.id) for task in tasks]
    assert rows == [("new", 0, 0), ("retried", 0, 2), ("retried", 1, 2), ("retried", 1, 0)]


def attempt(database: Database, task_id: UUID) -> int:
    return int(database.rows("SELECT attempt FROM fang.fang_tasks WHERE id = %s", task_id)[0][0])


def test_a_claim_of_innocents_passes_suspects(harness: Harness, url: str, database: Database) -> None:
    queue = harness.queue(url)
    harness.call(queue.open)
    assert harness.call(queue.insert_task, harness.note(n=1), delay=timedelta(0))
    insert_suspect(harness, queue, database, 2)
    pool = harness.pool(queue, task_type="elsewhere")
    request = ClaimRequest(pool.id, ("common",), tuple(pool._lifetime.kinds.classes), 10, group_size=NO_SUSPECTS)
    assert [task.crashes for task in harness.call(pool._lifetime.store.claim, request).tasks] == [0]
    assert harness.call(pool._lifetime.store.claim, request).tasks == []
    both = harness.call(pool._lifetime.store.claim, request._replace(group_size=1)).tasks
    assert [task.crashes for task in both] == [SUSPECT_AFTER]
