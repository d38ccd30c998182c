"""Tests the last tick of a schedule, and the task that a tick inserts."""

from datetime import UTC, datetime, timedelta
from typing import Final

from fang_core.backends.ticking import tick_of
from fang_core.conformance.backend import Backend
from fang_core.record import TaskState

MINUTE: Final = timedelta(minutes=1)


class ScheduleSuite:
    """Tests ``schedule_task`` and the ticks of pools. No pool of the suite serves the task type of these schedules."""

    def test_a_schedule_that_is_new_begins_now_and_keeps_its_place(self, backend: Backend) -> None:
        client = backend.stranger()
        first = client.read_schedules("a", "b")
        task = backend.insert(backend.note())
        assert abs(task.created_at - first.now) < MINUTE  # it is the clock that decides when tasks are due
        second = client.read_schedules("b", "c")
        assert first.now <= second.now
        assert [sorted(state.last_ticks) for state in (first, second)] == [["a", "b"], ["b", "c"]]
        assert client.read_schedules("a", "b", "c").last_ticks == {**second.last_ticks, **first.last_ticks}
        for state, name in ((first, "a"), (first, "b"), (second, "c")):
            assert abs(state.last_ticks[name] - state.now) < MINUTE

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
        """Checks that the tick is still to be made, since the twin may have ended when its time comes."""
        before = _last_tick(backend)
        twin = backend.insert(backend.yearly_note(), delay=timedelta(hours=1))
        assert backend.call(backend.queue.schedule_task, backend.yearly_note()) == twin._replace(conflict=True)
        assert _last_tick(backend) == before
        backend.move(twin, TaskState.FINISHED)
        tick = backend.call(backend.queue.schedule_task, backend.yearly_note())
        assert not tick.conflict
        assert _last_tick(backend) == tick.scheduled_at

    def test_a_tick_ahead_that_was_done_is_not_done_again(self, backend: Backend) -> None:
        """Covers a tick that may have run before the backend's clock was set back, and ticks before it."""
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
        assert not _tick(backend, at)  # the tick counts as done, although it inserted nothing
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
    """Reads the last tick as a pool would; the first read starts the schedule."""
    kind = backend.yearly_note.task_config["kind"]
    return backend.stranger().read_schedules(kind).last_ticks[kind]


def _tick(backend: Backend, at: datetime) -> bool:
    """Ticks as a pool does; returns whether the tick was new."""
    return backend.stranger().tick(tick_of(backend.yearly_note(), at, backend.queue.rules))
