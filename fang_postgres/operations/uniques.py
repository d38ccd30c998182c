"""Makes the operations that insert unique tasks on terms of their own."""

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID

from fang_core.record import Task
from fang_core.tasks.insertion import NewTask, Overrides
from fang_core.tasks.options import COLUMNS
from fang_postgres.names import TASK_COLUMNS
from fang_postgres.operations.base import OperationsBase
from fang_postgres.operations.inserts import as_lines, columns, due, inserted_rows, seconds
from fang_postgres.operations.rows import as_ids, as_nothing, as_task
from fang_postgres.statement import Operation, Rows


class KeepingOut(NamedTuple):
    """Holds what keeps rows out: tasks by id, tasks by hash, and by hash the periods of tasks that may be gone.

    A period is the task's id, and when it was inserted.
    """

    by_id: dict[UUID, Task]
    unfinished: dict[str, Task]
    waiting: dict[str, Task]
    periods: dict[str, tuple[UUID, datetime]]

    def twin(self, row: NewTask) -> Task | None:
        """Returns the task that keeps the row out. If only its period is left, it is a finished one like the row."""
        twin = None if row.uniq_hash is None else self.unfinished.get(row.uniq_hash)
        terms = row.terms
        if twin is not None or terms is None:
            return twin
        if terms.waiting is not None:
            twin = self.waiting.get(terms.waiting)
        period = None if terms.period is None else self.periods.get(terms.period)
        if twin is not None or period is None:
            return twin
        return self.by_id.get(period[0]) or row.outlived(*period)


class Uniques(OperationsBase):
    """Inserts unique tasks on terms of their own. ``notify`` is false if the transaction must not notify."""

    def begin_periods(self, rows: Sequence[NewTask]) -> Operation[set[UUID]]:
        """Begins the periods of rows, given in the order of their hashes; returns the ids of those that may be
        inserted."""
        params = {
            "p_hashes": [row.terms.period for row in rows if row.terms is not None],
            "p_within": [row.terms.within for row in rows if row.terms is not None],
            "p_ids": [row.id for row in rows],
        }
        return Operation(self._statements.begin_periods, params, as_ids)

    def end_periods(self, hashes: Iterable[str | None]) -> Operation[None]:
        """Ends periods that the same transaction has begun, of tasks that were not inserted after all."""
        return Operation(self._statements.end_periods, {"p_hashes": list(hashes)}, as_nothing)

    def undo_inserts(self, ids: Iterable[UUID]) -> Operation[None]:
        """Deletes rows that the same transaction has inserted, with their periods."""
        return Operation(self._statements.undo_inserts, {"p_ids": list(ids)}, as_nothing)

    def insert_on_terms(
        self, rows: list[NewTask], overrides: Overrides, *, notify: bool
    ) -> Operation[dict[UUID, Task]]:
        """Inserts rows, given in the order of their hashes; returns the inserted ones by id."""
        params = columns(rows) | due(overrides) | {"p_notify": notify}
        params["p_uniq_hash"] = as_lines(row.uniq_hash or "" for row in rows)
        params["p_uniq_waiting"] = as_lines((row.terms and row.terms.waiting) or "" for row in rows)
        return Operation(self._statements.insert_on_terms, params, partial(inserted_rows, rows))

    def keeping_out(self, rows: Sequence[NewTask]) -> Operation[KeepingOut]:
        """Returns what keeps these rows out."""
        hashes = [row.uniq_hash if row.terms is None else row.terms.compared for row in rows]
        params = {"p_ids": [row.id for row in rows], "p_hashes": [each for each in hashes if each is not None]}
        return Operation(self._statements.keeping_out, params, _as_keeping_out)

    def change_twins(
        self, pairs: Sequence[tuple[Task, NewTask]], overrides: Overrides, *, replaces: bool, notify: bool
    ) -> Operation[dict[UUID, Task]]:
        """Replaces or postpones tasks, each by the row next to it, unless it was claimed since it was read.

        The pairs are in the order of the tasks' ids. Returns the changed tasks by id.
        """
        rows = [row for _, row in pairs]
        is_time = isinstance(rows[0].expires, datetime)  # that of the insert, and so of all rows
        params: dict[str, Any] = {
            "p_ids": [twin.id for twin, _ in pairs],
            "p_attempts": [twin.attempt for twin, _ in pairs],
            "p_expires": [seconds(row.expires) for row in rows],
            "p_expires_at": rows[0].expires if is_time else None,
            "p_notify": notify,
        }
        if replaces:
            params["p_metadata"] = [row.metadata for row in rows]
            params["p_lanes"] = [row.lane for row in rows]
            for name, values in zip(COLUMNS, zip(*[row.options for row in rows], strict=True), strict=True):
                params[f"p_{name}"] = list(values)
            params["p_headers"] = [None if each is None else json.dumps(each) for each in params["p_headers"]]
        return Operation(
            self._statements.replace_twins if replaces else self._statements.postpone_twins,
            params | due(overrides),
            lambda changed: {task.id: task for task in map(as_task, changed)},
        )


def _as_keeping_out(rows: Rows) -> KeepingOut:
    found = KeepingOut({}, {}, {}, {})
    for row in rows:
        by, compared, *period = row[len(TASK_COLUMNS) :]
        match by:
            case "id":
                found.by_id[row[0]] = as_task(row)
            case "unfinished":
                found.unfinished[compared] = as_task(row)
            case "waiting":
                found.waiting[compared] = as_task(row)
            case _:
                found.periods[compared] = (period[0], period[1])
    return found
