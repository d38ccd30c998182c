"""Tests the ticks of schedules in the database: when a pool makes one, and what the last task has to say about that."""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest

from fang_core.backends.scheduling import stored_tick, tick_id
from fang_core.backends.ticking import tick_of
from fang_core.backends.waking import SCHEDULES
from fang_core.conformance.backend import WITHIN, Backend
from fang_core.conformance.clients import Client
from fang_core.conformance.store.control import control
from fang_core.errors import UsageError
from fang_core.record import Task, TaskState
from fang_core.schedules.schedule import Cron, Every
from fang_core.schedules.stored import ScheduleInfo, Verdict, declaration

HOUR: Final = timedelta(hours=1)
LONG_AGO: Final = datetime(2020, 1, 1, tzinfo=UTC)
INSTANT: Final = timedelta(microseconds=1)
NAME: Final = "report"


def put(backend: Backend, name: str = NAME, **options: Any) -> ScheduleInfo:
    """Puts a schedule of a note."""
    info: ScheduleInfo = backend.call(backend.queue.schedules.put, name, backend.note(n=7), every=HOUR, **options)
    return info


def do(backend: Backend, verb: str, *args: Any, **options: Any) -> Any:
    """Calls a method of ``queue.schedules``."""
    return backend.call(getattr(backend.queue.schedules, verb), *args, **options)


def tick(client: Client, info: ScheduleInfo, number: int = 1) -> Verdict:
    """Makes a tick of this number after the last one that was read; each of them is past."""
    return client.tick_stored(stored_tick(info, info.last_tick + number * INSTANT))


def row_of(backend: Backend, info: ScheduleInfo, number: int = 1) -> Task:
    """Returns the task of a tick; fails the test if there is none."""
    found: Task | None = backend.call(
        backend.queue.find_task_by_id, tick_id(info.name, info.last_tick + number * INSTANT)
    )
    assert found is not None, "the tick has no task"
    return found


def read(client: Client, *names: str, known: str = "") -> list[ScheduleInfo]:
    """Returns the schedules that have changed; fails the test if the answer is that none has."""
    changed = client.read_schedules(*names, task_types=["common"], known=known).changed
    assert changed is not None
    return list(changed)


def states(backend: Backend) -> list[str]:
    """Returns the states of all notes, in the order in which they are due."""
    rows: list[Task] = backend.call(backend.queue.tasks_of_kinds, [backend.note.__fang_options__.kind])
    return [str(row.state) for row in sorted(rows, key=lambda row: row.scheduled_at)]


CHANGES: Final[dict[str, Callable[[Backend], Any]]] = {
    "pause": lambda backend: do(backend, "pause", NAME),
    "pause and resume": lambda backend: (do(backend, "pause", NAME), do(backend, "resume", NAME)),
    "put": lambda backend: put(backend, jitter=HOUR),
    "remove": lambda backend: do(backend, "remove", NAME),
}


