"""The table of what a pool's death means for its tasks, in the words of docs/guarantees.md."""

import json
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from fang_core.backends.memory.state import MemoryState
from fang_core.backends.pools import Rescued
from fang_core.crashes import ISOLATED_TRIES, MOST_CRASHES, MOST_GROUP, SUSPECT_AFTER, AfterCrash, after_crash
from fang_core.record import Task, TaskState

NOW = datetime(2024, 2, 29, 12, 0, tzinfo=UTC)
NEW, RETRIED, FAILED = TaskState.NEW, TaskState.RETRIED, TaskState.FAILED
POOL, OTHER = UUID(int=1), UUID(int=2)


def held(
    crashes: int, retries: int = 0, *, number: int = 7, pool_id: UUID = POOL, group_limit: int | None = None
) -> Task:
    return Task(
        id=UUID(int=number),
        metadata={"type": "Crashing"},
        kind="Crashing",
        task_type="common",
        state=TaskState.IN_PROGRESS,
        priority=0,
        retries=retries,
        max_retries=None,
        crashes=crashes,
        attempt=5,
        scheduled_at=NOW,
        created_at=NOW,
        updated_at=NOW,
        pool_id=pool_id,
        claimed_at=NOW,
        group_limit=group_limit,
    )


@pytest.mark.parametrize(("others", "limit"), [(0, 1), (1, None), (9, 7)])
@pytest.mark.parametrize(
    ("crashes", "retries", "state"), [(0, 0, NEW), (0, 1, RETRIED), (1, 0, RETRIED), (2, 0, RETRIED), (9, 9, RETRIED)]
)
def test_nothing_is_charged_if_the_pool_was_stopping(
    crashes: int, retries: int, state: TaskState, others: int, limit: int | None
) -> None:
    task = held(crashes, retries, group_limit=limit)
    after = after_crash(task, was_stopping=True, held=1 + others, workers=4, max_crashes=1)
    assert after == AfterCrash(False, crashes, state, limit)


