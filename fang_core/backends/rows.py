"""Changes the row of a task, for every backend: pure functions from one row to the next."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from fang_core.crashes import MOST_CRASHES, AfterCrash
from fang_core.failure import ERRORS_KEPT
from fang_core.lifecycle import DUE_STATES, Change, Outcome
from fang_core.record import DEFAULT_MAX_RETRIES, ClaimedTask, Task, TaskState, payload_of
from fang_core.tasks.cancelling import Cancellation
from fang_core.tasks.editing import Edit
from fang_core.tasks.insertion import expires_at


def gives_back(outcome: Outcome, written: dict[UUID, Task]) -> bool:
    """Returns whether other pools can take the task now."""
    return outcome.id in written and outcome.state in DUE_STATES and not outcome.delay


def is_as_read(read: Task, there: Task | None) -> bool:
    """Returns whether a row has not changed since it was read."""
    return there is not None and (there.state, there.attempt, there.updated_at) == (
        read.state,
        read.attempt,
        read.updated_at,
    )


def after_outcome(task: Task, outcome: Outcome, state: TaskState, now: datetime) -> Task:
    """Returns the row of a task after its run."""
    return task._replace(
        state=state,
        scheduled_at=task.scheduled_at if outcome.delay is None else now + outcome.delay,
        retries=task.retries + outcome.charge,
        crashes=_crashes(task, outcome),
        group_limit=None if outcome.forgets_crashes else task.group_limit,
        error_message=task.error_message if outcome.error_message is None else outcome.error_message,
        errors=with_entry(task.errors, outcome.error_entry, now),
        pool_id=None,
        claimed_at=None,
        updated_at=now,
        cancel_request=None if outcome.answers_cancel else task.cancel_request,
    )


def _crashes(task: Task, outcome: Outcome) -> int:
    if outcome.forgets_crashes:
        return 0
    return min(task.crashes + 1, MOST_CRASHES) if outcome.charges_crash else task.crashes


def after_change(task: Task, change: Change, now: datetime) -> Task:
    """Returns the row of a task after a change by hand."""
    due = task.scheduled_at if change.delay is None else now + change.delay
    return task._replace(
        state=change.state,
        scheduled_at=max(due, now) if change.revives else due,
        retries=0 if change.revives else task.retries + change.charge,
        crashes=0 if change.revives else task.crashes,
        group_limit=None if change.revives else task.group_limit,
        error_message=task.error_message if change.error_message is None else change.error_message,
        errors=with_entry(task.errors, change.error_entry, now),
        pool_id=None,
        claimed_at=None,
        updated_at=now,
        expires_at=None if change.revives else task.expires_at,
        cancel_request=None if change.revives else task.cancel_request,
    )


def after_edit(task: Task, edit: Edit, now: datetime) -> Task:
    """Returns the row of a waiting task after a change of its payload and options."""
    due = edit.scheduled_at or (task.scheduled_at if edit.delay is None else now + edit.delay)
    return task._replace(
        **edit.options,
        metadata=json.loads(edit.row.metadata),
        kind=edit.row.kind,
        scheduled_at=due,
        expires_at=task.expires_at if edit.expires is None else expires_at(edit.expires, due),
        uniq_hash=None if task.uniq_hash is None else edit.compared,
        lane=edit.row.lane,
        updated_at=now,
    )


def can_be_cancelled(task: Task) -> bool:
    """Returns whether a request to cancel the task changes anything: it waits, or runs without an earlier request."""
    return task.state in DUE_STATES or (task.state is TaskState.IN_PROGRESS and task.cancel_request is None)


def after_cancel(task: Task, cancellation: Cancellation, now: datetime) -> Task:
    """Returns the row of a task that waits, or runs, after a request to cancel it."""
    request = task.cancel_request or {**cancellation._asdict(), "at": now.isoformat()}
    asked = task._replace(cancel_request=request, updated_at=now)
    if task.state is TaskState.IN_PROGRESS:
        return asked
    return asked._replace(state=TaskState.CANCELLED, error_message=request["reason"])


def after_rescue(task: Task, after: AfterCrash, now: datetime) -> Task:
    """Returns the row of a task that was taken back from a dead pool."""
    return task._replace(
        state=after.state,
        scheduled_at=task.scheduled_at if after.delay is None else now + after.delay,
        crashes=after.crashes,
        group_limit=after.group_limit,
        error_message=task.error_message if after.error_message is None else after.error_message,
        errors=with_entry(task.errors, after.error_entry, now),
        pool_id=None,
        claimed_at=None,
        updated_at=now,
    )


def with_entry(errors: Sequence[Any], entry: str | None, now: datetime) -> Sequence[Any]:
    """Returns the error history with one more entry, of which the last ones are kept."""
    if entry is None:
        return errors
    return (*errors, {**json.loads(entry), "time": now.isoformat()})[-ERRORS_KEPT:]


def as_claimed(task: Task) -> ClaimedTask:
    """The short form of a held row."""
    return ClaimedTask(
        task.id,
        task.kind,
        json.dumps(payload_of(task.metadata)),
        task.attempt,
        task.retries,
        DEFAULT_MAX_RETRIES if task.max_retries is None else task.max_retries,
        task.crashes,
        task.task_type,
        task.priority,
        task.scheduled_at,
        task.headers,
        task.timeout,
        task.expires_at,
        task.cancel_request,
        task.group_limit,
    )
