"""The last tick of a schedule, and the task that it makes."""

from datetime import UTC, datetime, timedelta
from typing import Any

from fang_core.conformance.backend import Backend
from fang_core.record import TaskState
from fang_core.ticking import tick_of


class ScheduleSuite:
    """``schedule_task`` and the ticks of pools. No pool of the suite serves the task type of these schedules."""

    def test_a_tick_ahead_is_inserted_once_and_counts_as_done(self, backend: Backend) -> None:
        before = _last_tick(backend)
        first = backend.call(backend.queue.schedule_task, backend.yearly_note())
        assert not first.conflict
        assert first.scheduled_at > before
        assert _last_tick(backend) == first.scheduled_at
        assert backend.call(backend.queue.schedule_task, backend.yearly_note()) == first._replace(conflict=True)
        assert not _tick(backend, first.scheduled_at)
        assert backend.call(backend.queue.remove_task, first.id) == 1
        assert not backend.call(backend.queue.schedule_task, backend.yearly_note()).conflict
        assert _last_tick(backend) == first.scheduled_at

    def test_a_twin_keeps_a_tick_ahead_out_and_does_not_cost_it(self, backend: Backend) -> None:
        """The twin may have ended when the tick's time comes."""
        before = _last_tick(backend)
        twin = backend.insert(backend.yearly_note(), delay=timedelta(hours=1))
        assert backend.call(backend.queue.schedule_task, backend.yearly_note()) == twin._replace(conflict=True)
        assert _last_tick(backend) == before
        backend.move(twin, TaskState.FINISHED)
        tick = backend.call(backend.queue.schedule_task, backend.yearly_note())
        assert not tick.conflict
        assert _last_tick(backend) == tick.scheduled_at

    def test_a_tick_ahead_that_was_done_is_not_done_again(self, backend: Backend) -> None:
        """It may have run, before the backend's clock was set back; and of those before it only the last counted."""
        at = _last_tick(backend) + timedelta(hours=1)
        assert _tick(backend, at)
        assert backend.call(backend.queue.remove_all_tasks) == 1
        assert not _tick(backend, at)
        assert not _tick(backend, at - timedelta(minutes=1))
        assert backend.call(backend.queue.remove_all_tasks) == 0

    def test_a_tick_whose_time_has_come_is_left_out_for_a_twin(self, backend: Backend) -> None:
        twin = backend.insert(backend.yearly_note(), delay=timedelta(hours=1))
        before = _last_tick(backend)
        at = before + timedelta(microseconds=1)
        assert _tick(backend, at)
        assert _last_tick(backend) == at
        backend.move(twin, TaskState.FINISHED)
        assert not _tick(backend, at)  # it has been left out, once and for all
        assert backend.call(backend.queue.remove_all_tasks) == 1

    def test_a_tick_whose_time_has_come_is_made_once(self, backend: Backend) -> None:
        at = _last_tick(backend) + timedelta(microseconds=1)
        assert _tick(backend, at)
        assert not _tick(backend, at)
        assert backend.call(backend.queue.remove_all_tasks) == 1
        assert not _tick(backend, at)  # its task may have run
        assert not _tick(backend, datetime(2000, 1, 1, tzinfo=UTC))
        assert backend.call(backend.queue.remove_all_tasks) == 0


def _last_tick(backend: Backend) -> datetime:
    """As a pool would read it; the schedule begins with the first look."""
    kind = backend.yearly_note.task_config["kind"]
    sighting: Any = _with_store(backend, "sight", [kind])
    at: datetime = sighting.last_ticks[kind]
    return at


def _tick(backend: Backend, at: datetime) -> bool:
    """As a pool does it."""
    ticked: bool = _with_store(backend, "tick", tick_of(backend.yearly_note(), at, backend.queue.rules))
    return ticked


def _with_store(backend: Backend, verb: str, argument: Any) -> Any:
    store = backend.call(backend.queue.store)
    try:
        return backend.call(getattr(store, verb), argument)
    finally:
        backend.call(store.close)
