"""Makes the operations by which a pool claims tasks, and finds out when to claim."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import product
from operator import attrgetter, itemgetter
from typing import Any, Final

from fang_core.backends.claims import Claim, ClaimRequest, LaneClaim, LaneRequest
from fang_core.record import PRIORITIES, ClaimedTask, was_charged
from fang_postgres.operations.base import OperationsBase
from fang_postgres.operations.parameters import LOOKED_AT, lane_parameters
from fang_postgres.operations.rows import as_texts
from fang_postgres.pool.snapshot import parse_snapshot
from fang_postgres.statement import Operation, Rows

# A claim has up to a thousand rows: these read each without a step of Python.
_OF_TASK: Final = itemgetter(slice(4, None))
_OF_LANE_TASK: Final = itemgetter(slice(12, None))
_make_task: Final[Callable[[tuple[Any, ...]], ClaimedTask]] = partial(tuple.__new__, ClaimedTask)
_HEADERS, _CANCEL_REQUEST = (itemgetter(ClaimedTask._fields.index(name)) for name in ("headers", "cancel_request"))
_ORDER: Final = attrgetter("priority", "scheduled_at", "id.bytes")


class Claims(OperationsBase):
    """Claims due tasks, and looks for those to come."""

    def claim(self, request: ClaimRequest) -> Operation[Claim]:
        """Claims due tasks for the pool; returns them in the order in which they should run."""
        task_types, kinds = self.unheld.without(request.task_types), self.unheld.without(request.kinds)
        params = lane_parameters(task_types) | _after(request, task_types)
        params |= {"p_pool_id": request.pool_id, "p_kinds": kinds, "p_limit": request.limit}
        params |= {"p_group_size": request.group_size, "p_isolated_kinds": self.unheld.without(request.isolated_kinds)}
        if request.retries_first:
            in_order = partial(_as_claim, request.task_types, order=_retries_first)
            return Operation(self._statements.claim_retries_first, params, in_order)
        return Operation(self._statements.claim, params, partial(_as_claim, request.task_types))

    def claim_lanes(self, request: LaneRequest, *, rated: bool = True) -> Operation[tuple[LaneClaim, bool]]:
        """Claims due tasks of a managed type for the pool; returns them in the order in which they should run, and
        whether the type has rates. If it has, a claim that is not ``rated`` takes nothing."""
        params = {
            "p_pool_id": request.pool_id,
            "p_task_type": request.task_type,
            "p_kinds": self.unheld.without(request.kinds),
            "p_limit": request.limit,
            "p_after_lane": request.after_lane,
            "p_most_lanes": request.most_lanes,
            "p_quantum": request.quantum,
            "p_looks_closely": request.looks_closely,
            "p_group_size": request.group_size,
            "p_isolated_kinds": self.unheld.without(request.isolated_kinds),
        }
        statement = self._statements.claim_rated_lanes if rated else self._statements.claim_lanes
        return Operation(statement, params, _as_lane_claim)

    def waiting_types(self, most: int) -> Operation[dict[str, bool] | None]:
        """Returns the task types with waiting tasks, and whether one is due; None if they have too many lanes."""

        def decode(rows: Rows) -> dict[str, bool] | None:
            if len(rows) >= most:
                return None
            types: dict[str, bool] = {}
            for task_type, is_due in rows:
                types[task_type] = types.get(task_type, False) or is_due
            return types

        return Operation(self._statements.waiting_types, {"p_limit": most}, decode)

    def next_due(self, task_types: Sequence[str], kinds: Sequence[str]) -> Operation[float | None]:
        """Returns the seconds until the next task becomes due, or None."""
        params = lane_parameters(self.unheld.without(task_types))
        params |= {"p_kinds": self.unheld.without(kinds), "p_limit": LOOKED_AT}
        return Operation(self._statements.next_due, params, lambda rows: rows[0][0])


def _after(request: ClaimRequest, task_types: Sequence[str]) -> dict[str, Any]:
    """Returns the place behind which each lane is read, in the order of the lanes; null for a lane's start."""
    lanes = product(task_types, PRIORITIES)
    places = [request.after.get(lane, (None, None)) for lane in lanes]
    return {"p_after_at": [at for at, _ in places], "p_after_id": [task_id for _, task_id in places]}


def _retries_first(task: ClaimedTask) -> tuple[int, bool, Any, bytes]:
    return task.priority, not was_charged(task), task.scheduled_at, task.id.bytes


def _as_claim(task_types: tuple[str, ...], rows: Rows, *, order: Callable[[ClaimedTask], Any] = _ORDER) -> Claim:
    snapshot, now, registered, managed = rows[0][:4]
    tasks = _tasks(map(_OF_TASK, rows[1:]))
    tasks.sort(key=order)
    if len(task_types) > 1:
        place = {task_type: place for place, task_type in enumerate(task_types)}
        tasks.sort(key=lambda task: place[task.task_type])
    left_alone = tuple(each for each in task_types if each in managed) if managed else ()
    return Claim(tasks, now, parse_snapshot(snapshot), registered, left_alone)


def _as_lane_claim(rows: Rows) -> tuple[LaneClaim, bool]:
    registered, is_managed, room, after_lane, snapshot, now, is_counted, is_rated, look_in, *keys = rows[0][:12]
    tasks = _tasks(map(_OF_LANE_TASK, rows[1:]))
    tasks.sort(key=_ORDER)
    running = parse_snapshot(snapshot)
    claim = LaneClaim(tasks, now, running, registered, room, look_in, after_lane, is_managed, is_counted, *keys)
    return claim, is_rated


def _tasks(rows: Iterable[tuple[Any, ...]]) -> list[ClaimedTask]:
    tasks = list(map(_make_task, rows))
    if any(map(_HEADERS, tasks)) or any(map(_CANCEL_REQUEST, tasks)):
        return [_decoded(task) for task in tasks]
    return tasks


def _decoded(task: ClaimedTask) -> ClaimedTask:
    """Returns the task with the values of its columns that were read as JSON texts."""
    texts: tuple[Any, Any] = (task.headers, task.cancel_request)
    headers, request = (None if text is None else as_texts(text) for text in texts)
    return task._replace(headers=headers, cancel_request=request)
