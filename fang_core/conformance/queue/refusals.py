"""Tests that bad input is refused before anything is sent, so that the caller's transaction stays usable."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid4

import pytest

from fang_core.conformance.backend import Backend
from fang_core.conformance.queue.every_method import Everything, methods
from fang_core.errors import UsageError, WrongArguments
from fang_core.messages import PoolMessage, Stop
from fang_core.record import TaskState
from fang_core.tasks.selecting.filter import TaskFilter

HOUR: Final = timedelta(hours=1)

BAD_OPTIONS: Final[dict[str, list[object]]] = {
    "priority": [3, -3, "1", True, 1.0],
    "scheduled_at": [
        datetime(2030, 1, 1),  # noqa: DTZ001 - a zone must be missing
        datetime.min.replace(tzinfo=UTC),
        datetime.max.replace(tzinfo=UTC),
        "2030-01-01T00:00:00Z",
    ],
    "delay": [timedelta.max, -HOUR, 60],
    "task_type": ["", "a\0", "\ud800", "x" * 501, 5],
    "max_retries": [-1, 2**31, "5"],
    "uniq": ["yes", 1],
}
"""Options of inserts; ``id`` is not among them, since only ``insert_task`` takes it."""

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

READING: Final = ("list_tasks", "count_tasks")
"""They take no connection of the caller's."""

BAD_STATES: Final[list[object]] = ["NEW", "gone", None, 7, TaskState.NEW, TaskState.IN_PROGRESS, TaskState.RETRIED]
"""States that a new task cannot be moved to."""

Call = tuple[str, tuple[Any, ...], dict[str, Any]]
"""(method, arguments, options)"""


def bad_calls(backend: Backend) -> Iterator[Call]:
    """Yields every call that must be refused. Some calls insert a good row first."""
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

    yield from (("cancel_task", (bad,), {}) for bad in (row, str(row.id), None))
    yield from (("cancel_task", (row.id, bad), {}) for bad in (None, ValueError("no"), b"no"))
    yield "cancel_task", (row.id,), {"by": 7}
    yield from (("cancel_tasks", (bad,), {}) for bad in (TaskFilter(), None, "common", row.id, [row.id]))
    yield "cancel_tasks", (TaskFilter(all_tasks=True), None), {}
    for call in ("retry_tasks", "remove_tasks"):
        yield from ((call, (bad,), {}) for bad in (TaskFilter(), None, "common", row.id, [row.id]))
        yield call, (TaskFilter(all_tasks=True),), {"on_progress": 7}
    yield "retry_tasks", (TaskFilter(all_tasks=True),), {"by": 7}
    for call in READING:
        yield from ((call, (bad,), {}) for bad in (None, "common", row.id, {"states": "new"}))
    yield from (("list_tasks", (), {"limit": bad}) for bad in (0, 501, None, "7", True, 1.5))
    yield from (("list_tasks", (), {"cursor": bad}) for bad in (7, "", "x", b"x", "A" * 10_000))
    yield from (("count_tasks", (), {"up_to": bad}) for bad in (0, 100_001, None, "7", True))
    yield "cancel_tasks", (TaskFilter(all_tasks=True),), {"by": 7}
    yield "cancel_tasks", (TaskFilter(all_tasks=True),), {"on_progress": 7}


def refusal(backend: Backend, call: Call, **options: Any) -> str | None:
    """Returns the text of the ``UsageError``; None if the call was accepted."""
    method, arguments, given = call
    try:
        backend.call(getattr(backend.queue, method), *arguments, **given, **options)
    except UsageError as error:
        return str(error)
    return None


class RefusalSuite:
    """Tests calls with bad input."""

    def test_bad_input_is_refused_in_one_line(self, backend: Backend) -> None:
        for call in bad_calls(backend):
            message = refusal(backend, call)
            assert message is not None, f"{call!r:.200} was let through"
            assert "\n" not in message

    def test_bad_input_leaves_the_callers_transaction_usable(self, backend: Backend) -> None:
        backend.needs("transactions")
        with backend.transaction() as connection:
            for call in bad_calls(backend):
                if call[0] in READING:
                    continue
                assert refusal(backend, call, connection=connection) is not None, f"{call!r:.200} was let through"
            kept = backend.insert(backend.note(), connection=connection)
        assert backend.row(kept) == kept

    def test_a_connection_is_refused_without_transactions_to_take_part_in(self, backend: Backend) -> None:
        """Except in memory, where nothing outlives the process: there a test may hand over any connection."""
        backend.needs("outlives_processes")
        if backend.queue.capabilities.transactions:
            pytest.skip("this backend takes part in transactions")
        everything = Everything(backend)
        before = everything.all_there_is()
        for method in methods():
            if method.takes_connection:
                with pytest.raises(UsageError, match="insert after your commit"):
                    everything.call(method.name, connection=object())
        assert everything.all_there_is() == before

    def test_a_message_that_no_pool_can_be_sent_is_refused(self, backend: Backend) -> None:
        client = backend.client()
        for pool_id, message in ((client.id, "stop"), (client.id, Stop), (client.id, PoolMessage()), ("pool", Stop())):
            with pytest.raises(UsageError, match=r"^[^\n]*$"):
                backend.call(backend.queue.control, pool_id, message)
        assert not client.beat().messages

    def test_options_that_there_are_none_of_are_refused(self, backend: Backend) -> None:
        for insert, given in ((backend.insert, backend.note()), (backend.insert_many, [backend.note()])):
            with pytest.raises(WrongArguments, match=r"'max_retry' \(did you mean 'max_retries'\?\)"):
                insert(given, max_retry=1)
            with pytest.raises(WrongArguments, match="'conection'"):
                insert(given, conection=None)
        with pytest.raises(WrongArguments, match="id"):
            backend.insert_many([backend.note()], id=uuid4())
        assert backend.drain() == 0