@pytest.mark.parametrize("crashes", [2, 3, MOST_CRASHES])
@pytest.mark.parametrize("max_crashes", [1, 2, 3])
@pytest.mark.parametrize(
    ("limit", "others", "workers", "half"),
    [
        (None, 31, 32, 16),
        (None, 40, 32, 16),
        (None, 8, 32, 16),
        (None, 8, None, 4),
        (None, 8, 0, 4),
        (None, 99_999, None, MOST_GROUP // 2),
        (16, 31, 32, 8),
        (3, 31, 32, 1),
        (2, 31, 32, 1),
        (1, 31, 32, 1),
        (0, 31, 32, 1),
        (-7, 31, 32, 1),
        (16, 1, 32, 8),
        (16, 31, 1, 1),
    ],
)
def test_a_suspect_beside_other_tasks_is_tried_in_smaller_groups(
    crashes: int, max_crashes: int, limit: int | None, others: int, workers: int | None, half: int
) -> None:
    task = held(crashes, group_limit=limit)
    after = after_crash(task, was_stopping=False, held=1 + others, workers=workers, max_crashes=max_crashes)
    assert after == AfterCrash(False, crashes, RETRIED, half)


@pytest.mark.parametrize("others", [0, 9])
@pytest.mark.parametrize("crashes", [2, 3, MOST_CRASHES])
@pytest.mark.parametrize(("limit", "half"), [(None, MOST_GROUP // 2), (7, 3), (2, 1)])
def test_a_suspect_that_ran_in_a_child_process_is_not_charged_with_the_death_of_its_pool(
    crashes: int, others: int, limit: int | None, half: int
) -> None:
    task = held(crashes, group_limit=limit)
    after = after_crash(task, was_stopping=False, held=1 + others, workers=4, max_crashes=3, is_isolated=True)
    assert after == AfterCrash(False, crashes, RETRIED, half)


def test_a_suspect_that_kills_one_pool_after_the_other_from_its_child_process_is_parked_at_last() -> None:
    task = held(SUSPECT_AFTER)
    for _ in range(ISOLATED_TRIES):
        after = after_crash(task, was_stopping=False, held=1, workers=32, max_crashes=3, is_isolated=True)
        assert not after.is_charged
        task = task._replace(group_limit=after.group_limit)
    beside = after_crash(task, was_stopping=False, held=2, workers=32, max_crashes=3, is_isolated=True)
    assert (beside.is_charged, beside.group_limit) == (False, 1)
    assert after_crash(task, was_stopping=False, held=1, workers=32, max_crashes=3, is_isolated=True).state is FAILED


@pytest.mark.parametrize(("limit", "then"), [(None, None), (7, None), (1, 1)])
def test_a_task_that_was_alone_in_a_pool_that_isolates_it_need_not_run_alone(
    limit: int | None, then: int | None
) -> None:
    task = held(SUSPECT_AFTER - 1, group_limit=limit)
    after = after_crash(task, was_stopping=False, held=1, workers=4, max_crashes=9, is_isolated=True)
    assert (after.is_charged, after.group_limit) == (True, then)


def test_before_it_is_a_suspect_it_did_not_run_in_one_for_sure() -> None:
    after = after_crash(held(1), was_stopping=False, held=1, workers=4, max_crashes=3, is_isolated=True)
    assert after[:3] == (True, 2, RETRIED)


@pytest.mark.parametrize(
    ("crashes", "is_alone", "max_crashes", "state", "seconds"),
    [
        (0, False, 3, RETRIED, None),
        (0, True, 3, RETRIED, None),
        (1, False, 3, RETRIED, None),
        (1, True, 3, RETRIED, 4),
        (2, True, 3, FAILED, 8),
        (2, True, 4, RETRIED, 8),
        (0, False, 1, FAILED, None),
        (0, False, 2, RETRIED, None),
        (1, False, 2, FAILED, None),
        (8, True, 1_000, RETRIED, 512),
        (9, True, 1_000, RETRIED, 1_024),
        (99, True, 1_000, RETRIED, 1_024),
    ],
)
def test_every_other_task_is_charged(
    crashes: int, is_alone: bool, max_crashes: int, state: TaskState, seconds: int | None
) -> None:
    """At 1 and 2 innocent tasks are parked with the others: they are no suspects yet.

    One that was alone twice or more often runs alone from then on, after a delay.
    """
    task = held(crashes, group_limit=7)
    after = after_crash(task, was_stopping=False, held=1 if is_alone else 2, workers=4, max_crashes=max_crashes)
    delay, limit = (None, None) if seconds is None else (timedelta(seconds=seconds), 1)
    assert after[:5] == (True, crashes + 1, state, limit, delay)
    message = f"crashed: the process of its worker died under it, {crashes + 1} of {max_crashes} times"
    assert after.error_message == message
    assert json.loads(after.error_entry or "") == {"number": 5, "error": message, "traceback": None}


def test_the_count_stays_within_its_column() -> None:
    after = after_crash(held(MOST_CRASHES), was_stopping=False, held=1, workers=1, max_crashes=1_000)
    assert (after.crashes, after.state) == (MOST_CRASHES, FAILED)


def test_in_memory_only_the_dead_pools_tasks_are_taken_back() -> None:
    woken: list[object] = []
    state = MemoryState(clock=lambda: NOW)
    mine, others = held(0, number=1), held(0, number=2, pool_id=OTHER)
    state.tasks.update({task.id: task for task in (mine, others)})
    state.listeners.add("test", ["common"], woken.append, lambda _: None)
    assert state.orphaned() == {POOL, OTHER}
    assert state.rescue(POOL, was_stopping=False, max_crashes=3) == [
        Rescued(mine.id, "Crashing", 5, 1, RETRIED, was_stopping=False, charged=True, task_type=mine.task_type)
    ]
    assert state.tasks[others.id] is others
    assert woken == [None]
    assert state.orphaned() == {OTHER}
