"""Gathers, from the memory backend, what decides why a task is not running."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from fang_core.backends.live_runs import told_of_run
from fang_core.backends.managed import NEVER, ManagedType
from fang_core.backends.memory.pool_registry import MemoryPool
from fang_core.backends.memory.state import MemoryState
from fang_core.lifecycle import DUE_STATES
from fang_core.monitoring.facts import (
    MOST_AHEAD,
    MOST_HOLDERS,
    Facts,
    PoolFacts,
    RunFacts,
    SlotHolder,
)
from fang_core.record import Task, TaskState


def facts_of(state: MemoryState, task_id: UUID) -> Facts:
    """Returns the facts on a task; pools here always give signs of life, and no session can lock a row."""
    with state.lock:
        now = state.clock()
        task = state.tasks.get(task_id)
        registered = sum(pool.record.mode != "manual" for pool in state.pools.values())
        facts = Facts(task_id=task_id, now=now, task=task, registered=registered, needs_lane=False)
        if task is None:
            return facts
        if task.state is TaskState.IN_PROGRESS:
            return _held(state, task, facts)
        return _waiting(state, task, facts) if task.state in DUE_STATES else facts


def _held(state: MemoryState, task: Task, facts: Facts) -> Facts:
    pool = None if task.pool_id is None else state.pools.get(task.pool_id)
    if pool is None:
        return facts
    return replace(facts, holder=_pool(pool, task), run=_run(pool, task, facts.now))


def _waiting(state: MemoryState, task: Task, facts: Facts) -> Facts:
    now = facts.now
    serving = [pool for pool in state.pools.values() if task.task_type in pool.record.task_types]
    managed = state.types.get(task.task_type)
    info = next((each for each in state.managing.list_types() if each.task_type == task.task_type), None)
    is_managed = managed is not None and managed.is_managed(now)
    lane = task.lane or ""

    def running(counts: Callable[[Task], bool]) -> list[Task]:
        held = (each for each in state.tasks.values() if each.state is TaskState.IN_PROGRESS)
        found = [each for each in held if each.task_type == task.task_type and counts(each)]
        return sorted(found, key=lambda each: (each.claimed_at or now, each.id))

    of_type = running(lambda _: True)
    of_key = running(lambda each: (each.lane or "") == lane)
    ahead = sum(
        each.task_type == task.task_type
        and each.state in DUE_STATES
        and each.scheduled_at <= now
        and (each.priority, each.scheduled_at, each.id) < (task.priority, task.scheduled_at, task.id)
        and (not is_managed or (each.lane or "") == lane)
        for each in state.tasks.values()
    )
    return replace(
        facts,
        pools=tuple(_pool(pool, task) for pool in serving),
        type=info,
        running=len(of_type),
        holders=_holders(state, of_type),
        key_running=len(of_key),
        key_holders=_holders(state, of_key),
        start_at=_next_start(managed, now),
        key_start_at=_next_start_of_key(managed, lane, now),
        ahead=0 if task.scheduled_at > now else min(ahead, MOST_AHEAD),
    )


def _pool(pool: MemoryPool, task: Task) -> PoolFacts:
    record, live = pool.record, pool.live
    return PoolFacts(
        record.id,
        record.mode,
        record.host,
        record.pid,
        record.workers,
        pool.stopping,
        busy=None if live is None else live.busy,
        waiting=None if live is None else live.waiting,
        knows=task.kind in record.kinds,
        isolates=task.kind in record.isolated_kinds,
    )


def _run(pool: MemoryPool, task: Task, now: datetime) -> RunFacts:
    live, notable = pool.live, pool.runs.get(str(task.id))
    runs, busy = ((), None) if live is None else (live.runs, live.busy)
    return told_of_run(task, now, notable, runs, busy=busy, told_at=pool.told_at)


def _holders(state: MemoryState, running: list[Task]) -> tuple[SlotHolder, ...]:
    def place(task: Task) -> str | None:
        pool = None if task.pool_id is None else state.pools.get(task.pool_id)
        return None if pool is None else f"{pool.record.host}:{pool.record.pid}"

    first = running[:MOST_HOLDERS]
    return tuple(SlotHolder(each.id, each.kind, each.pool_id, place(each), each.claimed_at) for each in first)


def _next_start(managed: ManagedType | None, now: datetime) -> datetime | None:
    rate = None if managed is None else managed.settings.rate
    return None if managed is None or rate is None else rate.next_start(managed.tat, now)


def _next_start_of_key(managed: ManagedType | None, lane: str, now: datetime) -> datetime | None:
    rate = None if managed is None else managed.settings.key_rate
    return None if managed is None or rate is None else rate.next_start(managed.tats.get(lane, NEVER), now)
