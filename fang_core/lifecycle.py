"""Decides the life of a task: the results of a run, and what each means for the task's row.

Every change of state is decided here, and no other module knows what a retry is::

    insert -> new -> claim -> in_progress -> Success      -> row removed | finished     (by retention mode)
                                          -> Failure      -> retried (retries + 1, later) | failed, retries spent
                                          -> Snoozed      -> new | retried, later; nothing charged, crashes forgotten
                                          -> NotRun       -> new | retried, as it was; nothing charged
                                          -> Cancelled    -> cancelled
                                          -> Crashed      -> see ``crashes``, as if its pool had died
                                          -> its pool died -> see ``crashes``

A person, or an application, may move a task too: ``BY_HAND`` has the moves.
"""

import json
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import partial
from signal import Signals
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TypeVar
from uuid import UUID

from fang_core.config import DEFAULT_MAX_CRASHES, RetentionMode
from fang_core.crashes import CHILD_DIED, charged
from fang_core.errors import Picklable, UsageError
from fang_core.failure import MESSAGE_BYTES, ErrorReport, clean, describe, error_entry, text_of
from fang_core.record import ClaimedTask, Task, TaskState, waiting_state
from fang_core.tasks.backoff import DEFAULT_BACKOFF, Backoff, delay_after

# What a run may raise -------------------------------------------------------------------------------------------------

_LONGEST_DELAY: Final = timedelta(days=3660)


def _checked(delay: timedelta) -> timedelta:
    if not isinstance(delay, timedelta):
        raise TypeError(f"a delay is a timedelta, not {type(delay).__name__}")
    return min(max(delay, timedelta(0)), _LONGEST_DELAY)


class Snooze(Picklable, Exception):
    """Raise it in a run to postpone the task. The task runs again after ``delay``; nothing is charged.

    Its crashes are forgotten, since a run that has ended did not kill its process: a task that lives by snoozing would
    otherwise collect the crashes of years. Its retries stay as they are.
    """

    def __init__(self, delay: timedelta) -> None:
        super().__init__(delay)
        self.delay = _checked(delay)


class Cancel(Picklable, Exception):
    """Raise it in a run to cancel the task, with ``reason`` as its error message."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason


class RetryAfter(Picklable, Exception):
    """Raise it in a run to fail, and be charged, like with any other exception, but with a next run after ``delay``."""

    def __init__(self, delay: timedelta, reason: str = "") -> None:
        super().__init__(reason or f"retry after {delay}")
        self.delay = _checked(delay)


# The result of a run --------------------------------------------------------------------------------------------------


class Success(NamedTuple):
    """The result of a run that returned."""


class _Failure(NamedTuple):
    error: ErrorReport
    delay: timedelta | None = None


class Failure(_Failure):
    """The result of a run that raised, or of a payload that could not be read. ``delay`` replaces the backoff if given.

    ``exception`` is the raised exception, for hooks and logs; it is not compared, copied, pickled or stored. It is None
    if the failure does not come from an exception of a run. Its traceback keeps the frames of the run alive, with all
    that they refer to: keep the parts that you need, not the exception or the failure itself.
    """

    exception: BaseException | None = None

    @classmethod
    def by(cls, exception: BaseException, error: ErrorReport, delay: timedelta | None = None) -> "Failure":
        """Returns the failure of a run that raised ``exception``."""
        failure = cls(error, delay)
        failure.exception = exception
        return failure

    def __reduce__(self) -> tuple[type["Failure"], tuple[ErrorReport, timedelta | None]]:
        return Failure, (self.error, self.delay)


class Snoozed(NamedTuple):
    """The result of a run that raised ``Snooze``."""

    delay: timedelta


class Cancelled(NamedTuple):
    """The result of a run that raised ``Cancel``."""

    reason: str


class NotRun(NamedTuple):
    """The result of a task that was claimed and never started, or that its pool cancelled: it goes back as it was."""


class Crashed(NamedTuple):
    """The result of a run whose child process died under it: see ``isolation`` in ``TaskConfig``.

    ``exit_code`` is that of the process, or the number of the signal that ended it, negative; None if it is not known.
    """

    exit_code: int | None

    @property
    def cause(self) -> str:
        """Returns how the process ended, like ``exit code 3`` or ``SIGKILL``."""
        if self.exit_code is None:
            return "its exit code is not known"
        if self.exit_code >= 0:
            return f"exit code {self.exit_code}"
        try:
            return Signals(-self.exit_code).name
        except ValueError:
            return f"signal {-self.exit_code}"


Result = Success | Failure | Snoozed | Cancelled | NotRun | Crashed

SUCCESS: Final = Success()
NOT_RUN: Final = NotRun()


def result_of(error: BaseException, module: str = "") -> Result:
    """Returns the result of a run that raised ``error``; ``module`` is that of the task's class.

    Never raises, whatever the methods and attributes of ``error`` do.
    """
    try:
        return _meaning(error, module)
    except BaseException as inner:  # noqa: BLE001 - a user's class may lie about its name, its type, anything
        message = f"FangError: the run's exception cannot be described: {_name_of(inner)}"
        return Failure.by(error, ErrorReport(message, None))


def word_of(error: BaseException) -> Snooze | Cancel | RetryAfter | None:
    """Returns what a run says of its task by this exception, or by the only one in it, if a ``TaskGroup`` raised it."""
    while isinstance(error, BaseExceptionGroup):
        held = BaseExceptionGroup.exceptions.__get__(error)  # a subclass may have replaced the attribute
        if len(held) != 1:
            return None
        error = held[0]
    return error if isinstance(error, Snooze | Cancel | RetryAfter) else None


def _meaning(error: BaseException, module: str) -> Result:
    # The delay is checked again: a derived class may have an __init__ of its own, and set anything.
    match word_of(error):
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
    """Says what to write for one task, under the fence ``(id, attempt, pool)``.

    Attributes:
        state: the row's next state; None removes the row.
        delay: the task is due this long from now, by the database's clock; None leaves ``scheduled_at`` as it is.
        charge: added to ``retries``.
        error_message: the new message; None leaves the column as it is.
        error_entry: a JSON object for the error history (the database adds the time); None adds nothing.
        completed_by_run: whether the run has completed its task in a transaction of its own. If that was committed,
            there is nothing left to write; if it is still open, the backend must not wait for the row.
        doubtful: whether the outcome may have been written before without a reply; a row that is gone then counts as
            written.
        forgets_crashes: whether ``crashes`` becomes 0; otherwise it stays as it is, unless ``charges_crash``.
        answers_cancel: whether the run has answered a request to cancel its task, which is then taken off the row.
        charges_crash: whether the run was a crash: one more is added to ``crashes``.
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
    answers_cancel: bool = False
    charges_crash: bool = False


