"""Tests what an insert gives a task besides its payload: headers, a time limit, and when it expires."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest

from fang_core.conformance.backend import Backend
from fang_core.errors import FangError, IdInUse, UsageError
from fang_core.record import Task, TaskState
from fang_core.tasks.insert_middleware import Insertion

MINUTE: Final = timedelta(minutes=1)
HEADERS: Final = {"traceparent": "00-0af7651916cd43dd", "é \n": '"', "": ""}
OPTIONS: Final[dict[str, Any]] = {"headers": HEADERS, "timeout": 1.5 * MINUTE, "expires": 90.000001 * MINUTE}


def inserts(backend: Backend) -> Sequence[Callable[..., Task]]:
    """Returns the ways in which one task can be inserted."""
    return (
        backend.insert,
        lambda task, **options: backend.insert_many([task, backend.note(n=-1)], **options)[0],
        lambda task, **options: backend.insert_many([backend.note(n=-1), task], uniq=True, **options)[1],
    )


def expired() -> datetime:
    """Returns a time that lies back by the clock of any backend."""
    return datetime.now(UTC) - 60 * MINUTE


class OptionSuite:
    """Tests ``headers``, ``timeout`` and ``expires``."""

    def test_what_an_insert_says_is_in_the_row_and_reaches_every_run(self, backend: Backend) -> None:
        client = backend.client()
        for number, insert in enumerate(inserts(backend)):
            inserted = insert(backend.note(n=number), **OPTIONS)
            expires_at = inserted.scheduled_at + OPTIONS["expires"]
            said = (HEADERS, OPTIONS["timeout"], expires_at, None)
            assert (inserted.headers, inserted.timeout, inserted.expires_at, inserted.cancel_request) == said
            assert backend.row(inserted) == inserted
            for attempt in (1, 2):
                task = next(task for task in client.claim() if task.id == inserted.id)
                assert (task.attempt, *task[-5:]) == (attempt, *said, None)
                assert client.end(task, TaskState.RETRIED, charge=1)
            backend.call(backend.queue.remove_all_tasks)

    def test_without_them_a_task_has_none(self, backend: Backend) -> None:
        client = backend.client()
        for number, insert in enumerate(inserts(backend)):
            nothing: dict[str, Any] = {}
            for options in (nothing, {"headers": nothing}):
                inserted = insert(backend.note(n=number), **options)
                assert (inserted.headers, inserted.timeout, inserted.expires_at) == (None, None, None)
                assert backend.row(inserted) == inserted
                assert {task[-5:] for task in client.claim()} == {(None,) * 5}
                backend.call(backend.queue.remove_all_tasks)

    def test_what_the_caller_does_with_its_headers_later_changes_nothing(self, backend: Backend) -> None:
        headers = {"a": "1"}
        inserted = backend.insert(backend.note(), headers=headers)
        headers["a"] = "2"
        assert inserted.headers == backend.row(inserted).headers == {"a": "1"}

    def test_a_task_is_the_same_with_other_headers(self, backend: Backend) -> None:
        first = backend.insert(backend.note(), uniq=True, headers={"a": "1"}, timeout=MINUTE)
        for options in ({"headers": {"a": "2"}}, {"timeout": 2 * MINUTE}, {"expires": MINUTE}):
            for which in ({"uniq": True}, {"id": first.id}):
                again = backend.insert(backend.note(), **which, **options)
                assert again == first._replace(conflict=True)

    def test_a_task_expires_so_long_after_it_is_due_or_at_the_time_that_is_said(self, backend: Backend) -> None:
        due = datetime.now(UTC) + 60 * MINUTE
        for insert in inserts(backend):
            for when in ({"delay": 60 * MINUTE}, {"scheduled_at": due}):
                inserted = insert(backend.note(), expires=MINUTE, **when)
                assert inserted.expires_at == inserted.scheduled_at + MINUTE
                assert inserted.expires_at > due
                assert insert(backend.note(n=1), expires=due, **when).expires_at == due
                backend.call(backend.queue.remove_all_tasks)
        last = backend.insert(backend.note(), scheduled_at=datetime(9999, 12, 28, tzinfo=UTC), expires=10_000 * MINUTE)
        assert last.expires_at == backend.row(last).expires_at == datetime(9999, 12, 29, tzinfo=UTC)

    def test_a_task_of_a_schedule_has_what_its_class_says(self, backend: Backend) -> None:
        note = backend.yearly_note()
        row: Task = backend.call(backend.queue.schedule_task, note)
        assert (row.timeout, row.expires_at) == (60 * MINUTE, row.scheduled_at + timedelta(days=30))
        assert backend.row(row) == row

    def test_an_expired_task_is_cancelled_without_a_run(self, backend: Backend) -> None:
        late = backend.insert(backend.note(n=1), expires=expired(), headers=HEADERS)
        backend.insert(backend.note(n=2), expires=60 * MINUTE)
        assert backend.drain() == 1
        assert [ran.n for ran in backend.journal] == [2]
        row = backend.row(late)
        assert (row.state, row.error_message, row.errors, row.retries) == (TaskState.CANCELLED, "expired", (), 0)
        assert (row.headers, row.expires_at, row.pool_id) == (HEADERS, late.expires_at, None)

    def test_a_revived_task_no_longer_expires(self, backend: Backend) -> None:
        row = backend.insert(backend.note(n=1), expires=expired(), headers=HEADERS)
        assert backend.drain() == 0
        revived = backend.move(backend.row(row), TaskState.NEW)
        assert (revived.expires_at, revived.headers) == (None, HEADERS)
        assert backend.drain() == 1
        assert [ran.n for ran in backend.journal] == [1]

    def test_a_queue_adds_to_the_headers_of_each_insert_once(self, backend: Backend) -> None:
        seen: list[dict[str, str]] = []

        def add(headers: dict[str, str]) -> None:
            seen.append(dict(headers))
            headers["call"] = str(len(seen))

        backend.reopen(inject=[add, lambda headers: headers.pop("secret", None)])
        own = {"a": "1", "secret": "x"}
        assert backend.insert(backend.note(), headers=own).headers == {"a": "1", "call": "1"}
        rows = backend.insert_many([backend.note(n=n) for n in range(3)])
        assert [row.headers for row in rows] == [{"call": "2"}] * 3
        assert (seen, own) == ([own, {}], {"a": "1", "secret": "x"})
        assert backend.row(rows[0]) == rows[0]
        tick: Task = backend.call(backend.queue.schedule_task, backend.yearly_note())
        assert (tick.headers, len(seen)) == (None, 2)  # it has no caller

    def test_insert_middleware_goes_around_each_insert_and_changes_its_headers(self, backend: Backend) -> None:
        seen: list[object] = []

        @contextmanager
        def around(insertion: Insertion) -> Iterator[None]:
            insertion.headers["call"] = str(len(seen))
            seen.append((insertion.is_bulk, len(insertion.tasks), insertion.task_types, insertion.rows))
            try:
                yield
            except FangError as error:
                seen.append(type(error))  # and is raised all the same
            else:
                seen.append(tuple(insertion.rows or ()))

        backend.reopen(insert_middleware=[around])
        row = backend.insert(backend.note(), headers={"a": "1"})
        rows = backend.insert_many(iter([backend.note(n=1), backend.note(n=2)]), task_type="other")
        (common,) = {row.task_type}
        assert row.headers == {"a": "1", "call": "0"}
        assert [each.headers for each in rows] == [{"call": "2"}] * 2
        assert seen == [(False, 1, (common,), None), (row,), (True, 2, ("other",), None), tuple(rows)]
        with pytest.raises(IdInUse):
            backend.insert(backend.note(n=7), id=row.id)
        assert seen[-1] is IdInUse
        with pytest.raises(UsageError, match="give several tasks"):
            backend.insert_many(backend.note())

    def test_what_it_raises_while_it_adds_them_is_raised_by_the_insert(self, backend: Backend) -> None:
        def refuse(headers: dict[str, str]) -> None:
            raise LookupError("no trace")

        backend.reopen(inject=[refuse])
        for insert in inserts(backend):
            with pytest.raises(LookupError, match="no trace"):
                insert(backend.note())
        assert backend.call(backend.queue.count_by_kind) == {}
