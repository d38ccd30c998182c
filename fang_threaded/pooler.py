"""Behind a transaction pooler, such as PgBouncer: nothing is left to a session, which is another's by the next
transaction.

So every operation is a transaction, which begins with our settings, and no statement is prepared on the server.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Final, TypeVar

import psycopg

from fang_core.errors import BackendUnavailable
from fang_core.guard import PlanGuard
from fang_postgres.connecting import BEGIN_PINNED
from fang_postgres.diagnosis import before_sending
from fang_threaded.bounded import BoundedConnection
from fang_threaded.runner import SET_GUARD_RAW, OwnRunner, is_on, typed, watched

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
    """Runs each operation in a transaction. Until its COMMIT is sent nothing can have been written, so what is lost
    before, such as the wait for a server, is ``NotConnected``."""

    def _lend(
        self, work: Callable[[psycopg.Connection[Any]], T], guard: PlanGuard | None, *, in_transaction: bool
    ) -> T:
        is_committing = False

        def transact(connection: psycopg.Connection[Any]) -> T:
            nonlocal is_committing
            with connection.transaction():
                result = _guarded(connection, work, guard)
                is_committing = True
            return result

        try:
            return super()._lend(transact, None, in_transaction=False)
        except psycopg.Error as error:
            problem = typed(error, self._schema)
            if is_committing or type(problem) is not BackendUnavailable:
                raise
            raise before_sending(problem) from error


def _guarded(
    connection: psycopg.Connection[Any], work: Callable[[psycopg.Connection[Any]], T], guard: PlanGuard | None
) -> T:
    is_guarded = is_on(guard)
    if is_guarded:
        connection.execute(SET_GUARD_RAW)
    return watched(partial(work, connection), guard, is_guarded=is_guarded)