_NOTHING_ELSE: Final = tuple(Outcome._field_defaults.values())
_make_outcome: Final[Callable[[tuple[Any, ...]], Outcome]] = partial(tuple.__new__, Outcome)  # _make without its frame

TRANSITIONS: Final[Mapping[type[NamedTuple], frozenset[TaskState | None]]] = MappingProxyType(
    {
        Success: frozenset({None, TaskState.FINISHED}),
        Failure: frozenset({None, TaskState.RETRIED, TaskState.FAILED}),
        Snoozed: frozenset({TaskState.NEW, TaskState.RETRIED}),
        Cancelled: frozenset({None, TaskState.CANCELLED}),
        NotRun: frozenset({TaskState.NEW, TaskState.RETRIED}),
        Crashed: frozenset({TaskState.RETRIED, TaskState.FAILED}),
    }
)
"""Maps each result to the states that a task in progress can go to; None is a removed row."""

DUE_STATES: Final = (TaskState.NEW, TaskState.RETRIED)
"""The states of tasks that are claimed once they are due."""

TERMINAL_STATES: Final = (TaskState.FINISHED, TaskState.FAILED, TaskState.CANCELLED)
"""The states of tasks whose life has ended."""


def succeeded(task: ClaimedTask, retention: RetentionMode) -> Outcome:
    """Returns the outcome of a task whose run has succeeded, as nearly all do."""
    state = TaskState.FINISHED if retention is RetentionMode.KEEP_ALL else None
    return _make_outcome((task.id, task.attempt, state, *_NOTHING_ELSE))


def decide(
    task: ClaimedTask,
    result: Result,
    *,
    retention: RetentionMode,
    backoff: Backoff,
    max_crashes: int = DEFAULT_MAX_CRASHES,
) -> Outcome:
    """Returns what the result of a run means for the task's row. It is pure except for the jitter of ``backoff``."""
    match result:
        case Success():
            return succeeded(task, retention)
        case Failure(error, delay):
            return _after_failure(task, error, delay, retention, backoff)
        case Snoozed(delay):
            state = waiting_state(task.retries, 0)
            return Outcome(task.id, task.attempt, state, delay, forgets_crashes=True)
        case NotRun():
            return Outcome(task.id, task.attempt, waiting_state(task.retries, task.crashes))
        case Cancelled(reason):
            keep = retention is not RetentionMode.REMOVE_ALL
            return Outcome(task.id, task.attempt, TaskState.CANCELLED if keep else None, error_message=reason)
        case Crashed():
            after = charged(task, max_crashes, CHILD_DIED, cause=result.cause)
            message, entry = after.error_message, after.error_entry
            return Outcome(task.id, task.attempt, after.state, after.delay, 0, message, entry, charges_crash=True)


