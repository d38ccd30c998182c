"""Makes the operations that insert tasks."""

import json
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final
from uuid import UUID

from fang_core.errors import BackendError
from fang_core.interpreter.collector import uncollected
from fang_core.record import Task
from fang_core.tasks.insertion import NewTask, Overrides
from fang_core.tasks.options import COLUMNS
from fang_postgres.operations.base import OperationsBase
from fang_postgres.operations.rows import as_count, as_task
from fang_postgres.shapes import TEXTS, as_text
from fang_postgres.statement import Operation, Rows

_PARAMETERS: Final = ("p_id", "p_metadata", "p_uniq_hash", "p_lane", *(f"p_{name}" for name in COLUMNS))
"""The parameters of a row in ``fragments.new_row``."""


class Inserts(OperationsBase):
    """Inserts tasks. ``notify`` is false if the transaction must not notify."""

    def insert(self, row: NewTask, overrides: Overrides, *, notify: bool) -> Operation[Task | None]:
        """Inserts one row; returns None if its id or its unique hash is taken."""
        params = row_parameters(row) | due(overrides) | {"p_kind": row.kind, "p_notify": notify}
        return Operation(self._statements.insert, params, lambda rows: as_inserted(row, *rows[0][:3]) if rows else None)

    def insert_many(self, rows: list[NewTask], overrides: Overrides, *, notify: bool) -> Operation[list[Task]]:
        """Inserts many rows that cannot collide; returns them in the order given."""
        params = columns(rows) | due(overrides) | {"p_notify": notify}
        return Operation(self._statements.insert_many, params, partial(_new_tasks, rows))

    def insert_unique(self, rows: list[NewTask], overrides: Overrides, *, notify: bool) -> Operation[dict[UUID, Task]]:
        """Inserts rows, given in the order of their hashes; returns the inserted ones by id."""
        params = columns(rows) | due(overrides)
        params |= {"p_uniq_hash": as_lines(row.uniq_hash or "" for row in rows), "p_notify": notify}
        return Operation(self._statements.insert_unique, params, partial(inserted_rows, rows))

    def insert_past(self, rows: list[NewTask], dues: Sequence[datetime], *, notify: bool) -> Operation[int]:
        """Inserts rows, given in the order of their hashes and all expiring alike, that are due at these times each;
        returns how many are new."""
        params = columns(rows) | {"p_dues": list(dues), "p_notify": notify}
        params["p_uniq_hash"] = as_lines(row.uniq_hash or "" for row in rows)
        return Operation(self._statements.insert_past, params, as_count)

    def existing(self, row: NewTask) -> Operation[list[tuple[Task, bool]]]:
        """Returns the tasks with the row's id or its unique hash, and whether each is the same task."""
        params = {"p_id": row.id, "p_uniq_hash": row.uniq_hash, "p_metadata": row.metadata}
        return Operation(
            self._statements.existing, params, lambda rows: [(as_task(found), found[-1]) for found in rows]
        )

    def twins(self, hashes: list[str]) -> Operation[dict[str | None, Task]]:
        """Returns the live unique tasks with these hashes."""
        return Operation(
            self._statements.twins,
            {"p_uniq_hashes": hashes},
            lambda rows: {task.uniq_hash: task for task in map(as_task, rows)},
        )


def as_inserted(row: NewTask, scheduled_at: datetime, created_at: datetime, lane: str | None) -> Task:
    """Returns the task of a new row; the statement gives a lane to rows of managed types that have none."""
    task = row.inserted(scheduled_at, created_at)
    return task if lane == row.lane else task._replace(lane=lane)


def left_out(kind: str, written: int, sent: int) -> BackendError:
    """Returns the error for rows that the database has taken and not written, as nothing of ours would do."""
    return BackendError(
        f"{kind}: the database has taken the insert and written {written} of {sent} rows: "
        "see whether a trigger or a rule of fang_tasks leaves rows out"
    )


