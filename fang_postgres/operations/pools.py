"""Makes the operations on the records of pools."""

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any
from uuid import UUID

from fang_core.backends.claims import Serves
from fang_core.backends.live_runs import as_live
from fang_core.backends.pools import PoolRecord
from fang_core.record import PoolInfo
from fang_postgres.operations.base import OperationsBase
from fang_postgres.operations.rows import as_nothing, as_object
from fang_postgres.revisions import Revision, read_revision
from fang_postgres.statement import Operation, Rows, Statement


class Pools(OperationsBase):
    """Makes pools known, and sends them messages."""

    def version(self) -> Operation[Revision | None]:
        """Returns the revision that the tables are at."""
        return read_version(self._statements.version)

    def register(self, pool: PoolRecord) -> Operation[None]:
        """Inserts a pool's own row, without which it claims nothing."""
        params = {
            "p_pool_id": pool.id,
            "p_mode": pool.mode,
            "p_host": pool.host.encode("ascii", "backslashreplace").decode(),  # every encoding can hold ASCII
            "p_pid": pool.pid,
            "p_task_types": self.unheld.without(pool.task_types),
            "p_kinds": self.unheld.without(pool.kinds),
            "p_workers": pool.workers,
            "p_lease": pool.lease,
            "p_max_crashes": pool.max_crashes,
            "p_isolated_kinds": self.unheld.without(pool.isolated_kinds),
        }
        return Operation(self._statements.register, params, as_nothing)

    def update_kinds(self, pool_id: UUID, kinds: Sequence[str], isolated_kinds: Sequence[str] = ()) -> Operation[bool]:
        """Writes these kinds into a pool's row; returns whether the row still exists."""
        values = {
            "p_pool_id": pool_id,
            "p_kinds": self.unheld.without(kinds),
            "p_isolated_kinds": self.unheld.without(isolated_kinds),
        }
        return Operation(self._statements.update_kinds, values, bool)

    def unregister(self, pool_id: UUID) -> Operation[None]:
        """Deletes a pool's row."""
        return Operation(self._statements.unregister, {"p_pool_id": pool_id}, as_nothing)

    def set_waiting(self, pool_id: UUID, waiting: bool) -> Operation[None]:
        """Writes whether a pool waits to be woken."""
        return Operation(self._statements.set_waiting, {"p_pool_id": pool_id, "p_waiting": waiting}, as_nothing)

    def list_pools(self) -> Operation[list[PoolInfo]]:
        """Returns the registered pools, in the order in which they started."""
        return Operation(self._statements.list_pools, {}, as_pools)

    def send(self, pool_id: UUID, kind: str, body: Mapping[str, Any], sender: str) -> Operation[bool]:
        """Leaves a message for a pool, and wakes its heart; returns whether there is such a pool."""
        params = {
            "p_pool_id": pool_id,
            "p_kind": kind,
            "p_body": json.dumps(body),
            "p_sender": sender.encode("ascii", "backslashreplace").decode(),  # see ``register``
            "p_notify": True,
        }
        return Operation(self._statements.send, params, bool)

    def forget_messages(self) -> Operation[None]:
        """Removes messages to pools that have no record."""
        return Operation(self._statements.forget_messages, {}, as_nothing)

    def forget_live(self) -> Operation[None]:
        """Removes what pools said of their runs that have no record."""
        return Operation(self._statements.forget_live, {}, as_nothing)

    def has_taker(self, pool_id: UUID, tasks: Collection[Serves]) -> Operation[bool]:
        """Returns whether another pool may have a free worker for one of these tasks."""
        params = {
            "p_pool_id": pool_id,
            "p_task_types": [task_type for task_type, _ in tasks],
            "p_kinds": [kind for _, kind in tasks],
        }
        return Operation(self._statements.has_taker, params, lambda rows: rows[0][0])


def read_version(statement: Statement) -> Operation[Revision | None]:
    """Returns the revision that the tables are at, or None if their version table is empty."""
    return Operation(statement, {}, lambda rows: read_revision(*rows[0]) if rows else None)


def as_pools(rows: Rows) -> list[PoolInfo]:
    """Returns the pools of a statement that lists them."""
    return [
        PoolInfo._make(
            (*row[:4], _names(row[4]), _names(row[5]), *row[6:9], as_object(row[9]), *row[10:13], as_live(row[13]))
        )
        for row in rows
    ]


def _names(array: Sequence[Any]) -> tuple[str, ...]:
    """Returns the texts of an array, which may also contain nulls and arrays, if it was written by hand."""
    return tuple(each for each in array if isinstance(each, str))
