"""Makes the operations that write the outcomes of runs."""

from collections.abc import Callable, Sequence
from operator import attrgetter, itemgetter
from typing import Any, Final
from uuid import UUID

from fang_core.config import RetentionMode
from fang_core.lifecycle import Outcome
from fang_core.record import TaskState
from fang_core.runs.run import Run
from fang_postgres.operations.base import OperationsBase
from fang_postgres.operations.rows import as_ids, as_nothing
from fang_postgres.shapes import ANSWERS_CANCEL, CHARGES_CRASH, FORGETS_CRASHES
from fang_postgres.statement import Operation

_by_id: Final[Callable[[Outcome], bytes]] = attrgetter("id.bytes")  # the order of uuids in Postgres
_ID, _ATTEMPT, _STATE = (itemgetter(Outcome._fields.index(name)) for name in ("id", "attempt", "state"))

LOCK_WAIT: Final = "30ms"
"""How long a statement waits for rows that another transaction has locked; then it writes only the unlocked ones.

Short changes by hand end in that time, and so do claims: one that began before another pool claimed a task locks it in
passing, until it ends. It is too short to be taken for the time of a wrong plan: see ``planner_guard.SLOW``.
"""


class Outcomes(OperationsBase):
    """Writes outcomes, and finds out which rows are locked."""

    def complete(
        self, pool_id: UUID, outcomes: Sequence[Outcome], *, lock_wait: str = LOCK_WAIT
    ) -> list[Operation[set[UUID]]]:
        """Writes these outcomes, with one operation for each way of writing; run them in one transaction.

        ``lock_wait`` is how long each may wait for rows that another transaction has locked, as Postgres writes it.
        """
        in_order = sorted(outcomes, key=_by_id)
        removed, finished, settled = in_order, [], []
        if any(map(_STATE, in_order)):  # usually all are removed, and this takes no step of Python for each
            removed = [outcome for outcome in in_order if outcome.state is None]
            finished = [outcome for outcome in in_order if outcome.state is TaskState.FINISHED]
            settled = [outcome for outcome in in_order if outcome.state not in {None, TaskState.FINISHED}]
        operations = []
        wait = {"p_lock_wait": lock_wait}
        if removed:
            operations.append(Operation(self._statements.remove, _fence(pool_id, removed) | wait, as_ids))
        if finished:
            operations.append(Operation(self._statements.finish, _fence(pool_id, finished) | wait, as_ids))
        if settled:
            params = _fence(pool_id, settled) | _values(settled) | wait
            operations.append(Operation(self._statements.settle, params, as_ids))
        return operations

    def unlocked(self, pool_id: UUID, outcomes: Sequence[Outcome]) -> Operation[set[UUID]]:
        """Returns the tasks that are still held and not locked by another transaction."""
        return Operation(self._statements.unlocked, _fence(pool_id, sorted(outcomes, key=_by_id)), as_ids)

    def held(self, pool_id: UUID, outcomes: Sequence[Outcome]) -> Operation[set[UUID]]:
        """Returns the tasks that are still held, locked or not."""
        return Operation(self._statements.held, _fence(pool_id, sorted(outcomes, key=_by_id)), as_ids)

    def complete_one(self, run: Run) -> Operation[None]:
        """Completes a run's task in the run's own transaction; fails if the run no longer holds its task."""
        keep = run.retention_mode is RetentionMode.KEEP_ALL
        params = {"p_id": run.task.id, "p_attempt": run.task.attempt, "p_pool_id": run.pool_id}
        return Operation(
            self._statements.complete_and_keep if keep else self._statements.complete_and_remove, params, as_nothing
        )


def _fence(pool_id: UUID, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    return {
        "p_pool_id": pool_id,
        "p_ids": list(map(_ID, outcomes)),
        "p_attempts": list(map(_ATTEMPT, outcomes)),
    }


def _values(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    return {
        "p_states": [str(outcome.state) for outcome in outcomes],
        "p_delays": [outcome.delay for outcome in outcomes],
        "p_charges": [outcome.charge for outcome in outcomes],
        "p_flags": [_flags(outcome) for outcome in outcomes],
        "p_error_messages": [outcome.error_message for outcome in outcomes],
        "p_error_entries": [outcome.error_entry for outcome in outcomes],
        "p_notify": True,
    }


def _flags(outcome: Outcome) -> int:
    return (
        outcome.forgets_crashes * FORGETS_CRASHES
        | outcome.answers_cancel * ANSWERS_CANCEL
        | outcome.charges_crash * CHARGES_CRASH
    )
