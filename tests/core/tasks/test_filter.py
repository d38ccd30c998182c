"""What a filter takes, and refuses. Which tasks it matches is tested with every backend, by cancelling them."""

import re
from datetime import UTC, datetime
from threading import Thread
from typing import Any
from uuid import UUID

import pytest

from fang_core import TaskFilter, TaskState, UsageError
from fang_core.tasks.filter import CONDITIONS, checked_filter

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ONE = UUID(int=1)

GOOD: dict[str, tuple[Any, Any]] = {
    "kinds": ("Mail", ("Mail",)),
    "task_types": (["b", "a", "b"], ("b", "a")),
    "states": (["new", TaskState.NEW, TaskState.FAILED], (TaskState.NEW, TaskState.FAILED)),
    "ids": ([ONE, ONE], (ONE,)),
    "headers": ({"user": "7"}, {"user": "7"}),
    "inserted_before": (NOW, NOW),
    "inserted_after": (NOW, NOW),
}
BAD: list[dict[str, Any]] = [
    {"kinds": 7},
    {"kinds": [7]},
    {"kinds": ["a\0"]},
    {"kinds": {"a": 1}},
    {"task_types": b"mail"},
    {"task_types": iter(["mail"])},  # an iterator has no name that all processes of a test run share: see ids
    {"states": "waiting"},
    {"states": [None]},
    {"ids": ONE},
    {"ids": str(ONE)},
    {"ids": [str(ONE)]},
    {"headers": {}},
    {"headers": []},
    {"headers": {"user": 7}},
    {"inserted_before": "now"},
    {"inserted_after": datetime(2026, 1, 1)},  # noqa: DTZ001
    {"all_tasks": 1},
    {"all_tasks": True, "kinds": "Mail"},
    {"all_tasks": True, "ids": []},
    {"kind": "Mail"},
]


@pytest.mark.parametrize("name", CONDITIONS)
def test_a_condition_is_kept_in_one_form(name: str) -> None:
    given, kept = GOOD[name]
    which = TaskFilter(**{name: given})
    assert getattr(which, name) == kept
    assert not which.is_empty
    assert checked_filter(which) is which


@pytest.mark.parametrize("given", BAD, ids=lambda given: repr(list(given)))
def test_what_no_task_can_have_is_refused_in_one_line(given: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"^[^\n]*$"):
        TaskFilter(**given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"kinds": Thread}, "TaskFilter: kinds must be a name, or a list, a tuple or a set, not the class Thread"),
        ({"kinds": [Thread]}, "TaskFilter: kinds must be names, as str without NUL characters"),
        ({"ids": ONE}, "TaskFilter: ids must be a list, a tuple or a set, not UUID"),
        ({"ids": [str(ONE)]}, "ids must be a UUID, not str: write UUID('...')"),
    ],
)
def test_the_error_says_what_to_give(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        TaskFilter(**given)


def test_only_a_filter_that_says_so_is_about_every_task() -> None:
    with pytest.raises(UsageError, match="all_tasks=True"):
        checked_filter(TaskFilter())
    assert checked_filter(TaskFilter(all_tasks=True)).is_empty
    empty: Any = {"ids": [], "kinds": [], "task_types": [], "states": []}
    for name, values in empty.items():
        assert not checked_filter(TaskFilter(**{name: values})).is_empty