def _new_tasks(rows: list[NewTask], told: Rows) -> list[Task]:
    scheduled_at, created_at, managed, written = told[0][:4]
    if written != len(rows):
        raise left_out(rows[0].kind, written, len(rows))
    tasks = uncollected(lambda: [row.inserted(scheduled_at, created_at) for row in rows])
    if managed:
        return [each._replace(lane="") if each.lane is None and each.task_type in managed else each for each in tasks]
    return tasks


def inserted_rows(rows: list[NewTask], told: Rows) -> dict[UUID, Task]:
    """Returns those of the rows that a statement inserted, by id."""
    by_id = {row.id: row for row in rows}
    return {each[0]: as_inserted(by_id[each[0]], *each[1:4]) for each in told}


def row_parameters(row: NewTask) -> dict[str, Any]:
    """Returns the parameters of ``fragments.new_row``."""
    params = dict(zip(_PARAMETERS, (row.id, row.metadata, row.uniq_hash, row.lane, *row.options), strict=True))
    if params["p_headers"] is not None:
        params["p_headers"] = json.dumps(params["p_headers"])
    return params | {"p_expires": seconds(row.expires)} | _expires_at(row)


def columns(rows: list[NewTask]) -> dict[str, Any]:
    """Returns the parameters that hold the columns of rows as lists."""
    ids, metadata, _, options, _, expires, lanes, _ = _turned(rows)
    params: dict[str, Any] = {"p_ids": as_lines([id_.hex for id_ in ids]), "p_metadata": as_lines(metadata)}
    for name, values in zip(COLUMNS, _turned(options), strict=True):
        params[f"p_{name}"] = list(values) if name in TEXTS else _lines_or_none(values, _WRITTEN.get(name, str))
    params["p_lanes"] = None if lanes.count(None) == len(lanes) else list(lanes)
    is_time = isinstance(expires[0], datetime)  # that of the insert, and so of all rows
    params["p_expires"] = None if is_time else _lines_or_none(expires, _in_seconds)
    return params | _expires_at(rows[0])


def _turned(rows: Iterable[Sequence[Any]]) -> list[tuple[Any, ...]]:
    """Returns the columns of rows. Python makes an iterator for each row, and the collector would run for these."""
    return uncollected(lambda: list(zip(*rows, strict=True)))


_WRITTEN: Final[dict[str, Callable[[Any], str | None]]] = {"headers": json.dumps, "timeout": as_text}
"""Writes the values of these options as lines."""


def _lines_or_none(values: Sequence[Any], write: Callable[[Any], str | None]) -> str | None:
    """Joins a list to one text; None, which is as good and is written in no time, if all values are None.

    A value that all rows have, as those of one class do, is written once.
    """
    first = values[0]
    if values.count(first) < len(values):
        return as_lines(["" if value is None else write(value) or "" for value in values])
    return None if first is None else as_lines([write(first) or ""] * len(values))


def _in_seconds(expires: timedelta) -> str:
    return str(expires.total_seconds())


def seconds(expires: timedelta | datetime | None) -> float | None:
    """Returns the seconds until a row expires, counted from when it is due; None for a time, or if it does not."""
    return expires.total_seconds() if isinstance(expires, timedelta) else None


def _expires_at(row: NewTask) -> dict[str, Any]:
    """Returns the time at which the rows of an insert expire; all of them have the same one, or none."""
    return {"p_expires_at": row.expires if isinstance(row.expires, datetime) else None}


def as_lines(items: Iterable[str]) -> str:
    """Joins a list to one text, which ``inserts._lines`` reads. No item has a line feed; an empty item means null."""
    return "\n".join(items)


def due(overrides: Overrides) -> dict[str, Any]:
    """Returns the parameters that say when rows are due."""
    return {"p_scheduled_at": overrides.scheduled_at, "p_delay": overrides.delay}
