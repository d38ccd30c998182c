"""Makes the operation that reads why a task is not running."""

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from fang_core.backends.live_runs import as_live_run, run_facts
from fang_core.flow.limits import Gcra
from fang_core.liveness import DECLARED_DEAD
from fang_core.monitoring.facts import NOTHING_TOLD, Facts, PoolFacts, RunFacts, SessionFacts, Signs, SlotHolder
from fang_core.record import Task, as_time
from fang_core.tasks.arguments import checked_id
from fang_postgres.operations.base import OperationsBase
from fang_postgres.operations.managing import as_type
from fang_postgres.operations.rows import as_json, as_task
from fang_postgres.statement import Operation, Rows

_POOL_FIELDS = 14
"""The values of a pool, before those of the run of the task."""


class Explaining(OperationsBase):
    """Reads why tasks are not running."""

    def explain(self, task_id: UUID) -> Operation[Facts]:
        """Reads all that decides why a task is not running."""
        checked_id(task_id)
        return Operation(self._statements.explain, {"p_id": task_id}, lambda rows: _as_facts(task_id, rows))


def _as_facts(task_id: UUID, rows: Rows) -> Facts:
    now, holder, pools, holders, key_holders, locked_by, table_locked_by, writer, *row = rows[0]
    registered, running, key_running, ahead, tat, key_tat, served_at, type_served_at, *row = row
    type_row, task_row = row[:20], row[20:]
    task = None if task_row[0] is None else as_task(task_row)
    managed = None if type_row[0] is None else as_type((*type_row, 0, 0))
    info = managed.info if managed is not None and managed.info.is_managed else None
    told = None if holder is None else json.loads(holder)
    return Facts(
        task_id=task_id,
        now=now,
        task=task,
        registered=registered,
        holder=None if told is None else _as_pool(told[:_POOL_FIELDS]),
        run=NOTHING_TOLD if told is None or task is None else _as_run(now, task, told),
        pools=tuple(_as_pool(each) for each in json.loads(pools or "[]")),
        type=info,
        settling_until=None if managed is None else managed.settling_until,
        running=running,
        holders=_as_holders(holders),
        key_running=key_running,
        key_holders=_as_holders(key_holders),
        start_at=_next_start(None if info is None else info.settings.rate, tat, now),
        key_start_at=_next_start(None if info is None else info.settings.key_rate, key_tat, now),
        ahead=ahead,
        locked_by=_as_session(locked_by),
        table_locked_by=_as_session(table_locked_by),
        writer=_as_session(writer),
        served_at=served_at,
        type_served_at=type_served_at,
    )


def _as_pool(told: Sequence[Any]) -> PoolFacts:
    pool_id, mode, host, pid, workers, stopping, has_lock, quiet, seen, beats, busy, waiting, knows, isolates = told
    signs = Signs(has_lock, _seconds(quiet), _seconds(seen), beats <= DECLARED_DEAD)
    return PoolFacts(
        UUID(pool_id), mode, host, pid, workers, stopping, signs, busy, waiting, knows=knows, isolates=isolates
    )


def _as_run(now: datetime, task: Task, told: Sequence[Any]) -> RunFacts:
    """Returns the holder's report on the task's run: from its record if the run hangs, else from its live runs."""
    notable, named, entry, is_since_claim = told[_POOL_FIELDS:]  # texts of JSON, nested as deeply as anybody likes
    pool = _as_pool(told[:_POOL_FIELDS])
    names_all = bool(is_since_claim) and named is not None and pool.busy == named
    try:
        run = as_live_run(as_json(entry))
    except (TypeError, ValueError, AttributeError, OverflowError):  # there is none, or another version wrote it
        run = None
    return run_facts(task, now, as_json(notable), run, pool.signs.told or timedelta(), names_all=names_all)


def _as_holders(text: str | None) -> tuple[SlotHolder, ...]:
    found = json.loads(text or "[]")
    return tuple(
        SlotHolder(UUID(task_id), kind or "", None if pool_id is None else UUID(pool_id), pool, as_time(claimed_at))
        for task_id, kind, pool_id, pool, claimed_at in found
    )


def _as_session(text: str | None) -> SessionFacts | None:
    if text is None:
        return None
    pid, since, application, state = json.loads(text)
    return SessionFacts(pid, as_time(since), application or None, state)


def _next_start(rate: Gcra | None, tat: datetime | None, now: datetime) -> datetime | None:
    return None if rate is None or tat is None else rate.next_start(tat, now)


def _seconds(value: float | None) -> timedelta | None:
    return None if value is None else timedelta(seconds=value)
