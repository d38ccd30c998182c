"""The life of a task: the results of a run, and what each means for the task's row.

Every change of state is decided here, and no other place knows what a retry is::

    insert -> new -> claim -> in_progress -> Success      -> row removed | finished     (by retention mode)
                                          -> Failure      -> retried (retries + 1, later) | failed, retries spent
                                          -> Snoozed      -> new | retried, later; nothing charged, crashes forgotten
                                          -> NotRun       -> new | retried, as it was; nothing charged
                                          -> Cancelled    -> cancelled
                                          -> its pool died -> retried (crashes + 1) | failed as crashed

A person, or an application, may move a task as well: ``BY_HAND`` says where to.
"""

import json
from collections.abc import Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TypeVar
from uuid import UUID

from fang_core.backoff import DEFAULT_BACKOFF, Backoff, delay_after
from fang_core.config import RetentionMode
from fang_core.errors import Picklable, UsageError
from fang_core.failure import MESSAGE_BYTES, ErrorReport, clean, describe, text_of
from fang_core.record import ClaimedTask, Task, TaskState

# What a run may raise -------------------------------------------------------------------------------------------------

_LONGEST_DELAY: Final = timedelta(days=3660)


def _checked(delay: timedelta) -> timedelta:
    if not isinstance(delay, timedelta):
        raise TypeError(f"a delay is a timedelta, not {type(delay).__name__}")
    return min(max(delay, timedelta(0)), _LONGEST_DELAY)


class Snooze(Picklable, Exception):
    """Raised in a run: not now. The task runs again after ``delay``; nothing is charged.

    Its crashes are forgotten, since a run that has ended did not kill its process: a task that lives by snoozing would
    else gather those of years. Its retries stay as they are.
    """

    def __init__(self, delay: timedelta) -> None:
        super().__init__(delay)
        self.delay = _checked(delay)


class Cancel(Picklable, Exception):
    """Raised in a run: never. The task is cancelled, with ``reason`` as its error message."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason


class RetryAfter(Picklable, Exception):
    """Raised in a run: a failure like any other, charged, but the next run is due after ``delay``, not by backoff."""

    def __init__(self, delay: timedelta, reason: str = "") -> None:
        super().__init__(reason or f"retry after {delay}")
        self.delay = _checked(delay)


# The result of a run --------------------------------------------------------------------------------------------------


class Success(NamedTuple):
    """``run`` returned."""


class _Failure(NamedTuple):
    error: ErrorReport
    delay: timedelta | None = None


class Failure(_Failure):
    """``run`` raised, or the payload could not be read. ``delay`` stands in for the backoff where it is given.

    ``exception`` is what was raised, for hooks and logs: no part of what is compared, copied, pickled or stored. It is
    None where no exception of a run is behind the failure. Its traceback holds the frames of the run with all that they
    refer to: keep what you need of it, not the exception or the failure itself.
    """

    exception: BaseException | None = None

    @classmethod
    def by(cls, exception: BaseException, error: ErrorReport, delay: timedelta | None = None) -> "Failure":
        """The failure of a run that raised ``exception``."""
        failure = cls(error, delay)
        failure.exception = exception
        return failure

    def __reduce__(self) -> tuple[type["Failure"], tuple[ErrorReport, timedelta | None]]:
        return Failure, (self.error, self.delay)


class Snoozed(NamedTuple):
    """``run`` raised ``Snooze``."""

    delay: timedelta


class Cancelled(NamedTuple):
    """``run`` raised ``Cancel``."""

    reason: str


class NotRun(NamedTuple):
    """Claimed and never started, or ended by the pool's own cancellation: given back as it was."""


Result = Success | Failure | Snoozed | Cancelled | NotRun

SUCCESS: Final = Success()
NOT_RUN: Final = NotRun()


def result_of(error: BaseException, module: str = "") -> Result:
    """What an exception that left ``run`` means, where ``module`` is that of the task's class.

    Never raises, whatever ``error`` does when it is looked at.
    """
    try:
        return _meaning(error, module)
    except BaseException as inner:  # noqa: BLE001 - a class of the user's may lie about its name, its type, anything
        message = f"FangError: the run's exception cannot be described: {_name_of(inner)}"
        return Failure.by(error, ErrorReport(message, None))


def _meaning(error: BaseException, module: str) -> Result:
    # A delay is checked again: a derived class may have an __init__ of its own, and set anything.
    match error:
        case Snooze(delay=timedelta() as delay):
            return Snoozed(_checked(delay))
        case Cancel(reason=reason):
            return Cancelled(text_of(reason))
        case RetryAfter(delay=timedelta() as delay):
            return Failure.by(error, describe(error, module), _checked(delay))
        case _:
            return Failure.by(error, describe(error, module))