def decide_anyhow(task: ClaimedTask, result: Result, *, retention: RetentionMode, max_crashes: int) -> Outcome:
    """Replaces ``decide`` if that has raised: first without the user's backoff, and if need be without the result."""
    try:
        return decide(task, result, retention=retention, backoff=DEFAULT_BACKOFF, max_crashes=max_crashes)
    except BaseException as error:  # noqa: BLE001 - a task without an outcome would never leave its pool
        failure = Failure(ErrorReport(f"FangError: no outcome of the run could be made: {type(error).__name__}", None))
        return decide(task, failure, retention=retention, backoff=DEFAULT_BACKOFF)


def _after_failure(
    task: ClaimedTask, error: ErrorReport, delay: timedelta | None, retention: RetentionMode, backoff: Backoff
) -> Outcome:
    entry = error_entry(task.attempt, error.message, error.traceback)
    if task.retries < task.max_retries:
        if delay is None:
            delay = delay_after(backoff, task.retries + 1, kind=task.kind)
        return Outcome(task.id, task.attempt, TaskState.RETRIED, delay, 1, error.message, entry)
    if retention is RetentionMode.REMOVE_ALL:
        return Outcome(task.id, task.attempt, None)
    return Outcome(task.id, task.attempt, TaskState.FAILED, None, 0, error.message, entry)


Written = TypeVar("Written", Outcome, "Change")


def spelled(written: Written) -> Written:
    """Returns a copy whose texts have Python escapes like ``\\u2014`` for every character that is not ASCII.

    It is for a database whose encoding does not have these characters.
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
    """Returns a replacement for an outcome that the backend refuses: the task fails, with a text that can be stored."""
    message = "FangError: the outcome of this run could not be stored"
    entry = error_entry(outcome.attempt, message, None)
    failed = Outcome(outcome.id, outcome.attempt, TaskState.FAILED, None, 0, message, entry)
    return failed._replace(doubtful=outcome.doubtful)


# By hand --------------------------------------------------------------------------------------------------------------

BY_HAND: Final[Mapping[TaskState, frozenset[TaskState]]] = MappingProxyType(
    {
        TaskState.NEW: frozenset(TERMINAL_STATES),
        TaskState.RETRIED: frozenset(TERMINAL_STATES),
        TaskState.IN_PROGRESS: frozenset({*DUE_STATES, *TERMINAL_STATES}),
        **dict.fromkeys(TERMINAL_STATES, frozenset({TaskState.NEW})),
    }
)
"""Maps each state to the states that a task can be moved to by hand. A move out of ``in_progress`` loses the run."""


class Change(NamedTuple):
    """Says what a move by hand writes, if the row has not changed since ``task`` was read.

    Attributes:
        revives: whether the task's life begins again: retries and crashes are 0, and it is due now at the earliest.
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
    """Returns the move of a task to ``state``. Raises ``UsageError`` if ``BY_HAND`` does not have it."""
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


def cancelled_by_hand(task: Task) -> Change | None:
    """Returns the move that cancels a task that was fetched by hand, if a request to cancel it has come."""
    if task.cancel_request is None:
        return None
    return change_by_hand(task, TaskState.CANCELLED)._replace(error_message=task.cancel_request.get("reason", ""))


def fail_by_hand(task: Task, error_message: str) -> Change:
    """Returns a move that fails the task for good, whatever retries are left. Raises ``UsageError``."""
    message = _checked_message(error_message)
    change = change_by_hand(task, TaskState.FAILED)
    return change._replace(error_message=message, error_entry=error_entry(task.attempt, message, None))


def retry_by_hand(task: Task, delay: timedelta, error_message: str) -> Change:
    """Returns a move that charges a failure to a task in progress, due again after ``delay``. Raises ``UsageError``."""
    message = _checked_message(error_message)
    if not isinstance(delay, timedelta):
        raise UsageError(f"the backoff is a timedelta, not {type(delay).__name__}")
    change = change_by_hand(task, TaskState.RETRIED)
    entry = error_entry(task.attempt, message, None)
    return change._replace(delay=_checked(delay), charge=1, error_message=message, error_entry=entry)


def _checked_message(message: str) -> str:
    if not isinstance(message, str):
        raise UsageError(f"the error message is a str, not {type(message).__name__}")
    return clean(message, MESSAGE_BYTES)
