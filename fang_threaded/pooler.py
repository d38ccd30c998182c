"""Behind a transaction pooler, such as PgBouncer: nothing is left to a session, which is another's by the next
transaction.

So every operation is a transaction, which begins with our settings, and no statement is prepared on the server.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, TypeVar

import psycopg

from fang_core.guard import PlanGuard
from fang_postgres.connecting import BEGIN_PINNED
from fang_threaded.bounded import BoundedConnection
from fang_threaded.runner import OwnRunner

T = TypeVar("T")

_BEGIN_PINNED: Final = BEGIN_PINNED.encode()


class PoolerConnection(BoundedConnection):
    """One whose transactions begin with our settings, in the same round trip.

    To be made with ``prepare_threshold`` None, and in autocommit.
    """

    @contextmanager
    def transaction(self, *_: Any, **__: Any) -> Iterator[None]:  # type: ignore[override]
        """One that is not nested. What fails in it is raised as it is, also where it cannot be rolled back."""
        self.execute(_BEGIN_PINNED)
        try:
            yield
        except BaseException:
            with suppress(psycopg.Error):
                self.rollback()
            raise
        self.commit()


class PoolerRunner(OwnRunner):
    """Runs each operation in a transaction."""

    def _lend(
        self, work: Callable[[psycopg.Connection[Any]], T], guard: PlanGuard | None, *, in_transaction: bool
    ) -> T:
        return super()._lend(work, guard, in_transaction=True)
