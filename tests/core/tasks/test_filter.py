"""What a filter takes, and refuses. Which tasks it matches is tested with every backend, by cancelling them."""

import re
from datetime import UTC, datetime, timedelta, timezone
from functools import reduce
from threading import Thread
from typing import Any
from uuid import UUID

import pytest

from fang_core import TaskFilter, TaskState, UsageError
from fang_core.tasks.selecting.filter import CONDITIONS, checked_filter, contains

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
    "updated_before": (NOW, NOW),
    "updated_after": (NOW, NOW),
    "due_before": (NOW, NOW),
    "due_after": (NOW, NOW),
    "error": ("timed out", "timed out"),
    "payload": ({"items": ({"sku": 7},)}, {"items": [{"sku": 7}]}),
    "pool_ids": ({ONE}, (ONE,)),
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
    {"updated_after": 7},
    {"due_before": datetime(2026, 1, 1)},  # noqa: DTZ001
    {"error": "no"},
    {"error": ["one", "two"]},
    {"error": "x" * 2_001},
    {"error": "a\0b"},
    {"error": "lone \ud800"},
    {"payload": {}},
    {"payload": []},
    {"payload": {"a": float("nan")}},
    {"payload": {"a": {"b": object()}}},
    {"payload": {"a": ["x\0"]}},
    {"payload": {"a": "lone \ud800"}},
    {"payload": {"a": reduce(lambda inner, _: [inner], range(1_200), [])}},
    {"kinds": "lone \ud800"},
    {"task_types": ["lone \ud800"]},
    {"payload": {"a": "x" * 9_000}},
    {"pool_ids": ONE},
    {"pool_ids": ["7"]},
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
        ({"kinds": [Thread]}, "TaskFilter: kinds must be names, as str without NUL characters and lone surrogates"),
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


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ({"a": 1}, True),
        ({"a": 1.0}, True),
        ({"a": True}, False),
        ({"a": None}, False),
        ({"none": None}, True),
        ({"none": 0}, False),
        ({"missing": None}, False),
        ({"list": [2]}, True),
        ({"list": [2, 2, 1]}, True),
        ({"list": []}, True),
        ({"list": 1}, False),
        ({"list": {}}, False),
        ({"of": [{"x": 1}]}, True),
        ({"of": [{"x": 1, "y": 2}]}, True),
        ({"of": [{"x": 2, "y": 2}]}, False),
        ({"deep": {"deeper": {}}}, True),
        ({"deep": {}, "a": 2}, False),
    ],
)
def test_a_payload_has_another_one_in_it_as_postgres_has_it(part: dict[str, Any], expected: bool) -> None:
    whole = {"a": 1, "none": None, "list": [1, 2], "of": [{"x": 1, "y": 2}, {"x": 2}], "deep": {"deeper": {"n": 1}}}
    assert contains(whole, part) is expected


def test_a_digest_tells_filters_apart_and_no_equal_ones() -> None:
    filters = [TaskFilter(**{name: given}) for name, (given, _) in GOOD.items()] + [TaskFilter()]
    assert len({which.digest for which in filters}) == len(filters)
    for one, other in (
        ({"states": ["new", "failed"]}, {"states": [TaskState.FAILED, TaskState.NEW]}),
        ({"headers": {"a": "1", "b": "2"}}, {"headers": {"b": "2", "a": "1"}}),
        ({"due_before": NOW}, {"due_before": NOW.astimezone(timezone(timedelta(hours=3)))}),
    ):
        assert TaskFilter(**one).digest == TaskFilter(**other).digest
