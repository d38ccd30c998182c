"""Has what the shells of queues need in both modes: the errors of their calls."""

from collections.abc import Iterable

from fang_core.errors import (
    BackendError,
    BackendUnavailable,
    NotConnected,
    OutcomeUnknown,
    StatementRefused,
    UsageError,
)
from fang_core.tasks.insertion import NewTask, name_unstorable


def refine_failure(error: BackendError, what: str, rows: Iterable[NewTask]) -> None:
    """Names, in the error of an insert, the place of a value that the backend cannot store.

    Raises ``OutcomeUnknown``, with the ids of the tasks that may be there, if the connection broke before the reply.

    Args:
        what: what is not known then, such as "whether the task was inserted".
        rows: the rows that were sent.
    """
    if isinstance(error, StatementRefused):
        name_unstorable(rows, error.character)
    elif isinstance(error, BackendUnavailable) and not isinstance(error, NotConnected):
        raise OutcomeUnknown(f"it is not known {what}: {error}", tuple(row.id for row in rows)) from error


def without_transactions(queue: str) -> UsageError:
    """Returns the error for ``connection=`` on a queue whose backend has no transactions to take part in."""
    return UsageError(
        f"{queue} cannot take part in your transaction: leave out connection=, and insert after your commit, with id= "
        "so that the insert can be repeated"
    )


def fetch_unseen() -> UsageError:
    """Returns the error for a fetch in a transaction that cannot see the record of the queue's own pool."""
    return UsageError("a snapshot of the transaction is older than this queue's first fetch: begin another one")


def too_busy(kind: str) -> BackendError:
    """Returns the error for a tick that other processes made and removed again and again."""
    return BackendError(f"the next tick of {kind} was made and removed by other processes meanwhile: try again")
