"""No run of a task begins after the task has expired, whichever clock is ahead; a task without an expiry never does."""

import logging
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from fang_core.claims.expiry import EXPIRED
from fang_core.config import RetentionMode
from fang_core.crashes import SUSPECT_AFTER
from fang_core.events import Events
from fang_core.lifecycle import Outcome
from fang_core.record import ClaimedTask, TaskState
from tests.core.claims.workerless import NOW, Workerless
from tests.core.claims.workerless import task as claimed

SECOND = timedelta(seconds=1)


def task(number: int, expires_at: datetime | None = None, **fields: Any) -> ClaimedTask:
    return claimed(number, expires_at=expires_at, **fields)


class Told(Events):
    def __init__(self) -> None:
        self.expired: list[int] = []
        self.ended: list[int] = []

    def task_expired(self, task: ClaimedTask) -> None:
        self.expired.append(task.id.int)

    def run_ended(self, task: ClaimedTask, result: Any, seconds: float) -> None:
        self.ended.append(task.id.int)


class Pool(Workerless):
    def __init__(self, **options: Any) -> None:
        self.told = Told()
        super().__init__(self.told, workers=4, **options)


def test_what_had_expired_when_it_was_claimed_is_cancelled_and_the_rest_is_handed_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    pool = Pool()
    with caplog.at_level(logging.INFO):
        pool.hand_out(task(1, NOW - SECOND), task(2), task(3, NOW), task(4, NOW + SECOND))
    assert pool.waiting == [2, 4]
    assert pool.put.outcomes == [
        Outcome(UUID(int=number), 1, TaskState.CANCELLED, error_message="expired") for number in (1, 3)
    ]
    assert (pool.told.expired, pool.told.ended) == ([1, 3], [])
    lines = [(record.levelno, record.getMessage()) for record in caplog.records]
    assert lines[0] == (logging.INFO, f"task {UUID(int=1)} (Supplied) has expired, and is cancelled without a run")
    assert len(lines) == 2


def test_its_place_is_free_at_once() -> None:
    pool = Pool()
    fresh = pool.dispatch.wanted(51.0)
    pool.hand_out(*(task(number, NOW) for number in range(fresh)))
    pool.put.written = fresh
    assert pool.dispatch.wanted(51.0) == fresh


def test_its_row_is_removed_if_the_pool_keeps_none() -> None:
    pool = Pool(retention_mode=RetentionMode.REMOVE_ALL)
    pool.hand_out(task(1, NOW))
    assert pool.put.outcomes == [Outcome(UUID(int=1), 1, None, error_message="expired")]


def test_an_expired_suspect_holds_up_nothing() -> None:
    pool = Pool()
    pool.hand_out(task(1, NOW, crashes=SUSPECT_AFTER), task(2))
    assert (pool.waiting, len(pool.in_flight.suspects)) == ([2], 0)


def test_a_run_knows_until_when_it_may_begin_by_the_clock_of_the_pool() -> None:
    """Counted from when the claim began, since nobody knows when in between the backend read its clock."""
    pool = Pool()
    pool.hand_out(task(1, NOW + 2.5 * SECOND), task(2), began=50.0)
    assert [run.expires for run in pool.line.runs] == [52.5, None]


def test_what_expires_while_it_waits_for_a_worker_is_cancelled_without_a_run() -> None:
    pool = Pool()
    pool.hand_out(task(1, NOW + SECOND))
    (run,) = pool.line.runs
    pool.dispatch.ended(run, EXPIRED, 0.0)
    assert pool.put.outcomes == [Outcome(UUID(int=1), 1, TaskState.CANCELLED, error_message="expired")]
    assert (pool.told.expired, pool.told.ended, run.over) == ([1], [], True)
