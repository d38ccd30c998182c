"""Makes the operations that retry or remove the tasks of a filter, a batch at a time."""

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import lru_cache, partial
from typing import Any, Final, NamedTuple
from uuid import UUID

from fang_core.monitoring.listing import Key
from fang_core.record import TaskState
from fang_core.tasks.filter import TaskFilter
from fang_postgres.operations.base import OperationsBase
from fang_postgres.schema import Tables, tables
from fang_postgres.sql import bulk as sql
from fang_postgres.sql.filters import filter_parameters
from fang_postgres.statement import Operation, Rows, Statement


class Batch(NamedTuple):
    """Says what a batch has done.

    Attributes:
        changed: how many tasks it has changed or removed.
        taken: how many of those that it looked at match; the rest was locked, or is unique and has a twin.
        reached: the place behind which the next batch begins; None if nothing is left.
    """

    changed: int
    taken: int
    reached: Key | None


class Sizes(NamedTuple):
    """Says how many tasks a batch looks at, and how many of those that match it takes."""

    window: int
    limit: int


RETRIES: Final = ("ended", "failed", "retried", "ids")
REMOVALS: Final = ("ended", "failed", "waiting", "inserted", "held", "ids")

STATEMENTS: Final[dict[str, Callable[[Tables], Statement]]] = {
    **{f"retry_{way}": partial(sql.retry, name=way) for way in RETRIES},
    **{f"remove_{way}": partial(sql.remove, name=way) for way in REMOVALS},
    "next_ended_type": sql.next_ended_type,
}
"""Builds each of them, by its name. They are apart since few processes need them, and made when first used."""


@lru_cache(maxsize=64)
def _made(schema: str, name: str) -> Statement:
    return STATEMENTS[name](tables(schema))


_PLACES: Final = {
    1: ("p_from",),
    2: ("p_after_at", "p_after_id"),
    4: ("p_after_type", "p_after_priority", "p_after_at", "p_after_id"),
}
"""The parameters of a place, by how many there are."""


class BulkOperations(OperationsBase):
    """Retries or removes tasks. ``notify`` is false if the transaction must not notify."""

    def bulk(
        self,
        name: str,
        which: TaskFilter,
        as_of: datetime,
        sizes: Sizes,
        *,
        behind: Key,
        of: dict[str, Any],
        notify: bool,
    ) -> Operation[Batch]:
        """Does one batch of a statement, behind this key, or from this id down; ``of`` are the parameters of the way by
        which it finds tasks."""
        place = dict(zip(_PLACES[len(behind)], behind, strict=True))
        params = {"p_as_of": as_of, "p_window": sizes.window, "p_limit": sizes.limit, "p_notify": notify}

        def decode(rows: Rows) -> Batch:
            changed, taken, _, *key = rows[0]
            return Batch(changed, taken, None if key[-1] is None else tuple(key))

        return Operation(_made(self.schema, name), params | place | filter_parameters(which) | of, decode)

    def next_ended_type(self, state: TaskState, task_type: str) -> Operation[str | None]:
        """Returns the first type behind this one that has tasks of an ended state; None if there is none."""
        params = {"p_state": str(state), "p_task_type": task_type}
        return Operation(_made(self.schema, "next_ended_type"), params, lambda rows: rows[0][0] if rows else None)


def ids_of(which: TaskFilter, most: int) -> list[Sequence[UUID]]:
    """Returns the ids that a filter names, in parts; in an order in which two calls do not wait for each other."""
    ids = sorted(which.ids or (), key=lambda task_id: task_id.bytes)
    return [ids[start : start + most] for start in range(0, len(ids), most)]