def _name_of(error: BaseException) -> str:
    return text_of(type.__dict__["__name__"].__get__(type(error)))


# What it means for the row --------------------------------------------------------------------------------------------


class Outcome(NamedTuple):
    """What is to be written for one task, under the fence ``(id, attempt, pool)``.

    Attributes:
        state: the row's next state; None removes the row.
        delay: due this long from now, by the database's clock; None leaves ``scheduled_at`` as it is.
        charge: added to ``retries``.
        error_message: None leaves the column as it is.
        error_entry: a JSON object for the error history (the time is added by the database); None adds nothing.
        completed_by_run: the run has completed its task in a transaction of its own. Where that was committed there is
            nothing left to write; where it is still open the row is not to be waited for.
        doubtful: it may have been written unseen; a row that is gone counts as done.
        forgets_crashes: ``crashes`` becomes 0; else it stays as it is.
    """

    id: UUID
    attempt: int
    state: TaskState | None
    delay: timedelta | None = None
    charge: int = 0
    error_message: str | None = None
    error_entry: str | None = None
    completed_by_run: bool = False
    doubtful: bool = False
    forgets_crashes: bool = False


TRANSITIONS: Final[Mapping[type[NamedTuple], frozenset[TaskState | None]]] = MappingProxyType(
    {
        Success: frozenset({None, TaskState.FINISHED}),
        Failure: frozenset({None, TaskState.RETRIED, TaskState.FAILED}),
        Snoozed: frozenset({TaskState.NEW, TaskState.RETRIED}),
        Cancelled: frozenset({None, TaskState.CANCELLED}),
        NotRun: frozenset({TaskState.NEW, TaskState.RETRIED}),
    }
)
"""Result -> the states that a task in progress can go to; None is a removed row."""

DUE_STATES: Final = (TaskState.NEW, TaskState.RETRIED)
"""A task in one of these is claimed once its time has come."""

TERMINAL_STATES: Final = (TaskState.FINISHED, TaskState.FAILED, TaskState.CANCELLED)
"""A task in one of these has ended its life."""


def decide(task: ClaimedTask, result: Result, *, retention: RetentionMode, backoff: Backoff) -> Outcome:
    """What the result of a run means for its row. Pure, but for the jitter of ``backoff``."""
    match result:
        case Success():
            keep = retention is RetentionMode.KEEP_ALL
            return Outcome(task.id, task.attempt, TaskState.FINISHED if keep else None)
        case Failure(error, delay):
            return _after_failure(task, error, delay, retention, backoff)
        case Snoozed(delay):
            state = _waiting_state(task._replace(crashes=0))
            return Outcome(task.id, task.attempt, state, delay, forgets_crashes=True)
        case NotRun():
            return Outcome(task.id, task.attempt, _waiting_state(task))
        case Cancelled(reason):
            keep = retention is not RetentionMode.REMOVE_ALL
            return Outcome(task.id, task.attempt, TaskState.CANCELLED if keep else None, error_message=reason)


def decide_anyhow(task: ClaimedTask, result: Result, *, retention: RetentionMode) -> Outcome:
    """Stands in for ``decide`` where that has raised: without code of the user's, and at last without the result."""
    try:
        return decide(task, result, retention=retention, backoff=DEFAULT_BACKOFF)
    except BaseException as error:  # noqa: BLE001 - a run without an outcome would be held for ever
        failure = Failure(ErrorReport(f"FangError: no outcome of the run could be made: {type(error).__name__}", None))
        return decide(task, failure, retention=retention, backoff=DEFAULT_BACKOFF)


def _after_failure(
    task: ClaimedTask, error: ErrorReport, delay: timedelta | None, retention: RetentionMode, backoff: Backoff
) -> Outcome:
    entry = _error_entry(task.attempt, error.message, error.traceback)
    if task.retries < task.max_retries:
        if delay is None:
            delay = delay_after(backoff, task.retries + 1, kind=task.kind)
        return Outcome(task.id, task.attempt, TaskState.RETRIED, delay, 1, error.message, entry)
    if retention is RetentionMode.REMOVE_ALL:
        return Outcome(task.id, task.attempt, None)
    return Outcome(task.id, task.attempt, TaskState.FAILED, None, 0, error.message, entry)


# When a pool dies -----------------------------------------------------------------------------------------------------

SUSPECT_AFTER: Final = 2
"""Crashes from which a task is a suspect: it runs alone, after a delay, so that only it can be charged with the next.

The first crash restricts nothing: the task is due again at once. One whose pool was stopping charges nobody.
"""


