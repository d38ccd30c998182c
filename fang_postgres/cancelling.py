"""Writes the scripts that cancel tasks. Pure."""

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from fang_core.errors import BackendError
from fang_core.lifecycle import DUE_STATES, TERMINAL_STATES
from fang_core.record import Task, TaskState
from fang_core.tasks.cancelling import Cancellation
from fang_core.tasks.selecting.batches import Batches
from fang_core.tasks.selecting.filter import TaskFilter
from fang_postgres.operations import Operations
from fang_postgres.operations.by_hand import DuePlace
from fang_postgres.statement import Script

_TRIES: Final = 20  # to cancel a task that has ended when it is to be cancelled, and is alive again when it is read
_IDS_AT_ONCE: Final = 1_000


def cancel(operations: Operations, task_id: UUID, cancellation: Cancellation, *, notify: bool) -> Script[Task | None]:
    """Cancels a task that waits, or asks the pool of one in progress to; returns its row, or None if there is none.

    A task that has ended is read by a second statement: the first would show it as it was before a change that it has
    waited for.
    """
    for _ in range(_TRIES):
        cancelled: Task | None = yield operations.cancel(task_id, cancellation, notify=notify)
        if cancelled is not None:
            return cancelled
        found: Task | None = yield operations.find(task_id)
        if found is None or found.state in TERMINAL_STATES:
            return found
    raise BackendError(f"task {task_id} has ended and was revived {_TRIES} times: cancel it again")


def cancel_many(
    operations: Operations, which: TaskFilter, batches: Batches, cancellation: Cancellation, *, notify: bool
) -> Script[int]:
    """Cancels all tasks that match the filter, or asks their pools to; returns how many.

    It works in batches of about a second, which may be committed one by one. Tasks that are not named by their ids are
    cancelled up to the greatest id at the beginning, so that tasks inserted meanwhile cannot make it endless.
    """
    if which.ids is not None:
        ids = sorted(which.ids, key=lambda task_id: task_id.bytes)
        for start in range(0, len(ids), _IDS_AT_ONCE):
            chunk = ids[start : start + _IDS_AT_ONCE]
            batches.ended((yield operations.cancel_ids(chunk, which, cancellation, notify=notify)))
        return batches.done
    last: UUID | None = yield operations.last_id()
    if last is not None:
        yield from _Search(operations, which, last, batches, cancellation, notify).cancel()
    return batches.done


@dataclass(frozen=True, slots=True)
class _Search:
    """Finds the tasks by two indexes, of waiting and of held tasks: all other tasks have ended."""

    operations: Operations
    which: TaskFilter
    last: UUID
    batches: Batches
    cancellation: Cancellation
    notify: bool

    def cancel(self) -> Script[None]:
        """Searches until a turn finds none: a pool may give a task back to a place that was passed before."""
        states = set(TaskState if self.which.states is None else self.which.states)
        before = -1
        while self.batches.done != before:
            before = self.batches.done
            if not states.isdisjoint(DUE_STATES):
                for task_type in ("",) if self.which.task_types is None else self.which.task_types:
                    yield from self._waiting(task_type)
            if TaskState.IN_PROGRESS in states:
                yield from self._held()

    def _waiting(self, task_type: str) -> Script[None]:
        """Goes through the waiting tasks of a type; through all of them if it is empty."""
        reached: DuePlace | None = DuePlace(task_type)
        while reached is not None and task_type in ("", reached.task_type):
            self.batches.begin()
            count, reached = yield self.operations.cancel_waiting(
                reached, self.last, self.batches.limit, self.which, self.cancellation, notify=self.notify
            )
            self.batches.ended(count)

    def _held(self) -> Script[None]:
        count = -1
        while count:
            self.batches.begin()
            count = yield self.operations.cancel_held(
                self.last, self.batches.limit, self.which, self.cancellation, notify=self.notify
            )
            self.batches.ended(count)
