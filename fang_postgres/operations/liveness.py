"""Makes the operations by which pools give signs of life, watch each other, and take back the tasks of dead ones."""

import json
from collections.abc import Sequence
from functools import partial
from uuid import UUID

from fang_core.backends.pools import Rescued
from fang_core.liveness import Beat, BeatRequest, CancelRequest, Pulse, lock_key
from fang_core.messages import Delivery
from fang_core.record import TaskState
from fang_postgres.operations.base import OperationsBase
from fang_postgres.operations.rows import as_nothing, as_object
from fang_postgres.statement import Operation, Rows


class Liveness(OperationsBase):
    """Beats, and rescues."""

    def beat(self, request: BeatRequest, *, locks: bool) -> Operation[Beat]:
        """Writes a pool's sign of life; returns those of all pools, and the pool's messages."""
        params = {
            "p_pool_id": request.pool_id,
            "p_locks": locks,
            "p_key": lock_key(request.pool_id),
            "p_stopping": request.stopping,
            "p_runs": request.runs,
            "p_workers": request.workers,
            "p_handled": [str(message_id) for message_id in request.handled],
        }
        return Operation(self._statements.beat, params, _as_own_beat)

    def lost_or_cancelled(self, request: BeatRequest) -> Operation[tuple[list[UUID], list[CancelRequest]]]:
        """Returns which of the ``held`` tasks the pool has lost, and which are to be cancelled."""
        params = {
            "p_pool_id": request.pool_id,
            "p_ids": [task_id for task_id, _ in request.held],
            "p_attempts": [attempt for _, attempt in request.held],
        }

        def decode(rows: Rows) -> tuple[list[UUID], list[CancelRequest]]:
            lost = [task_id for task_id, request in rows if request is None]
            asked = [(task_id, *request) for task_id, request in rows if request is not None]
            return lost, [CancelRequest(task_id, reason or "", by or "") for task_id, reason, by in asked]

        return Operation(self._statements.lost_or_cancelled, params, decode)

    def still_dead(self, dead: Sequence[Pulse]) -> Operation[list[tuple[UUID, bool, int, list[str]]]]:
        """Locks the records of pools whose counters have not moved; returns whether each was stopping, and its
        ``max_crashes`` and ``isolated_kinds``."""
        ordered = sorted(dead, key=lambda pulse: pulse.pool_id.bytes)
        params = {"p_ids": [pulse.pool_id for pulse in ordered], "p_beats": [pulse.beats for pulse in ordered]}
        return Operation(self._statements.still_dead, params, lambda rows: [(*row,) for row in rows])

    def orphaned(self) -> Operation[list[UUID]]:
        """Returns the ids of pools that hold tasks and have no record."""
        return Operation(self._statements.orphaned, {}, lambda rows: [row[0] for row in rows])

    def rescue(
        self, pool_id: UUID, *, charged: bool, max_crashes: int, isolated_kinds: Sequence[str] = ()
    ) -> Operation[tuple[int, list[Rescued]]]:
        """Takes back a dead pool's tasks, except locked ones; returns how many it held, and the tasks taken back."""
        params = {
            "p_pool_id": pool_id,
            "p_charged": charged,
            "p_max_crashes": max_crashes,
            "p_isolated_kinds": list(isolated_kinds),
            "p_notify": True,
        }
        return Operation(self._statements.rescue, params, partial(_as_rescued, was_stopping=not charged))

    def declare_dead(self, pool_id: UUID) -> Operation[None]:
        """Marks the record of a dead pool, which is kept but can never beat or claim again."""
        return Operation(self._statements.declare_dead, {"p_pool_id": pool_id}, as_nothing)

    def reconcile(self, pool_id: UUID, known: Sequence[UUID]) -> Operation[int]:
        """Gives back tasks that the pool holds and that are not in ``known``; returns how many."""
        return Operation(
            self._statements.reconcile, {"p_pool_id": pool_id, "p_ids": list(known), "p_notify": True}, len
        )


def _as_rescued(rows: Rows, *, was_stopping: bool) -> tuple[int, list[Rescued]]:
    back = [
        Rescued(task_id, kind, attempt, crashes, TaskState(state), was_stopping, charged, task_type)
        for _, task_id, kind, attempt, crashes, state, task_type, charged, _ in rows
        if task_id is not None
    ]
    return rows[0][0], back


def as_beat(rows: Rows) -> Beat:
    """Returns the beat of a statement that looks at all pools."""
    pulses = [Pulse(*row[2:7]) for row in rows if row[2] is not None]
    return Beat(rows[0][0], rows[0][1], pulses)


def _as_own_beat(rows: Rows) -> Beat:
    told = [message for row in rows if row[-1] is not None for message in json.loads(row[-1])]
    return as_beat(rows)._replace(messages=sorted(_delivery(*message) for message in told))


def _delivery(message_id: int, kind: str, body: str, sender: str | None) -> Delivery:
    return Delivery(message_id, kind, as_object(body), sender or "")
