"""Defines the errors of Fang, one tree, grouped by the person who must act on them.

Every message is one line that says what is wrong and what to do. None carries a payload or a password.
"""

from collections.abc import Collection
from typing import Any, TypeVar
from uuid import UUID

E = TypeVar("E", bound=Exception)


class Picklable:
    """Lets an exception be copied and pickled with its attributes, whatever its ``__init__`` takes.

    Exception's own ``__reduce__`` calls ``__init__`` with the message.
    """

    args: tuple[object, ...]

    def __reduce__(self) -> tuple[Any, ...]:
        return _remade, (type(self), self.args, dict(self.__dict__))


def _remade(cls: type[E], args: tuple[object, ...], attributes: dict[str, object]) -> E:
    error = cls.__new__(cls, *args)
    error.__dict__.update(attributes)
    return error


class FangError(Picklable, Exception):
    """The root of all exceptions that Fang raises on purpose."""


# The author of a task class -------------------------------------------------------------------------------------------


class DefinitionError(FangError, TypeError):
    """A task class cannot work as it is written; raised when the class is defined."""


class DuplicateKind(DefinitionError):
    """Two different classes want the same kind."""


# The caller of a queue ------------------------------------------------------------------------------------------------


class UsageError(FangError, ValueError):
    """An argument cannot be used; nothing was written, and the caller's transaction is still good."""


class WrongArguments(UsageError, TypeError):
    """A call has arguments that the callee does not take; the message lists those that it takes."""


class PayloadError(UsageError):
    """A task's fields cannot be stored, or could not be read back by a worker.

    Attributes:
        kind: the kind of the task.
        path: the path to the value in the task, like ``.items[2].name``; empty for the task as a whole.
    """

    def __init__(self, kind: str, path: str, why: str) -> None:
        super().__init__(f"{kind}{path}: {why}")
        self.kind = kind
        self.path = path


class IdInUse(UsageError):
    """Another task has the id that an insert was given."""


class NotCopyable(UsageError, TypeError):
    """A queue or a pool was copied or pickled. It is a ``TypeError`` too, as Python raises it for locks and sockets."""


class UnknownPool(FangError):
    """No pool is registered under this id: it has ended, was taken for dead, or has another id since."""


class UnknownSchedule(FangError):
    """There is no schedule of this name: none was put, and no pool has declared one of a class."""


class StaleTask(FangError):
    """The row was changed or removed after it was read. Read it again."""


class NotInRun(FangError, LookupError):
    """``current_run()`` was called outside of a task's run."""


# The run of a task ----------------------------------------------------------------------------------------------------


class TimedOut(FangError):
    """A run took longer than its task's ``timeout``. It is a failure like any other: the task is retried."""


# The worker that meets a row ------------------------------------------------------------------------------------------


class UnreadablePayload(FangError, ValueError):
    """A row's payload cannot be read, or does not fit the class that this process knows for its kind.

    A worker treats it as a failure of the task like any other.

    Attributes:
        path: the field that does not fit, like ``.items[2].name``; empty for the payload as a whole.
        reason: pydantic's type for the error, like ``missing`` or ``int_type``; empty if it is not known.
    """

    def __init__(self, message: str, *, path: str = "", reason: str = "") -> None:
        super().__init__(message)
        self.path = path
        self.reason = reason


# The operator ---------------------------------------------------------------------------------------------------------


class BackendError(FangError):
    """The backend refused a call, or failed at it: nothing was written, unless a subclass says otherwise.

    If the error is of no subclass, the same call can succeed later: the text says what to do.
    """


class BackendUnavailable(BackendError):
    """The backend does not answer, or closed the connection; the statement may or may not have taken effect."""


class NotConnected(BackendUnavailable):
    """No connection could be made, or it broke before any write was sent: nothing was written."""


class ReadOnlyServer(BackendError):
    """The server takes no writes: it is a standby, or its database is read only. Nothing was written.

    The connection is closed: during a failover a new one may lead to a server that takes writes.
    """


class RowsLocked(BackendError):
    """Another session has locked rows, or the whole table, for too long. Try again.

    Attributes:
        written: ids of the outcomes that found their row and were written nevertheless; nothing else was.
        locked: ids of the outcomes whose rows are locked, if that is known.
    """

    def __init__(self, message: str, *, written: Collection[UUID] = (), locked: Collection[UUID] = ()) -> None:
        super().__init__(message)
        self.written = frozenset(written)
        self.locked = frozenset(locked)


class NotificationsFull(BackendError):
    """The server's NOTIFY queue is full because some session has stopped reading it. Nothing was written."""


class StatementRefused(BackendError):
    """A value or the state of a row is at fault: the same statement would be refused again. Nothing was written.

    Attributes:
        character: the character that the database's encoding does not have, if that is the reason.
    """

    def __init__(self, message: str, *, character: str | None = None) -> None:
        super().__init__(message)
        self.character = character


class TaskLost(FangError):
    """A run cannot complete its task, which it no longer holds: its transaction can only be rolled back."""


class TwinExists(StatementRefused):
    """A unique task cannot be revived, or inserted if its insert is to raise then: an equal one keeps it out."""


class OutcomeUnknown(BackendUnavailable):
    """The connection broke while a write was being committed: it may be committed, or not.

    Look with ``find_task_by_id`` before inserting again: ``ids`` holds the ids of the inserted tasks.
    """

    def __init__(self, message: str, ids: tuple[object, ...] = ()) -> None:
        super().__init__(message)
        self.ids = ids


class AccessRefused(BackendError):
    """The database refuses this user, password or database name, or a pooler refuses the settings of our connection."""


class SchemaError(BackendError):
    """The tables are missing, or belong to another version of this library."""


class MissingExtra(FangError, ImportError):
    """A module or function needs packages that an extra installs."""


def is_refusal(error: BaseException) -> bool:
    """Returns whether repeating the statement cannot help, since the statement is at fault and not the backend."""
    return isinstance(error, StatementRefused)
