"""Makes the operations that read and write whole tasks, for moves from one queue to another."""

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, Final
from uuid import UUID

from fang_core.backends.conflicts import Period
from fang_core.backends.verbs import Parcel
from fang_core.record import Task
from fang_postgres.names import TASK_COLUMNS
from fang_postgres.once import OfSchema, once
from fang_postgres.operations.base import OperationsBase
from fang_postgres.operations.rows import as_ids, as_nothing, as_task
from fang_postgres.shapes import PUT
from fang_postgres.statement import Operation, Rows, Script


class MovingStatements(OfSchema):
    """The statements on whole tasks under one schema name."""

    folder = "moving/"

    read_whole = once("moving.read_whole")
    exchange = once("moving.exchange")
    put = once("moving.put")
    end_old_periods = once("moving.end_old_periods")
    put_periods = once("moving.put_periods")


moving_statements: Final = lru_cache(maxsize=64)(MovingStatements)


class MovingOperations(OperationsBase):
    """Reads and writes whole tasks: see ``fang_core.backends.moving.MovingVerbs``."""

    def read_whole(self, ids: Sequence[UUID]) -> Operation[list[Parcel]]:
        """Returns those of these tasks that are there."""
        return Operation(moving_statements(self.schema).read_whole, {"p_ids": list(ids)}, _as_parcels)

    def exchange(self, pairs: Sequence[tuple[Task, Task]]) -> Operation[set[UUID]]:
        """Writes the second task over each first one that is as it was read; returns the ids of those."""
        params = {
            "p_ids": [before.id for before, _ in pairs],
            "p_states": [str(before.state) for before, _ in pairs],
            "p_attempts": [before.attempt for before, _ in pairs],
            "p_updated_at": [before.updated_at for before, _ in pairs],
            "p_task_types": [after.task_type for _, after in pairs],
            "p_due": [after.scheduled_at for _, after in pairs],
            "p_headers": [None if after.headers is None else json.dumps(after.headers) for _, after in pairs],
            "p_notify": True,
        }
        return Operation(moving_statements(self.schema).exchange, params, as_ids)

    def put(self, parcels: Sequence[Parcel], *, notify: bool) -> Script[set[UUID]]:
        """Inserts tasks that nothing keeps out; returns their ids. Run it in one transaction."""
        timed = [each for each in parcels if each.period_hash is not None and each.period is not None]
        begun: set[UUID] = (yield from self._put_periods(timed)) if timed else set()
        late = {each.task.id for each in timed} - begun
        rows = json.dumps([_as_row(each) for each in parcels if each.task.id not in late], default=_as_text)
        written: set[UUID] = yield Operation(
            moving_statements(self.schema).put, {"p_rows": rows, "p_notify": notify}, as_ids
        )
        if begun - written:
            yield self._end_periods([each.period_hash for each in timed if each.task.id in begun - written])
        return written

    def _put_periods(self, parcels: Sequence[Parcel]) -> Script[set[UUID]]:
        """Inserts the periods of tasks, unless one with the same hash lasts; returns the tasks' ids."""
        hashes = [each.period_hash for each in parcels]
        yield Operation(moving_statements(self.schema).end_old_periods, {"p_hashes": hashes}, as_nothing)
        periods = [each.period for each in parcels if each.period is not None]
        params = {
            "p_hashes": hashes,
            "p_ids": [period.task_id for period in periods],
            "p_inserted_at": [period.inserted_at for period in periods],
            "p_until": [period.until for period in periods],
        }
        begun: set[UUID] = yield Operation(moving_statements(self.schema).put_periods, params, as_ids)
        return begun

    def _end_periods(self, hashes: list[str | None]) -> Operation[None]:
        return Operation(self._statements.end_periods, {"p_hashes": hashes}, as_nothing)


def _as_parcels(rows: Rows) -> list[Parcel]:
    return [_as_parcel(row) for row in rows]


def _as_parcel(row: Sequence[Any]) -> Parcel:
    task = as_task(row)
    waiting, period_hash, inserted_at, until = row[len(TASK_COLUMNS) :]
    period = None if period_hash is None else Period(task.id, inserted_at, until)
    return Parcel(task, waiting, period_hash, period)


def _as_row(parcel: Parcel) -> dict[str, Any]:
    values = {**parcel.task._asdict(), "uniq_waiting": parcel.uniq_waiting}
    return {name: values[name] for name in PUT}


def _as_text(value: Any) -> str:
    """Returns what JSON has no form for as Postgres reads it."""
    if isinstance(value, timedelta):
        return f"{value // timedelta(microseconds=1)} us"
    return value.isoformat() if isinstance(value, datetime) else str(value)
