"""Moves by hand: pure, and held to their table."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fang_core import TaskState, UsageError
from fang_core.lifecycle import (
    BY_HAND,
    DUE_STATES,
    TERMINAL_STATES,
    Change,
    change_by_hand,
    fail_by_hand,
    retry_by_hand,
)
from fang_core.record import Task

NOW = datetime(2024, 2, 29, 12, 0, tzinfo=UTC)

texts = st.text(max_size=30)


def read(state: TaskState, attempt: int) -> Task:
    return Task(uuid4(), {}, "Some", "common", state, 0, 0, 20, 0, attempt, NOW, NOW, NOW)


rows = st.builds(read, st.sampled_from(TaskState), st.integers(0, 2**40))


@given(rows, st.sampled_from(TaskState))
def test_a_move_by_hand_keeps_to_its_table(row: Task, state: TaskState) -> None:
    if state not in BY_HAND[row.state]:
        with pytest.raises(UsageError, match=f"^a task that is {row.state} cannot be made {state}, only "):
            change_by_hand(row, state)
        return
    for named in (state, str(state)):
        assert change_by_hand(row, named) == Change(row, state, revives=row.state in TERMINAL_STATES)  # type: ignore[arg-type]


def test_the_table_by_hand() -> None:
    """Nobody can claim by hand, nor leave a task where it is; an ended one can only begin again."""
    assert BY_HAND.keys() == set(TaskState)
    for state, possible in BY_HAND.items():
        assert possible
        assert possible.isdisjoint({state, TaskState.IN_PROGRESS})
        if state in TERMINAL_STATES:
            assert possible == {TaskState.NEW}
        else:
            assert possible >= set(TERMINAL_STATES)


@given(rows, texts)
def test_a_failure_by_hand(row: Task, text: str) -> None:
    if row.state in (*DUE_STATES, TaskState.IN_PROGRESS):
        change = fail_by_hand(row, text)
        assert change == Change(row, TaskState.FAILED, False, None, 0, change.error_message, change.error_entry)
        _tells(change, row, text)
    else:
        with pytest.raises(UsageError, match="cannot be made failed"):
            fail_by_hand(row, text)


@given(rows, st.timedeltas(), texts)
def test_a_retry_by_hand(row: Task, delay: timedelta, text: str) -> None:
    if row.state is TaskState.IN_PROGRESS:
        change = retry_by_hand(row, delay, text)
        bounded = min(max(delay, timedelta(0)), timedelta(days=3660))
        assert change == Change(row, TaskState.RETRIED, False, bounded, 1, change.error_message, change.error_entry)
        _tells(change, row, text)
    else:
        with pytest.raises(UsageError, match="cannot be made retried"):
            retry_by_hand(row, delay, text)


def _tells(change: Change, row: Task, text: str) -> None:
    message = change.error_message
    assert message == text.replace("\0", "␀").encode("utf-8", "replace").decode()
    entry = json.loads(change.error_entry or "")
    assert entry == {"number": row.attempt, "error": message, "traceback": None}


@pytest.mark.parametrize("state", ["gone", None, 7, [], "IN_PROGRESS"], ids=repr)
def test_what_is_no_state(state: Any) -> None:
    with pytest.raises(UsageError, match=r"is no state of a task$"):
        change_by_hand(read(TaskState.NEW, 0), state)


@pytest.mark.parametrize("task", [uuid4(), None, "task"], ids=lambda task: type(task).__name__)
def test_a_move_is_of_the_row_that_was_read(task: Any) -> None:
    with pytest.raises(UsageError, match=r"^give the Task that was read, not "):
        change_by_hand(task, TaskState.FAILED)
