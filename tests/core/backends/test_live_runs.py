"""What the holder of a task has told of its run: by its record, and by the runs that it names."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import pytest

from fang_core.backends.live_runs import told_of_run
from fang_core.lifecycle import TaskState
from fang_core.monitoring.facts import NOTHING_TOLD, RunFacts
from fang_core.record import LiveRun, Task

NOW: Final = datetime(2030, 1, 1, tzinfo=UTC)
TOLD: Final = NOW - timedelta(seconds=2)
TASK: Final = Task(
    id=UUID(int=1),
    metadata={"type": "Told"},
    kind="Told",
    task_type="common",
    state=TaskState.IN_PROGRESS,
    priority=0,
    retries=0,
    max_retries=None,
    crashes=0,
    attempt=2,
    scheduled_at=NOW,
    created_at=NOW,
    updated_at=NOW,
    pool_id=UUID(int=7),
    claimed_at=NOW - timedelta(seconds=50),
)
HUNG: Final = {"attempt": 2, "hung": "app.py:3", "since": (NOW - timedelta(seconds=40)).isoformat()}


def live(attempt: int = 2) -> LiveRun:
    return LiveRun(TASK.id, "Told", 30.0, attempt)


@pytest.mark.parametrize(
    ("notable", "runs", "told_at", "expected"),
    [
        (None, [], None, NOTHING_TOLD),
        (HUNG, [], None, RunFacts(40.0, "app.py:3")),  # it hangs before the pool has named any run
        (None, [live()], TOLD, RunFacts(32.0, names_all=True)),
        (HUNG, [live()], TOLD, RunFacts(32.0, "app.py:3", names_all=True)),
        (HUNG | {"attempt": 1}, [live(attempt=1)], TOLD, RunFacts(names_all=True)),  # of a former run
        ("no mapping", [], TOLD, NOTHING_TOLD),
    ],
)
def test_what_is_told(notable: Any, runs: list[LiveRun], told_at: datetime | None, expected: RunFacts) -> None:
    assert told_of_run(TASK, NOW, notable, runs, busy=1, told_at=told_at) == expected


def test_the_runs_are_not_all_if_they_were_named_before_the_claim() -> None:
    assert not told_of_run(TASK, NOW, None, [live()], busy=1, told_at=NOW - timedelta(minutes=1)).names_all
