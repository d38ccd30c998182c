"""Tells the life of a task from its row, which any client may have written: what has happened, and what is to come."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from fang_core.lifecycle import DUE_STATES, TERMINAL_STATES
from fang_core.record import Task, TaskState, as_time


class FailedAttempt(NamedTuple):
    """Describes an attempt that failed; ``at`` is None if the row does not say when that was."""

    number: str
    at: datetime | None
    error: str
    traceback: str


class Moment(NamedTuple):
    """Says what happened to a task, or will; ``at`` is None if the row does not say when.

    Attributes:
        is_bad: whether it went wrong.
        is_ahead: whether it is yet to come.
        traceback: of a failed attempt.
    """

    at: datetime | None
    text: str
    is_bad: bool = False
    is_ahead: bool = False
    traceback: str = ""


def life(task: Task) -> list[Moment]:
    """Returns the moments of a task's life, in order; what is yet to come stands at the end."""
    moments = [Moment(task.created_at, "inserted")]
    for failed in failed_attempts(task):
        text = f"attempt {failed.number} failed: {first_line_of(failed.error)}".rstrip(": ")
        moments.append(Moment(failed.at, text, is_bad=True, traceback=failed.traceback))
    if task.cancel_request is not None:
        moments.append(_asked(task.cancel_request))
    if task.claimed_at is not None:
        moments.append(Moment(task.claimed_at, f"attempt {task.attempt} claimed by pool {task.pool_id}"))
    if task.state in TERMINAL_STATES:
        moments.append(_end(task))
    moments.sort(key=lambda moment: moment.at or task.created_at)
    if task.state in DUE_STATES:
        moments.append(Moment(task.scheduled_at, f"due, for attempt {task.attempt + 1}", is_ahead=True))
    if task.expires_at is not None and task.state not in TERMINAL_STATES:
        moments.append(Moment(task.expires_at, "expires: no run begins later", is_ahead=True))
    return moments


def failed_attempts(task: Task) -> list[FailedAttempt]:
    """Returns the attempts that the row says have failed, the first one first."""
    return [_failed(each) for each in task.errors if isinstance(each, Mapping)]


def when(task: Task) -> tuple[str, datetime]:
    """Returns what happens, or has happened, at the time that matters in the task's state, and that time."""
    if task.state is TaskState.IN_PROGRESS:
        return "running since", task.claimed_at or task.updated_at
    if task.state in TERMINAL_STATES:
        return task.state.value, task.updated_at
    return "due", task.scheduled_at


def first_line_of(text: str | None) -> str:
    """Returns the first line of an error; an empty text if there is none."""
    return "" if text is None else text.strip().partition("\n")[0]


def _failed(told: Mapping[str, Any]) -> FailedAttempt:
    texts = (_text(told.get(name)) for name in ("error", "traceback"))
    return FailedAttempt(_text(told.get("number")) or "?", as_time(told.get("time")), *texts)


def _text(told: object) -> str:
    """Returns a client's value as a text; an empty one for nested values, which may be endless."""
    return str(told) if isinstance(told, str | int | float) else ""


def _asked(request: Mapping[str, Any]) -> Moment:
    reason = _text(request.get("reason"))
    text = f"{_text(request.get('by')) or 'someone'} asked to cancel it{f': {reason}' if reason else ''}"
    return Moment(as_time(request.get("at")), text, is_bad=True)


def _end(task: Task) -> Moment:
    after = f" after attempt {task.attempt}" if task.attempt else ""
    # The last failed attempt has told that already.
    message = "" if task.state is TaskState.FAILED and task.errors else first_line_of(task.error_message)
    text = f"{task.state}{after}{f': {message}' if message else ''}"
    return Moment(task.updated_at, text, is_bad=task.state is not TaskState.FINISHED)
