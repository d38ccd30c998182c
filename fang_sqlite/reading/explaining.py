"""Gathers what decides why a task is not running, all in one transaction that reads: of one moment."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple
from uuid import UUID

from fang_core.backends.live_runs import as_live, told_of_run
from fang_core.backends.managed import NEVER
from fang_core.lifecycle import DUE_STATES
from fang_core.monitoring.facts import (
    MOST_AHEAD,
    MOST_HOLDERS,
    Facts,
    PoolFacts,
    RunFacts,
    Signs,
    SlotHolder,
)
from fang_core.monitoring.history import HOUR, MINUTE
from fang_core.record import HIGHEST_PRIORITY, Task, TaskState
from fang_sqlite import rows
from fang_sqlite.connections.location import beside
from fang_sqlite.connections.transaction import Transaction
from fang_sqlite.pools import pulse
from fang_sqlite.records import micros, moment, moment_or_none, names_of, object_of
from fang_sqlite.schema import DUE
from fang_sqlite.tasks import flow

MOST_POOLS: Final = 100
"""How many of the pools that serve a type are looked at; those that know the kind come first."""

_LOOKS_BACK: Final = ((MINUTE, timedelta(hours=2)), (HOUR, timedelta(days=7)))
"""How far it looks back for the last run of a kind: in minutes, and in hours."""


def explain(tx: Transaction, task_id: UUID) -> Facts:
    """Returns the facts on a task. No session can lock its row."""
    task = rows.find(tx, task_id)
    (registered,) = tx.row("SELECT count(*) FROM fang_pools WHERE mode <> 'manual'")
    facts = Facts(task_id=task_id, now=tx.now, task=task, registered=registered)
    if task is None:
        return facts
    if task.state is TaskState.IN_PROGRESS:
        return _held(tx, task, facts)
    return _due(tx, task, facts) if task.state in DUE_STATES and task.scheduled_at <= tx.now else facts


# A task in progress ---------------------------------------------------------------------------------------------------


def _held(tx: Transaction, task: Task, facts: Facts) -> Facts:
    found = [] if task.pool_id is None else _records(tx, "WHERE p.id = ?", (task.pool_id.bytes,))
    if not found:
        return facts
    return replace(facts, holder=_pool(tx, task, found[0]), run=_run(tx, task, found[0]))


def _run(tx: Transaction, task: Task, record: "_Record") -> RunFacts:
    notable = object_of(record.runs).get(str(task.id))
    told_at = None if record.at is None else moment(record.at)
    return told_of_run(task, tx.now, notable, as_live(record.live), busy=record.busy, told_at=told_at)


# A task that is due ---------------------------------------------------------------------------------------------------


def _due(tx: Transaction, task: Task, facts: Facts) -> Facts:
    pools = _serving(tx, task)
    managed = flow.read_type(tx, task.task_type)
    served_at, type_served_at = _served(tx, task, pools)
    facts = replace(
        facts,
        pools=pools,
        ahead=_ahead(tx, task, of_lane=managed is not None and managed.is_managed(tx.now)),
        served_at=served_at,
        type_served_at=type_served_at,
    )
    if managed is None:
        return facts
    info = flow.info_of(tx, task.task_type, managed)
    settings, lane = managed.settings, task.lane or ""
    tats = tx.row("SELECT tat FROM fang_lanes WHERE task_type = ? AND lane = ?", (task.task_type, lane))
    key_tat = NEVER if tats is None else moment(tats[0])
    running, holders = _running(tx, "lane IS NOT NULL AND task_type = ?", (task.task_type,))
    key_running, key_holders = _running(tx, "lane IS NOT NULL AND task_type = ? AND lane = ?", (task.task_type, lane))
    return replace(
        facts,
        type=info if info.is_managed else None,
        running=running,
        holders=holders,
        key_running=key_running,
        key_holders=key_holders,
        start_at=None if settings.rate is None else settings.rate.next_start(managed.tat, tx.now),
        key_start_at=None if settings.key_rate is None else settings.key_rate.next_start(key_tat, tx.now),
    )


def _running(tx: Transaction, which: str, values: tuple[str, ...]) -> tuple[int, tuple[SlotHolder, ...]]:
    """Returns how many tasks a limit counts, and those that have run for longest."""
    source = f"FROM fang_tasks t INDEXED BY fang_tasks_running WHERE t.state = 'in_progress' AND {which}"
    (count,) = tx.row(f"SELECT count(*) {source}", values)
    found = tx.rows(
        f"""SELECT t.id, t.kind, t.pool_id, t.claimed_at,
    (SELECT p.host || ':' || p.pid FROM fang_pools p WHERE p.id = t.pool_id)
  {source} ORDER BY t.claimed_at, t.id LIMIT {MOST_HOLDERS}""",
        values,
    )
    return count, tuple(
        SlotHolder(UUID(bytes=id_), kind, UUID(bytes=pool_id), place, moment_or_none(claimed_at))
        for id_, kind, pool_id, claimed_at, place in found
    )


def _ahead(tx: Transaction, task: Task, *, of_lane: bool) -> int:
    """Returns how many due tasks come before it: of its type, or of its lane if lanes take turns."""
    index, lane = ("lanes", "AND lane IS NOT NULL AND lane = :lane") if of_lane else ("due", "")
    source = f"""FROM fang_tasks INDEXED BY fang_tasks_{index}
    WHERE {DUE} AND task_type = :task_type AND priority = :priority {lane}"""
    values = {"task_type": task.task_type, "lane": task.lane or "", "now": tx.micros}
    before = values | {"due": micros(task.scheduled_at), "id": task.id.bytes, "priority": task.priority}
    own = f"SELECT count(*) FROM (SELECT 1 {source} AND (scheduled_at, id) < (:due, :id) LIMIT {MOST_AHEAD})"
    others = f"SELECT count(*) FROM (SELECT 1 {source} AND scheduled_at <= :now LIMIT {MOST_AHEAD})"
    count: int = tx.row(own, before)[0]
    for priority in range(HIGHEST_PRIORITY, task.priority):
        count += tx.row(others, values | {"priority": priority})[0]
    return min(count, MOST_AHEAD)


def _served(tx: Transaction, task: Task, pools: Sequence[PoolFacts]) -> tuple[datetime | None, datetime | None]:
    """Returns when a task of its kind, and one of its type, was run last; None where a pool could run one now."""
    of_kind = None if any(pool.knows for pool in pools) else _last_run(tx, task, "AND kind = :kind")
    return of_kind, None if pools else _last_run(tx, task)


def _last_run(tx: Transaction, task: Task, rest: str = "") -> datetime | None:
    sql = f"""SELECT at FROM fang_stats WHERE span = :span AND at > :since AND task_type = :task_type {rest}
    AND json_extract(iif(json_valid(row), row, '{{}}'), '$.started') > 0 ORDER BY at DESC LIMIT 1"""
    for span, ago in _LOOKS_BACK:
        values = {"span": span, "since": micros(tx.now - ago), "task_type": task.task_type, "kind": task.kind}
        found = tx.row(sql, values)
        if found is not None:
            return moment(found[0])
    return None


# Pools ----------------------------------------------------------------------------------------------------------------


class _Record(NamedTuple):
    """Holds the record of a pool, with its last report."""

    id: bytes
    mode: str
    host: str
    pid: int
    workers: int
    stopping: int
    kinds: str
    isolated_kinds: str
    runs: str | None
    busy: int | None
    waiting: int | None
    at: int | None
    live: str | None


def _records(tx: Transaction, rest: str, values: tuple[Any, ...]) -> list[_Record]:
    sql = f"""SELECT p.id, p.mode, p.host, p.pid, p.workers, p.stopping, p.kinds, p.isolated_kinds, p.runs,
    v.busy, v.waiting, v.at, v.runs
  FROM fang_pools p LEFT JOIN fang_live v ON v.pool_id = p.id {rest}"""
    return [_Record(*row) for row in tx.rows(sql, values)]


def _serving(tx: Transaction, task: Task) -> tuple[PoolFacts, ...]:
    rest = f"""WHERE ? IN (SELECT value FROM json_each(iif(json_valid(p.task_types), p.task_types, '[]')))
  ORDER BY ? IN (SELECT value FROM json_each(iif(json_valid(p.kinds), p.kinds, '[]'))) DESC, p.started_at, p.id
  LIMIT {MOST_POOLS}"""
    return tuple(_pool(tx, task, record) for record in _records(tx, rest, (task.task_type, task.kind)))


def _pool(tx: Transaction, task: Task, record: _Record) -> PoolFacts:
    pool_id = UUID(bytes=record.id)
    return PoolFacts(
        pool_id,
        record.mode,
        record.host,
        record.pid,
        record.workers,
        bool(record.stopping),
        _signs(tx, pool_id, record.at),
        record.busy,
        record.waiting,
        task.kind in names_of(record.kinds),
        task.kind in names_of(record.isolated_kinds),
    )


def _signs(tx: Transaction, pool_id: UUID, told_at: int | None) -> Signs:
    """Returns the signs of life of a pool: those in its file, and its report.

    A pool that has no file yet is about to make it, which its rescue waits for, too.
    """
    (path,) = (path for _, name, path in tx.rows("PRAGMA database_list") if name == "main")
    seen = pulse.look(beside(Path(path)), pool_id)
    return Signs(
        has_lock=seen.is_locked if seen.claims_lock and seen != pulse.NO_FILE else None,
        told=None if told_at is None else tx.now - moment(told_at),
    )