class TickSuite:
    """Tests the verbs of ``ScheduleStore`` for schedules that live in the database."""

    def test_pools_read_the_schedules_of_their_task_types_if_they_have_changed(self, backend: Backend) -> None:
        client = backend.stranger()
        info = put(backend)
        put(backend, "elsewhere", task_type="elsewhere")
        assert read(client) == [info]
        state = client.read_schedules(task_types=["common"])
        assert client.read_schedules(task_types=["common"], known=state.version).changed is None
        do(backend, "pause", NAME)
        assert [each.paused for each in read(client, known=state.version)] == [True]
        do(backend, "remove", NAME)
        assert read(client, known=state.version) == []

    def test_a_tick_inserts_its_task_once(self, backend: Backend) -> None:
        client, info = backend.stranger(), put(backend, priority=-1)
        at = info.last_tick + INSTANT
        assert tick(client, info) is Verdict.TICKED
        row = row_of(backend, info)
        assert (row.metadata["n"], row.priority, row.scheduled_at, row.state) == (7, -1, at, TaskState.NEW)
        assert tick(client, info) is Verdict.DONE
        assert backend.call(backend.queue.remove_all_tasks) == 1
        assert tick(client, info) is Verdict.DONE
        assert tick(client, info, 0) is Verdict.DONE
        assert states(backend) == []
        assert [(each.last_tick, each.last_task_id) for each in read(client)] == [(at, row.id)]
        other = put(backend, "other")
        edited = backend.insert(backend.note(n=9), id=tick_id("other", other.last_tick + INSTANT))
        assert tick(client, other) is Verdict.TICKED
        assert backend.row(edited) == edited
        assert [each.last_task_id for each in read(client) if each.name == "other"] == [edited.id]

    def test_a_tick_of_a_schedule_that_has_changed_since_is_not_made(self, backend: Backend) -> None:
        for change in CHANGES.values():
            client, info = backend.stranger(), put(backend)
            change(backend)
            assert tick(client, info) is Verdict.STALE
            assert states(backend) == []

    def test_a_tick_ahead_is_not_made(self, backend: Backend) -> None:
        client, info = backend.stranger(), put(backend)
        assert client.tick_stored(stored_tick(info, info.last_tick + HOUR)) is Verdict.STALE
        assert states(backend) == []

    def test_a_tick_that_is_too_late_is_not_made(self, backend: Backend) -> None:
        client, info = backend.stranger(), put(backend, missed="skip", missed_within=INSTANT)
        assert tick(client, info) is Verdict.LATE
        assert states(backend) == []

    def test_jitter_moves_the_task_and_not_the_tick(self, backend: Backend) -> None:
        client, info = backend.stranger(), put(backend, jitter=HOUR)
        at = info.last_tick + INSTANT
        assert tick(client, info) is Verdict.TICKED
        row = row_of(backend, info)
        assert at < row.scheduled_at < at + HOUR

    def test_what_overlaps_is_skipped_until_the_last_task_has_ended(self, backend: Backend) -> None:
        client, info = backend.stranger(), put(backend, overlap="skip")
        assert tick(client, info) is Verdict.TICKED
        assert tick(client, info, 2) is Verdict.SKIPPED
        assert tick(client, info, 2) is Verdict.DONE
        holder = backend.client()
        (task,) = holder.claim()
        assert tick(client, info, 3) is Verdict.SKIPPED
        assert holder.end(task)
        assert tick(client, info, 4) is Verdict.TICKED
        assert states(backend) == ["new"]

    def test_one_tick_waits_for_the_end_of_the_last_run(self, backend: Backend) -> None:
        client, info = backend.stranger(), put(backend, overlap="queue_one")
        assert tick(client, info) is Verdict.TICKED
        assert tick(client, info, 2) is Verdict.SKIPPED
        holder = backend.client()
        (task,) = holder.claim()
        assert tick(client, info, 3) is Verdict.WAITS
        assert tick(client, info, 4) is Verdict.WAITS
        assert holder.end(task)
        assert tick(client, info, 4) is Verdict.TICKED
        assert states(backend) == ["new"]

    def test_the_last_task_is_cancelled_for_the_next_one(self, backend: Backend) -> None:
        client, info = backend.stranger(), put(backend, overlap="cancel_running")
        assert tick(client, info) is Verdict.TICKED
        assert tick(client, info, 2) is Verdict.TICKED
        assert states(backend) == ["cancelled", "new"]
        holder = backend.client()
        (task,) = holder.claim()
        assert tick(client, info, 3) is Verdict.TICKED
        assert states(backend) == ["cancelled", "in_progress", "new"]
        (request,) = holder.beat(held=[(task.id, task.attempt)]).cancels
        assert (request.task_id, request.by) == (task.id, f"schedule {NAME}")

    def test_a_backfill_that_inserts_nothing_cancels_nothing(self, backend: Backend) -> None:
        client, hourly, end = backend.stranger(), Every(HOUR, LONG_AGO), LONG_AGO + 2 * HOUR
        info = do(backend, "put", NAME, backend.note(n=7), every=hourly)
        assert tick(client, info) is Verdict.TICKED
        assert do(backend, "backfill", NAME, LONG_AGO, end, overlap="cancel_running") == 1
        assert states(backend) == ["new", "cancelled"]
        assert tick(client, info, 2) is Verdict.TICKED
        assert do(backend, "backfill", NAME, LONG_AGO, end, overlap="cancel_running") == 0
        assert states(backend) == ["new", "cancelled", "new"]

    def test_a_backfill_refuses_to_cancel_a_unique_task_that_would_keep_the_next_one_out(
        self, backend: Backend
    ) -> None:
        client, hourly = backend.stranger(), Every(HOUR, LONG_AGO)
        info = do(backend, "put", NAME, backend.note(n=7), every=hourly, uniq=True)
        assert tick(client, info) is Verdict.TICKED
        with pytest.raises(UsageError, match="overlap='cancel_running' needs uniq=False"):
            do(backend, "backfill", NAME, LONG_AGO, LONG_AGO + HOUR, overlap="cancel_running")
        assert states(backend) == ["new"]

    def test_the_pool_of_the_task_to_cancel_is_told_at_once(self, backend: Backend) -> None:
        backend.needs("wakes")
        client, info = backend.stranger(), put(backend, overlap="cancel_running")
        assert tick(client, info) is Verdict.TICKED
        holder, told = backend.client(), threading.Event()
        holder.listen(lambda _: None, lambda pool_id: told.set() if pool_id == holder.id else None)
        assert len(holder.claim()) == 1
        deadline = time.monotonic() + WITHIN
        while not backend.wait_for(told, 0.2):  # it may take a moment until it listens
            assert time.monotonic() < deadline, "the pool hears nothing"
            control(backend, holder.id)
        while backend.wait_for(told, 0.1):  # until earlier notifications have arrived
            told.clear()
        assert tick(client, info, 2) is Verdict.TICKED
        assert backend.wait_for(told, WITHIN)

    def test_a_failure_of_the_last_task_pauses_the_schedule(self, backend: Backend) -> None:
        client, info = backend.stranger(), put(backend, pause_on_failure=True)
        assert tick(client, info) is Verdict.TICKED
        holder = backend.client()
        (task,) = holder.claim()
        assert holder.end(task, TaskState.FAILED)
        assert tick(client, info, 2) is Verdict.PAUSED
        (paused,) = read(client)
        assert (paused.paused, paused.paused_by) == (True, "fang")
        assert str(task.id) in str(paused.pause_reason)
        assert tick(client, paused, 2) is Verdict.STALE
        resumed = do(backend, "resume", NAME)
        assert tick(client, resumed) is Verdict.TICKED
        assert states(backend) == ["failed", "new"]

    def test_what_is_put_in_the_place_of_a_class_holds_until_it_is_removed(self, backend: Backend) -> None:
        cls = backend.yearly_note
        kind = cls.__fang_options__.kind
        client = backend.stranger()
        declared = declaration(kind, "yearly", Cron("@yearly"))
        client.declare_schedules({kind: declared}, "another")
        listed = [(info.name, info.is_stored, info.declared) for info in do(backend, "list")]
        assert listed == [(kind, False, declared)]
        due = tick_of(cls(), client.read_schedules(kind).last_ticks[kind] + INSTANT, backend.queue.rules)
        put(backend, kind)
        assert [(each.is_stored, each.declared) for each in read(client, kind)] == [(True, declared)]
        assert not client.tick(due)
        assert do(backend, "remove", kind)
        assert read(client, kind) == []
        again = tick_of(cls(), client.read_schedules(kind).last_ticks[kind] + INSTANT, backend.queue.rules)
        assert client.tick(again)
        client.declare_schedules({}, kind)
        assert do(backend, "list") == []

    def test_what_is_declared_again_is_written_only_where_nothing_is(self, backend: Backend) -> None:
        older, newer = (declaration("a", "yearly", Cron(pattern)) for pattern in ("@yearly", "@monthly"))
        client = backend.stranger()
        client.declare_schedules({"a": newer})
        client.declare_schedules({"a": older, "b": older}, again=True)
        assert {info.name: info.declared for info in do(backend, "list")} == {"a": newer, "b": older}

    def test_the_schedule_of_a_class_ticks_only_while_it_is_not_paused(self, backend: Backend) -> None:
        cls = backend.yearly_note
        kind = cls.__fang_options__.kind
        client = backend.stranger()
        client.declare_schedules({kind: declaration(kind, "yearly", Cron("@yearly"))})
        due = tick_of(cls(), client.read_schedules(kind).last_ticks[kind] + INSTANT, backend.queue.rules)
        do(backend, "pause", kind)
        assert not client.tick(due)
        do(backend, "resume", kind)
        assert not client.tick(due)  # what falls into a pause is not made up for
        later = tick_of(cls(), client.read_schedules(kind).last_ticks[kind] + INSTANT, backend.queue.rules)
        assert client.tick(later)

    def test_pools_are_told_of_every_change(self, backend: Backend) -> None:
        backend.needs("wakes")
        listener, told = backend.client(), threading.Event()
        listener.listen(lambda _: None, lambda whom: told.set() if whom == SCHEDULES else None)
        for change in (put, *CHANGES.values()):
            told.clear()
            change(backend)
            assert backend.wait_for(told, WITHIN)
