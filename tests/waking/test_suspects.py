"""Suspects, which run alone: they hold up neither their pool nor each other, and are not claimed over and over."""

import random
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from fang_core import Exponential, RetentionMode, caution
from fang_core.failure import ErrorReport
from fang_core.lifecycle import NOT_RUN, SUSPECT_AFTER, Failure, Snoozed, decide
from fang_core.memory_state import MemoryState
from fang_core.store import Claim, ClaimRequest
from tests.modes import GATES, HOUR, RAN, Database, Side, eventually, insert_suspect, ran


class Backend(MemoryState):
    """Counts what was claimed."""

    claimed = 0

    def claim(self, request: ClaimRequest) -> Claim:
        claim = super().claim(request)
        self.claimed += len(claim.tasks)
        return claim

    def suspect(self, task_id: UUID) -> None:
        self.tasks[task_id] = self.tasks[task_id]._replace(crashes=SUSPECT_AFTER)


def test_many_suspects_among_innocents_are_claimed_twice_on_average_at_most(side: Side) -> None:
    backend = Backend()
    queue = side.memory_queue(backend)
    tasks = side.call(queue.insert_tasks, [side.note(n=n) for n in range(60)])
    for task in random.Random(7).sample(tasks, 45):
        backend.suspect(task.id)
    pool = side.pool(queue, number_of_workers=50, retention_mode=RetentionMode.KEEP_ALL)
    assert ran(60, within=20) == list(range(60))
    assert side.stop(pool) == 0
    assert backend.claimed <= 2 * 60 + 50
    assert max(task.attempt for task in backend.tasks.values()) <= 4


@pytest.fixture
def busy(side: Side, url: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[float], tuple[Any, Any]]:
    """Makes a queue and a pool of three with a run that goes on, and lets a suspect wait for so many seconds."""

    def make(wait: float) -> tuple[Any, Any]:
        monkeypatch.setattr(caution, "FIRST_WAIT", wait)
        queue = side.queue(url)
        pool = side.pool(queue, number_of_workers=3)
        side.call(queue.insert_task, side.note(n=1, waits=True))
        assert ran() == [1]
        return queue, pool

    return make


def row(database: Database, task_id: UUID) -> Any:
    return database.rows("SELECT state::text, retries, crashes FROM fang.fang_tasks WHERE id = %s", task_id)[0]


def test_a_suspect_goes_back_uncharged_while_other_runs_go_on_and_runs_once_they_have_ended(
    side: Side, busy: Callable[[float], tuple[Any, Any]], database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue, pool = busy(0.6)  # and so claims no suspects for longer than this test waits
    suspect = insert_suspect(side, queue, database, 2)
    side.call(queue.insert_task, side.note(n=3))  # wakes the pool
    assert ran() == [3]  # when the suspect has gone back
    assert row(database, suspect) == ("retried", 0, SUSPECT_AFTER)
    assert pool._shift.claimer.abstains
    side.call(queue.insert_task, side.note(n=4))
    assert ran() == [4]
    assert RAN.empty()
    woken, wake = threading.Event(), pool._shift.claimer.wake
    monkeypatch.setattr(pool._shift.claimer, "wake", lambda: (woken.set(), wake()))  # it may sleep, or be about to
    GATES["gate"].set()
    assert ran() == [2]
    assert woken.wait(5)


def test_a_suspect_is_claimed_again_after_ten_times_its_wait(
    side: Side, busy: Callable[[float], tuple[Any, Any]], database: Database
) -> None:
    queue, pool = busy(0.1)
    suspect = insert_suspect(side, queue, database, 2)
    side.call(queue.insert_task, side.note(n=3))
    assert ran() == [3]
    assert pool._shift.claimer.abstains
    first = attempt(database, suspect)
    eventually(lambda: attempt(database, suspect) == first + 1, within=5)
    side.call(queue.insert_task, side.note(n=4))
    assert ran() == [4]
    GATES["gate"].set()
    assert ran() == [2]


def test_a_snooze_forgets_crashes_and_no_other_end_does(side: Side, url: str, database: Database) -> None:
    """All of them written by one statement."""
    endings = [Snoozed(HOUR), NOT_RUN, Failure(ErrorReport("no", None)), Snoozed(HOUR)]
    queue = side.queue(url)
    pool = side.pool(queue, task_type="elsewhere")
    for n in range(len(endings)):
        insert_suspect(side, queue, database, n)
    database.execute("UPDATE fang.fang_tasks SET retries = 1 WHERE metadata -> 'n' = '3'")
    request = ClaimRequest(pool.id, ("common",), tuple(pool._shift.kinds.classes), 10)
    tasks = side.call(pool._shift.store.claim, request).tasks
    outcomes = [
        decide(task, result, retention=RetentionMode.KEEP_ALL, backoff=Exponential())
        for task, result in zip(tasks, endings, strict=True)
    ]
    assert side.call(pool._shift.store.complete, pool.id, outcomes) == {task.id for task in tasks}
    rows = [row(database, task.id) for task in tasks]
    assert rows == [("new", 0, 0), ("retried", 0, 2), ("retried", 1, 2), ("retried", 1, 0)]


def attempt(database: Database, task_id: UUID) -> int:
    return int(database.rows("SELECT attempt FROM fang.fang_tasks WHERE id = %s", task_id)[0][0])


def test_a_claim_of_innocents_passes_suspects(side: Side, url: str, database: Database) -> None:
    queue = side.queue(url)
    side.call(queue.open)
    assert side.call(queue.insert_task, side.note(n=1), delay=timedelta(0))
    insert_suspect(side, queue, database, 2)
    pool = side.pool(queue, task_type="elsewhere")
    request = ClaimRequest(pool.id, ("common",), tuple(pool._shift.kinds.classes), 10, suspects=False)
    assert [task.crashes for task in side.call(pool._shift.store.claim, request).tasks] == [0]
    assert side.call(pool._shift.store.claim, request).tasks == []
    both = side.call(pool._shift.store.claim, request._replace(suspects=True)).tasks
    assert [task.crashes for task in both] == [SUSPECT_AFTER]
