"""The errors of Fang, one tree, ordered by who must act on them.

Every message is one line that says what is wrong and what to do. None carries a payload or a password.
"""

from collections.abc import Collection
from typing import Any, TypeVar
from uuid import UUID

E = TypeVar("E", bound=Exception)


class Picklable:
    """Has an exception copied and pickled with its attributes, whatever its ``__init__`` takes.

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
    """Root of everything that Fang raises on purpose."""


# The author of a task class -------------------------------------------------------------------------------------------


class DefinitionError(FangError, TypeError):
    """A task class cannot work as it is written; raised where the class is defined."""


class DuplicateKind(DefinitionError):
    """Two different classes want the same kind."""


# The caller of a queue ------------------------------------------------------------------------------------------------


class UsageError(FangError, ValueError):
    """An argument cannot be used; nothing was written, and the caller's transaction is still good."""


class WrongArguments(UsageError, TypeError):
    """A call has arguments that its callee does not take; the message lists those that it takes."""


class PayloadError(UsageError):
    """A task's fields cannot be stored, or could not be read back by a worker.

    Attributes:
        kind: the kind of the task.
        path: where in the task the value stands, like ``.items[2].name``; empty for the task as a whole.
    """

    def __init__(self, kind: str, path: str, why: str) -> None:
        super().__init__(f"{kind}{path}: {why}")
        self.kind = kind
        self.path = path


class IdInUse(UsageError):
    """Another task has the id that an insert was given."""


class NotCopyable(UsageError, TypeError):
    """A queue or a pool was copied or pickled. A ``TypeError`` as well, as Python raises it for locks and sockets."""


class StaleTask(FangError):
    """The row is not as it was read any more: somebody else changed or removed it. Read it again."""


class NotInRun(FangError, LookupError):
    """``current_run()`` was called outside of a task's run."""


# The worker that meets a row ------------------------------------------------------------------------------------------


class UnreadablePayload(FangError, ValueError):
    """A row's payload cannot be read, or does not fit the class that this process knows for its kind.

    To a worker it is a failure of the task like any other.

    Attributes:
        path: which field does not fit, like ``.items[2].name``; empty for the payload as a whole.
        reason: pydantic's name for what is wrong with it, like ``missing`` or ``int_type``; empty if it is not known.
    """

    def __init__(self, message: str, *, path: str = "", reason: str = "") -> None:
        super().__init__(message)
        self.path = path
        self.reason = reason


# The operator ---------------------------------------------------------------------------------------------------------


class BackendError(FangError):
    """The backend refused what was asked of it, or failed at it: nothing was written, unless a subclass says otherwise.

    Where it is of none of them the same can succeed later: the text says what to do.
    """


class BackendUnavailable(BackendError):
    """The backend does not answer, or closed the connection; the statement may or may not have taken effect."""


class NotConnected(BackendUnavailable):
    """No connection could be made, or it broke before what could be written was sent: nothing was written."""


class ReadOnlyServer(BackendError):
    """The server takes no writes: it is a standby, or its database is read only. Nothing was written.

    The connection is closed: during a failover a new one may lead to a server that takes writes.
    """


class RowsLocked(BackendError):
    """Others have locked rows, or the whole table, for too long. Try again.

    Attributes:
        written: ids of the outcomes that found their row and were written all the same; nothing else was.
        locked: ids of those whose rows are locked, where that is known.
    """

    def __init__(self, message: str, *, written: Collection[UUID] = (), locked: Collection[UUID] = ()) -> None:
        super().__init__(message)
        self.written = frozenset(written)
        self.locked = frozenset(locked)


class NotificationsFull(BackendError):
    """Nobody can be notified any more, since somebody else does not read what was told. Nothing was written."""


class StatementRefused(BackendError):
    """A value or the state of a row is at fault: the same statement would be refused again. Nothing was written.

    Attributes:
        character: the one that the database's encoding does not have, if that is why.
    """

    def __init__(self, message: str, *, character: str | None = None) -> None:
        super().__init__(message)
        self.character = character


class TaskLost(FangError):
    """A run wanted to complete its task, which it no longer holds: its transaction can only be rolled back."""


class TwinExists(StatementRefused):
    """A unique task cannot be revived: an equal one is waiting or running."""


class OutcomeUnknown(BackendUnavailable):
    """The connection broke while a write was being committed: it may stand, or not.

    Look with ``find_task_by_id`` before inserting again: the ids of what was inserted are in ``ids``.
    """

    def __init__(self, message: str, ids: tuple[object, ...] = ()) -> None:
        super().__init__(message)
        self.ids = ids


class AccessRefused(BackendError):
    """The database refuses this user, password or database name; or a pooler the settings with which we connect."""


class SchemaError(BackendError):
    """The tables are missing, or are of another version than this library's."""


class MissingExtra(FangError, ImportError):
    """Something was imported or called without what its extra brings."""


def is_refusal(error: BaseException) -> bool:
    """Whether repeating cannot help, since what was sent is at fault and not the backend's condition."""
    return isinstance(error, StatementRefused)
