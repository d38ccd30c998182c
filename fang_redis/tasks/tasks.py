"""Implements the verbs on one task: finding, changing and removing it, and holding it by hand."""

from collections.abc import Callable
from contextlib import suppress
from uuid import UUID

from fang_core.backends.claims import Claim, LaneClaim
from fang_core.backends.rows import after_change, after_edit, is_as_read
from fang_core.backends.verbs import Fetched
from fang_core.config import RetentionMode
from fang_core.errors import StaleTask, TaskLost, TwinExists
from fang_core.lifecycle import Change, Outcome, cancelled_by_hand
from fang_core.record import Task, TaskState, as_progress
from fang_core.runs.run import Run
from fang_core.tasks.editing import Edit, edit_meets_twin
from fang_redis.connections.sending import Sending, Write, later, stale
from fang_redis.operations import Verb
from fang_redis.records import object_in
from fang_redis.tasks.claiming import Claiming
from fang_redis.tasks.flow import Flow


class Tasks:
    """The verbs on one task."""

    def __init__(self, sending: Sending, claiming: Claiming, flow: Flow) -> None:
        self._sending = sending
        self._claiming = claiming
        self._flow = flow

    def fetch(self, task_type: str, pool_id: UUID, /) -> Verb[Fetched]:
        """See ``Verbs.fetch``."""
        while True:
            claim = yield from self._claim_one(task_type, pool_id)
            if not claim.tasks:
                return Fetched(None, claim.registered)
            (claimed,) = claim.tasks
            read = yield from self._sending.read([claimed.id])
            task = read.tasks.get(claimed.id)
            if task is None:
                continue  # it was removed meanwhile
            cancelled = cancelled_by_hand(task)
            if cancelled is None:
                return Fetched(task)
            with suppress(StaleTask):  # another client has moved it
                yield from self.change(cancelled)

    def _claim_one(self, task_type: str, pool_id: UUID) -> Verb[Claim | LaneClaim]:
        while True:
            claim = yield from self._claiming.claim_any(pool_id, task_type)
            if task_type not in claim.managed:
                return claim
            of_lanes = yield from self._flow.fetch_lane(task_type, pool_id)
            if of_lanes.is_managed:
                return of_lanes

    def find(self, task_id: UUID, /) -> Verb[Task | None]:
        """See ``Verbs.find``."""
        read = yield from self._sending.read([task_id])
        task = read.tasks.get(task_id)
        if task is None or task.pool_id is None:
            return task
        runs = yield from self._sending.command("HGET", "runs", str(task.pool_id))
        told = object_in(runs).get(str(task_id))
        if not isinstance(told, dict) or told.get("attempt") != task.attempt:
            return task
        return task._replace(progress=as_progress(told.get("progress")))

    def change(self, change: Change, /) -> Verb[Task]:
        """See ``Verbs.change``."""
        read = yield from self._sending.read([change.task.id])
        task = read.tasks.get(change.task.id)
        if task is None or not is_as_read(change.task, task):
            raise stale(change.task.id)
        after = after_change(task, change, later(read.now, task))
        write = Write(task, after, read.waiting_hashes.get(task.id))
        return (yield from self._written(write, lambda: _revived_twin(task.id)))

    def edit(self, edit: Edit, /) -> Verb[Task]:
        """See ``Verbs.edit``."""
        read = yield from self._sending.read([edit.task.id])
        task = read.tasks.get(edit.task.id)
        if task is None or not is_as_read(edit.task, task):
            raise stale(edit.task.id)
        compared = edit.compared if task.id in read.waiting_hashes else None
        write = Write(task, after_edit(task, edit, later(read.now, task)), compared)
        return (yield from self._written(write, lambda: edit_meets_twin(task.id)))

    def _written(self, write: Write, meets_twin: Callable[[], TwinExists]) -> Verb[Task]:
        assert write.after is not None
        written = yield from self._sending.write([write])
        if written.stale is not None:
            raise stale(write.after.id)
        if written.twin is not None:
            raise meets_twin()
        return written.of(write.after)

    def remove(self, task_id: UUID, /) -> Verb[int]:
        """See ``Verbs.remove``."""
        count: int = yield from self._sending.script("remove", "", str(task_id))
        return count

    def remove_twin(self, compared: str, /) -> Verb[int]:
        """See ``Verbs.remove_twin``."""
        count: int = yield from self._sending.script("remove_twin", compared)
        return count

    def complete_run(self, run: Run, /) -> Verb[None]:
        """See ``Verbs.complete_run``: here it commits at once."""
        state = TaskState.FINISHED if run.retention_mode is RetentionMode.KEEP_ALL else None
        written = yield from self._claiming.complete(run.pool_id, [Outcome(run.task.id, run.task.attempt, state)])
        if run.task.id not in written:
            raise TaskLost(f"the run no longer holds task {run.task.id}")
        run.completed = True


def _revived_twin(task_id: UUID) -> TwinExists:
    return TwinExists(f"task {task_id} cannot be revived: an equal unique task is waiting or running")
