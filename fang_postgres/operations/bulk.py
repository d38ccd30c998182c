"""Makes the operations that retry or remove the tasks of a filter, a batch at a time, or edit one that waits."""

import json
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from uuid import UUID

from fang_core.monitoring.listing import Key
from fang_core.record import Task, TaskState
from fang_core.tasks.editing import Edit
from fang_core.tasks.options import COLUMNS
from fang_core.tasks.selecting.filter import TaskFilter
from fang_postgres.once import builder
from fang_postgres.operations.base import OperationsBase
from fang_postgres.operations.inserts import seconds
from fang_postgres.operations.parameters import filter_parameters
from fang_postgres.operations.rows import as_task
from fang_postgres.statement import Operation, Rows, Statement
from fang_postgres.texts import StatementOfFile, read_ahead

if TYPE_CHECKING:
    from fang_postgres.schema import Tables


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

STATEMENTS: Final[dict[str, "Callable[[Tables], Statement]"]] = {
    **{f"retry_{way}": builder("bulk.retry", way) for way in RETRIES},
    **{f"remove_{way}": builder("bulk.remove", way) for way in REMOVALS},
    "next_ended_type": builder("bulk.next_ended_type"),
    "edit": builder("editing.edit"),
}
"""Builds each of them, by its name. They are apart since few processes need them."""

_FOLDER: Final = "bulk/"
for _name in STATEMENTS:
    read_ahead(_FOLDER + _name)


@lru_cache(maxsize=64)
def _made(schema: str, name: str) -> Statement:
    return StatementOfFile(name, schema, STATEMENTS[name], _FOLDER)


_PLACES: Final = {
    1: ("p_from",),
    2: ("p_after_at", "p_after_id"),
    4: ("p_after_type", "p_after_priority", "p_after_at", "p_after_id"),
}
"""The parameters of a place, by how many there are."""


class BulkOperations(OperationsBase):
    """Retries, removes or edits tasks. ``notify`` is false if the transaction must not notify."""

    def edit(self, edit: Edit, *, notify: bool) -> Operation[Task | None]:
        """Changes a waiting task; returns None if its row has changed since it was read, or an equal one counts."""
        params = {
            "p_id": edit.task.id,
            "p_read_attempt": edit.task.attempt,
            "p_read_updated_at": edit.task.updated_at,
            "p_metadata": edit.row.metadata,
            "p_compared": edit.compared,
            "p_lane": edit.row.lane,
            "p_scheduled_at": edit.scheduled_at,
            "p_delay": edit.delay,
            "p_sets_expires": edit.expires is not None,
            "p_expires": seconds(edit.expires),
            "p_expires_at": edit.expires if isinstance(edit.expires, datetime) else None,
            "p_notify": notify,
        }
        for name in COLUMNS:
            value = edit.options.get(name)
            params[f"p_sets_{name}"] = name in edit.options
            params[f"p_{name}"] = json.dumps(value) if name == "headers" and value is not None else value
        statement = _made(self.schema, "edit")
        return Operation(statement, params, lambda rows: as_task(rows[0]) if rows else None)

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
