"""Makes the operations by hand: on tasks that an application names, or searches for."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

from fang_core.backends.claims import TURN_TAKEN
from fang_core.errors import UsageError
from fang_core.lifecycle import Change
from fang_core.record import HIGHEST_PRIORITY, Task
from fang_core.tasks.arguments import checked_id, checked_task_type
from fang_core.tasks.cancelling import Cancellation
from fang_core.tasks.selecting.filter import TaskFilter
from fang_core.words.moments import EARLIEST
from fang_postgres.operations.base import OperationsBase
from fang_postgres.operations.parameters import filter_parameters, lane_parameters
from fang_postgres.operations.rows import as_count, as_task, found_task
from fang_postgres.statement import Operation, Rows, Statement

Removing = Callable[[UUID, UUID, int, bool], Operation[tuple[int, UUID | None]]]
"""Makes one batch of a removal, from its first id, its last id, the most tasks to remove, and whether it may notify.

The batch returns how many it removed, and the id that it reached; None if nothing is left."""


class DuePlace(NamedTuple):
    """Names a place in the order of the index of due rows."""

    task_type: str
    priority: int = HIGHEST_PRIORITY
    scheduled_at: datetime = EARLIEST
    id: UUID = UUID(int=0)


_MOST_LANES: Final = 1_000
"""How many keys of a managed type one fetch by hand looks at."""


class Touched(NamedTuple):
    """Describes what a queue has fetched by hand.

    Attributes:
        registered: whether the queue's own row exists.
        is_managed: whether the type is managed, so that only ``touch_lane`` finds its tasks.
        task: the task that the queue now holds; None for none.
        turn_taken: whether another pool claimed from the type at that moment.
    """

    registered: bool
    is_managed: bool
    task: Task | None
    turn_taken: bool = False


class ByHand(OperationsBase):
    """Finds, changes, cancels, fetches and removes tasks. ``notify`` is false if the transaction must not notify."""

    def find(self, task_id: UUID) -> Operation[Task | None]:
        """Returns the task with this id, or None."""
        return Operation(
            self._statements.find, {"p_id": checked_id(task_id)}, lambda rows: found_task(rows[0]) if rows else None
        )

    def of_kinds(self, kinds: Sequence[str]) -> Operation[list[Task]]:
        """Returns all tasks of these kinds, in the order of their insertion."""
        params = {"p_kinds": list(kinds)}
        return Operation(self._statements.of_kinds, params, lambda rows: [as_task(row) for row in rows])

    def kinds(self) -> Operation[dict[str, int]]:
        """Returns how many rows of each kind there are."""
        return Operation(self._statements.kinds, {}, lambda rows: {row[0]: row[1] for row in rows})

    def change(self, change: Change, *, notify: bool) -> Operation[Task | None]:
        """Changes a task by hand; returns None if its row has changed since it was read, or has a live twin."""
        params = {
            "p_id": change.task.id,
            "p_read_state": str(change.task.state),
            "p_read_attempt": change.task.attempt,
            "p_read_updated_at": change.task.updated_at,
            "p_state": str(change.state),
            "p_revives": change.revives,
            "p_delay": change.delay,
            "p_charge": change.charge,
            "p_error_message": change.error_message,
            "p_error_entry": change.error_entry,
            "p_notify": notify,
        }
        return Operation(self._statements.change, params, lambda rows: as_task(rows[0]) if rows else None)

    def cancel(self, task_id: UUID, cancellation: Cancellation, *, notify: bool) -> Operation[Task | None]:
        """Cancels a task, or asks its pool to; returns None if the task has ended, or there is none."""
        params = {"p_id": task_id, "p_notify": notify} | _asked(cancellation)
        return Operation(self._statements.cancel, params, lambda rows: as_task(rows[0]) if rows else None)

    def cancel_ids(
        self, ids: Sequence[UUID], which: TaskFilter, cancellation: Cancellation, *, notify: bool
    ) -> Operation[int]:
        """Does the same with those of these tasks that match the filter; returns how many."""
        params = {"p_ids": list(ids), "p_notify": notify} | filter_parameters(which) | _asked(cancellation)
        return Operation(self._statements.cancel_ids, params, as_count)

    def cancel_held(
        self, last: UUID, limit: int, which: TaskFilter, cancellation: Cancellation, *, notify: bool
    ) -> Operation[int]:
        """Does the same with at most ``limit`` tasks in progress, with ids up to ``last``; returns how many."""
        params = (
            {"p_until": last, "p_limit": limit, "p_notify": notify} | filter_parameters(which) | _asked(cancellation)
        )
        return Operation(self._statements.cancel_held, params, as_count)

    def cancel_waiting(
        self,
        after: DuePlace,
        last: UUID,
        limit: int,
        which: TaskFilter,
        cancellation: Cancellation,
        *,
        notify: bool,
    ) -> Operation[tuple[int, DuePlace | None]]:
        """Does the same with at most ``limit`` waiting tasks behind a place, with ids up to ``last``.

        Returns how many, and the place that it reached; None if nothing is left.
        """
        params = (
            {"p_until": last, "p_limit": limit, "p_notify": notify} | filter_parameters(which) | _asked(cancellation)
        )
        params |= dict(zip(("p_after_type", "p_after_priority", "p_after_at", "p_after_id"), after, strict=True))

        def decode(rows: Rows) -> tuple[int, DuePlace | None]:
            count, _, *place = rows[0]
            return count, None if place[0] is None else DuePlace(*place)

        return Operation(self._statements.cancel_waiting, params, decode)

    def touch(self, task_type: str, pool_id: UUID) -> Operation[Touched]:
        """Fetches a due task by hand, unless its type is managed."""
        params = lane_parameters((task_type,)) | {"p_pool_id": pool_id, "p_limit": 1}

        def decode(rows: Rows) -> Touched:
            registered, managed, *task = rows[0]
            return Touched(registered, task_type in managed, None if task[0] is None else as_task(task))

        return Operation(self._statements.touch, params, decode)

    def touch_lane(self, task_type: str, pool_id: UUID) -> Operation[Touched]:
        """Fetches a due task of a managed type by hand. Keys take turns in what one queue fetches."""
        params = {
            "p_task_type": task_type,
            "p_pool_id": pool_id,
            "p_limit": 1,
            "p_after_lane": self._fetched_last.get(task_type, ""),
            "p_most_lanes": _MOST_LANES,
            "p_quantum": 1,
        }

        def decode(rows: Rows) -> Touched:
            registered, is_managed, room, after_lane, isolation = rows[0][:5]
            if is_managed and isolation != "read committed":
                raise UsageError(f"task type {task_type} has limits: fetch in a transaction that is READ COMMITTED")
            if after_lane is not None:
                self._fetched_last[task_type] = after_lane
            found = as_task(rows[1][5:]) if len(rows) > 1 else None
            return Touched(registered, is_managed, found, room == TURN_TAKEN)

        return Operation(self._statements.touch_lane, params, decode)

    def remove_one(self, task_id: UUID, *, notify: bool) -> Operation[int]:
        """Removes the task with this id; returns how many tasks it removed."""
        return Operation(self._statements.remove_one, {"p_id": task_id, "p_notify": notify}, as_count)

    def remove_twin(self, uniq_hash: str, *, notify: bool) -> Operation[int]:
        """Removes the live unique task with this hash; returns how many tasks it removed."""
        params = {"p_uniq_hash": uniq_hash, "p_notify": notify}
        return Operation(self._statements.remove_twin, params, as_count)

    def last_id(self) -> Operation[UUID | None]:
        """Returns the greatest id, or None if there is no task."""
        return Operation(self._statements.last_id, {}, lambda rows: rows[0][0] if rows else None)

    def remove_type(self, task_type: str) -> Removing:
        """Makes batches that remove all tasks of a type."""
        return self._removing(self._statements.remove_type, {"p_task_type": checked_task_type(task_type)})

    def remove_all(self) -> Removing:
        """Makes batches that remove all tasks."""
        return self._removing(self._statements.remove_all, {})

    def remove_scheduled(self) -> Removing:
        """Makes batches that remove all tasks that wait for their first run at a later time."""
        return self._removing(self._statements.remove_scheduled, {})

    def _removing(self, statement: Statement, which: dict[str, Any]) -> Removing:
        def batch(first: UUID, last: UUID, limit: int, notify: bool) -> Operation[tuple[int, UUID | None]]:
            params = {"p_from": first, "p_until": last, "p_limit": limit, "p_notify": notify} | which
            return Operation(statement, params, lambda rows: (rows[0][0], rows[0][1]))

        return batch


def _asked(cancellation: Cancellation) -> dict[str, Any]:
    return {"p_reason": cancellation.reason, "p_by": cancellation.by}
