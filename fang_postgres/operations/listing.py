"""Makes the operations that look at tasks for lists and counts."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, NamedTuple
from uuid import UUID

from fang_core.errors import UnreadablePayload
from fang_core.monitoring.listing import Key
from fang_core.record import Task, TaskState
from fang_core.tasks.selecting.filter import TaskFilter
from fang_core.tasks.selecting.walks import Walk, states_of
from fang_postgres.names import TASK_COLUMNS
from fang_postgres.once import OfSchema, once
from fang_postgres.operations.base import OperationsBase
from fang_postgres.operations.parameters import filter_parameters
from fang_postgres.operations.rows import as_json, as_task
from fang_postgres.reports.bounds import MOST_TYPES
from fang_postgres.shapes import HEAD, KEYS
from fang_postgres.statement import Operation, Rows, Statement


class EndedLane(NamedTuple):
    """Names the ended tasks of a state and a type; or, without a type, the failed ones of a kind."""

    state: TaskState
    task_type: str | None
    kind: str = ""


class Asked(NamedTuple):
    """Says up to how many tasks of a lane are to be looked at, behind a place."""

    lane: EndedLane
    behind: Key
    most: int


@dataclass(slots=True)
class Looked:
    """Says what one statement has seen of a lane.

    Attributes:
        looked: how many tasks it has looked at.
        hits: how many of these match.
        last: the key of the last one; None if it has looked at none.
        at: the time of the last one, in the order of the walk.
        found: the keys of those that match, if they were wanted one by one, the least first.
    """

    looked: int = 0
    hits: int = 0
    last: Key | None = None
    at: datetime | None = None
    found: list[Key] = field(default_factory=list)


class ListingStatements(OfSchema):
    """The statements of lists and counts under one schema name."""

    folder = "lists/"

    list_inserted = once("listing.list_inserted")
    list_ids = once("listing.list_ids")
    list_held = once("listing.list_held")
    list_ended = once("listing.list_ended")
    list_failed = once("listing.list_failed")
    list_waiting = once("listing.list_waiting")
    list_retried = once("listing.list_waiting", retried=True)
    show = once("listing.show")
    ended_types = once("listing.ended_types")
    has_ids_from = once("listing.has_ids_from")
    estimate = once("listing.estimate")


listing_statements: Final = lru_cache(maxsize=64)(ListingStatements)


_PLACE: Final = ("p_after_type", "p_after_priority", "p_after_at", "p_after_id")


class Listing(OperationsBase):
    """Looks at tasks. ``shows`` is whether those that match are wanted one by one, or only counted."""

    @property
    def _listing(self) -> ListingStatements:
        return listing_statements(self.schema)

    def list_waiting(
        self, which: TaskFilter, behind: Key, most: int, *, retried: bool, shows: bool
    ) -> Operation[Looked]:
        """Looks at waiting tasks, or only at retried ones, behind this key."""
        statement = self._listing.list_retried if retried else self._listing.list_waiting
        params = dict(zip(_PLACE, behind, strict=True)) | {"p_limit": most}
        return self._looking(statement, Walk.WAITING, which, params, shows=shows)

    def list_inserted(self, which: TaskFilter, first: UUID, last: UUID, most: int, *, shows: bool) -> Operation[Looked]:
        """Looks at tasks of any state with these ids, from the greatest down."""
        params = {"p_from": first, "p_until": last, "p_limit": most}
        return self._looking(self._listing.list_inserted, Walk.INSERTED, which, params, shows=shows)

    def list_ids(self, which: TaskFilter, ids: Sequence[UUID], *, shows: bool) -> Operation[Looked]:
        """Looks at the tasks with these ids."""
        return self._looking(self._listing.list_ids, Walk.IDS, which, {"p_ids": list(ids)}, shows=shows)

    def list_held(self, which: TaskFilter, behind: Key, most: int, *, shows: bool) -> Operation[Looked]:
        """Looks at all tasks in progress; shows up to ``most`` of those behind this key."""
        params = {"p_after_at": behind[0], "p_after_id": behind[1], "p_limit": most}
        return self._looking(self._listing.list_held, Walk.HELD, which, params, shows=shows)

    def list_ended(
        self, which: TaskFilter, asked: Sequence[Asked], since: datetime, *, shows: bool
    ) -> Operation[list[Looked]]:
        """Looks at ended tasks of several lanes that ended at this time or later; all have a type, or all a kind."""
        params: dict[str, Any] = {
            "p_after_at": [behind[0] for _, behind, _ in asked],
            "p_after_id": [behind[1] for _, behind, _ in asked],
            "p_most": [most for _, _, most in asked],
            "p_lane": list(range(len(asked))),
            "p_since": since,
            "p_shows": shows,
        }
        if asked[0].lane.task_type is None:
            statement = self._listing.list_failed
            params["p_lane_kind"] = [lane.kind for lane, _, _ in asked]
        else:
            statement = self._listing.list_ended
            params["p_lane_state"] = [str(lane.state) for lane, _, _ in asked]
            params["p_lane_task_type"] = [lane.task_type for lane, _, _ in asked]
        keys = len(KEYS[Walk.ENDED])
        return Operation(statement, params | filter_parameters(which), lambda rows: _looked(rows, keys, len(asked)))

    def ended_lanes(self) -> Operation[list[EndedLane] | None]:
        """Returns the lanes that have ended tasks; None if there are many."""

        def decode(rows: Rows) -> list[EndedLane] | None:
            lanes = [EndedLane(TaskState(state), task_type) for state, task_type in rows]
            counts = [sum(lane.state is state for lane in lanes) for state in TaskState]
            return None if max(counts) >= MOST_TYPES else lanes

        return Operation(self._listing.ended_types, {}, decode)

    def show(self, which: TaskFilter, ids: Sequence[UUID]) -> Operation[dict[UUID, Task]]:
        """Returns those of the tasks with these ids that match."""

        def decode(rows: Rows) -> dict[UUID, Task]:
            return {task.id: task for task in map(_shown, rows)}

        return Operation(self._listing.show, {"p_ids": list(ids)} | filter_parameters(which), decode)

    def has_ids_from(self, first: UUID) -> Operation[bool]:
        """Returns whether there is a task with this id or a greater one."""
        return Operation(self._listing.has_ids_from, {"p_from": first}, lambda rows: bool(rows[0][0]))

    def estimate(self, which: TaskFilter) -> Operation[int]:
        """Returns how many tasks match, as the planner estimates it."""
        states = states_of(which)
        params: dict[str, Any] = {f"p_may_be_{state}": state in states for state in TaskState}
        params["p_may_be_any"] = states == frozenset(TaskState)
        return Operation(self._listing.estimate, params | filter_parameters(which), _estimated_rows)

    def _looking(
        self, statement: Statement, walk: Walk, which: TaskFilter, params: dict[str, Any], *, shows: bool
    ) -> Operation[Looked]:
        keys = len(KEYS[walk])
        params = params | filter_parameters(which) | {"p_shows": shows}
        return Operation(statement, params, lambda rows: _looked(rows, keys, 1)[0])


def _looked(rows: Rows, keys: int, lanes: int) -> list[Looked]:
    seen = [Looked() for _ in range(lanes)]
    head = len(HEAD)
    for row in rows:
        lane, looked, hits, is_last, is_hit, at = row[:head]
        key, of = tuple(row[head : head + keys]), seen[lane]
        if is_last:
            of.looked, of.hits, of.last, of.at = looked, hits, key, at
        if is_hit:
            of.found.append(key)
    for of in seen:
        of.found.sort()
    return seen


def _shown(columns: Sequence[Any]) -> Task:
    """Returns the task, also if its payload is JSON that Python cannot read; it then has nothing but its type."""
    try:
        return as_task(columns)
    except UnreadablePayload:
        values = list(columns)
        values[TASK_COLUMNS.index("metadata")] = "{}"
        if not isinstance(as_json(values[TASK_COLUMNS.index("errors")]), list):
            values[TASK_COLUMNS.index("errors")] = "[]"
        task = as_task(values)
        return task._replace(metadata={"type": task.kind})


def _estimated_rows(rows: Rows) -> int:
    """Returns the rows that a plan expects; drivers hand it over as text, or as what it holds."""
    [(plan,)] = rows
    if isinstance(plan, str | bytes):
        plan = json.loads(plan)
    return int(plan[0]["Plan"]["Plan Rows"])
