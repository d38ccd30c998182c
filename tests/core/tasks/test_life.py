from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fang_core.record import Task, TaskState
from fang_core.tasks.life import failed_attempts, life
from tests.core.monitoring.test_explaining import NOW, task_of

FAILED_AT = "2026-03-01T12:00:00+00:00"


def texts(task: Task) -> list[str]:
    return [moment.text for moment in life(task)]


def test_a_life_is_told_in_order_with_what_is_ahead_at_the_end() -> None:
    task = task_of(
        state=TaskState.RETRIED,
        created_at=datetime(2026, 3, 1, tzinfo=UTC),
        scheduled_at=NOW - timedelta(days=999),  # due before anything else happened
        expires_at=NOW,
        attempt=1,
        errors=[{"number": 1, "time": FAILED_AT, "error": "ValueError: no\nmore"}],
    )
    assert texts(task) == [
        "inserted",
        "attempt 1 failed: ValueError: no",
        "due, for attempt 2",
        "expires: no run begins later",
    ]


@pytest.mark.parametrize(
    ("changes", "end"),
    [
        ({"state": TaskState.FINISHED, "attempt": 2}, "finished after attempt 2"),
        ({"state": TaskState.CANCELLED, "attempt": 0, "error_message": "wrong"}, "cancelled: wrong"),
        ({"state": TaskState.FAILED, "attempt": 1, "errors": [{}], "error_message": "no"}, "failed after attempt 1"),
    ],
)
def test_an_end_tells_what_nothing_before_it_has_told(changes: dict[str, Any], end: str) -> None:
    assert texts(task_of(**changes))[-1] == end


@pytest.mark.parametrize(
    "told",
    [
        {"number": 1, "time": "yesterday", "error": {"a": 1}, "traceback": None},
        {"time": "2026-11-29T00:00:00", "number": None},
        {},
    ],
)
def test_a_row_that_another_program_wrote_has_a_life(told: dict[str, Any]) -> None:
    task = task_of(errors=[told, "text"], cancel_request={"reason": 5})
    assert [each.at for each in failed_attempts(task)] == [None]
    assert "someone asked to cancel it: 5" in texts(task)