def is_suspect(task: ClaimedTask | Task) -> bool:
    """Whether the task must run alone."""
    return task.crashes >= SUSPECT_AFTER


def _waiting_state(task: ClaimedTask) -> TaskState:
    """The due state that a task which was not charged goes back to."""
    return TaskState.RETRIED if task.retries + task.crashes > 0 else TaskState.NEW


Written = TypeVar("Written", Outcome, "Change")


def spelled(written: Written) -> Written:
    """The same, with every character of its texts that is not ASCII written as Python writes it, like ``\\u2014``.

    For a database whose encoding does not have them.
    """
    message, entry = written.error_message, written.error_entry
    return written._replace(
        error_message=None if message is None else _ascii(message),
        error_entry=None if entry is None else json.dumps(json.loads(entry, object_hook=_ascii_values)),
    )


def _ascii(text: str) -> str:
    return text.encode("ascii", "backslashreplace").decode()


def _ascii_values(entry: dict[str, Any]) -> dict[str, Any]:
    return {key: _ascii(value) if isinstance(value, str) else value for key, value in entry.items()}


def unstorable(outcome: Outcome) -> Outcome:
    """Stands in for an outcome that the backend refuses: the task fails, with a text that surely can be stored."""
    message = "FangError: the outcome of this run could not be stored"
    entry = _error_entry(outcome.attempt, message, None)
    failed = Outcome(outcome.id, outcome.attempt, TaskState.FAILED, None, 0, message, entry)
    return failed._replace(doubtful=outcome.doubtful)


def _error_entry(attempt: int, message: str, traceback: str | None) -> str:
    # Not with \u: a database in SQL_ASCII, which takes any text, takes no such escape.
    return json.dumps({"number": attempt, "error": message, "traceback": traceback}, ensure_ascii=False)


# By hand --------------------------------------------------------------------------------------------------------------

BY_HAND: Final[Mapping[TaskState, frozenset[TaskState]]] = MappingProxyType(
    {
        TaskState.NEW: frozenset(TERMINAL_STATES),
        TaskState.RETRIED: frozenset(TERMINAL_STATES),
        TaskState.IN_PROGRESS: frozenset({*DUE_STATES, *TERMINAL_STATES}),
        **dict.fromkeys(TERMINAL_STATES, frozenset({TaskState.NEW})),
    }
)
"""State -> the states that somebody may move a task to. A move out of ``in_progress`` makes the run lost."""


class Change(NamedTuple):
    """What a move by hand writes, if the row still is as ``task`` was read.

    Attributes:
        revives: the task's life begins again: retries and crashes are 0, and it is due now at the earliest.
        delay, charge, error_message, error_entry: as in ``Outcome``.
    """

    task: Task
    state: TaskState
    revives: bool = False
    delay: timedelta | None = None
    charge: int = 0
    error_message: str | None = None
    error_entry: str | None = None


def change_by_hand(task: Task, state: TaskState) -> Change:
    """A move to ``state``. Raises ``UsageError`` where ``BY_HAND`` has none."""
    if not isinstance(task, Task):
        raise UsageError(f"give the Task that was read, not {type(task).__name__}")
    try:
        state = TaskState(state)
    except ValueError:
        raise UsageError(f"{state!r:.40} is no state of a task") from None
    if state not in BY_HAND[task.state]:
        possible = ", ".join(sorted(BY_HAND[task.state]))
        raise UsageError(f"a task that is {task.state} cannot be made {state}, only {possible}")
    return Change(task, state, revives=task.state in TERMINAL_STATES)


def fail_by_hand(task: Task, error_message: str) -> Change:
    """A failure that ends the task, whatever retries are left. Raises ``UsageError``."""
    message = _checked_message(error_message)
    change = change_by_hand(task, TaskState.FAILED)
    return change._replace(error_message=message, error_entry=_error_entry(task.attempt, message, None))


def retry_by_hand(task: Task, delay: timedelta, error_message: str) -> Change:
    """A failure that is charged, of a task in progress, due again after ``delay``. Raises ``UsageError``."""
    message = _checked_message(error_message)
    if not isinstance(delay, timedelta):
        raise UsageError(f"the backoff is a timedelta, not {type(delay).__name__}")
    change = change_by_hand(task, TaskState.RETRIED)
    entry = _error_entry(task.attempt, message, None)
    return change._replace(delay=_checked(delay), charge=1, error_message=message, error_entry=entry)


def _checked_message(message: str) -> str:
    if not isinstance(message, str):
        raise UsageError(f"the error message is a str, not {type(message).__name__}")
    return clean(message, MESSAGE_BYTES)
