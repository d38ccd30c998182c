"""Runs operations behind a transaction pooler, such as PgBouncer, which may use another session for each transaction.

So every operation is a transaction that begins with Fang's settings, and no statement is prepared on the server.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, TypeVar

import psycopg

from fang_postgres.connections.connecting import BEGIN_PINNED
from fang_postgres.planner_guard import PlanGuard
from fang_threaded.connection import Connection
from fang_threaded.database import PsycopgDatabase

T = TypeVar("T")

_BEGIN_PINNED: Final = BEGIN_PINNED.encode()


class PoolerConnection(Connection):
    """Begins its transactions with Fang's settings, in the same round trip.

    Make it with ``prepare_threshold`` None, and in autocommit.
    """

    @contextmanager
    def transaction(self, *_: Any, **__: Any) -> Iterator[None]:  # type: ignore[override]
        """Is one transaction, not nested. Raises an error in it unchanged, even if it cannot be rolled back."""
        self.execute(_BEGIN_PINNED)
        try:
            yield
        except BaseException:
            with suppress(psycopg.Error):
                self.rollback()
            raise
        self.commit()


class PoolerDatabase(PsycopgDatabase):
    """Runs each operation in a transaction."""

    def _lend(
        self, work: Callable[[psycopg.Connection[Any]], T], guard: PlanGuard | None, *, in_transaction: bool
    ) -> T:
        return super()._lend(work, guard, in_transaction=True)
