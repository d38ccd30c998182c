"""Bad input: refused before anything is sent, so that the caller's transaction is still good."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid4

import pytest

from fang_core.conformance.backend import Backend, needs
from fang_core.errors import UsageError
from fang_core.record import TaskState

HOUR: Final = timedelta(hours=1)

BAD_OPTIONS: Final[dict[str, list[object]]] = {
    "priority": [3, -3, "1", True, 1.0],
    "scheduled_at": [
        datetime(2030, 1, 1),  # noqa: DTZ001 - that is the point
        datetime.min.replace(tzinfo=UTC),
        datetime.max.replace(tzinfo=UTC),
        "2030-01-01T00:00:00Z",
    ],
    "delay": [timedelta.max, -HOUR, 60],
    "task_type": ["", "a\0", "\ud800", "x" * 501, 5],
    "max_retries": [-1, 2**31, "5"],
    "uniq": ["yes", 1],
}
"""Of inserts; an id is for a single one."""

BAD_IDS: Final[list[object]] = ["x", str(UUID(int=7)), 7]

BAD_ARGUMENTS: Final[dict[str, list[object]]] = {
    "insert_task": [{"n": 1}, "task", None],
    "insert_tasks": [[{"n": 1}], [None]],
    "schedule_task": ["task", None],
    "find_task_by_id": [*BAD_IDS, None],
    "fetch_and_touch_task": ["a\0", "\ud800", 7, None],
    "remove_task": [*BAD_IDS, None],
    "remove_task_by_metadata": ["task", None],
    "remove_tasks_type": ["a\0", "\ud800", 7, None],
}

BAD_STATES: Final[list[object]] = ["NEW", "gone", None, 7, TaskState.NEW, TaskState.IN_PROGRESS, TaskState.RETRIED]
"""For a new task."""

Call = tuple[str, tuple[Any, ...], dict[str, Any]]
"""(method, arguments, options)"""


def bad_calls(backend: Backend) -> Iterator[Call]:
    """Everything that is to be refused. Some of it begins with a good row."""
    note = backend.note
    yield from (("insert_task", (note(),), {"id": bad}) for bad in BAD_IDS)
    for name, values in BAD_OPTIONS.items():
        yield from (("insert_task", (note(),), {name: value}) for value in values)
        yield from (("insert_tasks", ([note(), note()],), {name: value}) for value in values)
    for method, values in BAD_ARGUMENTS.items():
        yield from ((method, (value,), {}) for value in values)

    assigned = note()
    assigned.n = "seven"  # type: ignore[assignment]
    row = backend.insert(note(), delay=HOUR)
    for bad in (note(text="\0"), note(text="\ud800"), note(text="x" * 2_000_000), assigned, note, row):
        yield "insert_task", (bad,), {}
        yield "insert_tasks", ([note(), bad],), {}
    yield "insert_tasks", (note(),), {}
    yield "schedule_task", (note(),), {}  # it has no schedule

    yield from (("update_task_state", (row, state), {}) for state in BAD_STATES)
    yield from (("update_task_state", (bad, TaskState.FAILED), {}) for bad in (row.id, None, note()))
    yield "fail_task", (row.id, "no"), {}
    yield "fail_task", (row, ValueError("no")), {}
    held = backend.held(note(), task_type="held")
    yield "schedule_retry", (held, 60, "no"), {}
    yield "schedule_retry", (held, HOUR, None), {}
    yield "schedule_retry", (row, HOUR, "no"), {}


def refusal(backend: Backend, call: Call, **options: Any) -> str | None:
    """The text of the ``UsageError``; None where the call was let through."""
    method, arguments, given = call
    try:
        backend.call(getattr(backend.queue, method), *arguments, **given, **options)
    except UsageError as error:
        return str(error)
    return None


class RefusalSuite:
    """What cannot be meant."""

    def test_bad_input_is_refused_in_one_line(self, backend: Backend) -> None:
        for call in bad_calls(backend):
            message = refusal(backend, call)
            assert message is not None, f"{call!r:.200} was let through"
            assert "\n" not in message

    def test_bad_input_leaves_the_callers_transaction_usable(self, backend: Backend) -> None:
        needs(backend.has_transactions, "transactions")
        with backend.transaction() as connection:
            for call in bad_calls(backend):
                assert refusal(backend, call, connection=connection) is not None, f"{call!r:.200} was let through"
            kept = backend.insert(backend.note(), connection=connection)
        assert backend.row(kept) == kept

    def test_options_that_there_are_none_of_are_refused(self, backend: Backend) -> None:
        with pytest.raises(TypeError, match="max_retry"):
            backend.insert(backend.note(), max_retry=1)
        with pytest.raises(TypeError, match="id"):
            backend.insert_many([backend.note()], id=uuid4())
        assert backend.drain() == 0
