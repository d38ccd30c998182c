"""Writes the records of pools, by which other processes know what they serve."""

from collections.abc import Collection, Mapping, Sequence
from typing import Final
from uuid import UUID

from fang_core.backends.claims import Serves
from fang_core.backends.pools import PoolRecord
from fang_core.record import Progress, Task, as_progress
from fang_sqlite.connections.transaction import Transaction
from fang_sqlite.records import as_json, names_of, object_of, span

_INSERT: Final = """INSERT INTO fang_pools
    (id, mode, host, pid, task_types, kinds, workers, started_at, lease, max_crashes, isolated_kinds)
  VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING"""


def register(tx: Transaction, pool: PoolRecord) -> None:
    """Makes a pool known. Repeating it is harmless."""
    of_process = (pool.id.bytes, pool.mode, pool.host, pool.pid)
    serves = (as_json(pool.task_types), as_json(pool.kinds), pool.workers)
    judged = (span(pool.lease), pool.max_crashes, as_json(pool.isolated_kinds))
    tx.run(_INSERT, (*of_process, *serves, tx.micros, *judged))


def update_kinds(tx: Transaction, pool_id: UUID, kinds: Sequence[str], isolated_kinds: Sequence[str]) -> bool:
    """Writes these kinds into a pool's record; returns whether there is one."""
    values = (as_json(list(kinds)), as_json(list(isolated_kinds)), pool_id.bytes)
    return tx.run("UPDATE fang_pools SET kinds = ?, isolated_kinds = ? WHERE id = ?", values) > 0


def unregister(tx: Transaction, pool_id: UUID) -> None:
    """Removes a pool's record, with its report and the messages to it."""
    tx.run("DELETE FROM fang_pools WHERE id = ?", (pool_id.bytes,))
    tx.run("DELETE FROM fang_live WHERE pool_id = ?", (pool_id.bytes,))
    tx.run("DELETE FROM fang_messages WHERE pool_id = ?", (pool_id.bytes,))


def is_registered(tx: Transaction, pool_id: UUID) -> bool:
    """Returns whether there is a record of this pool."""
    return tx.row("SELECT 1 FROM fang_pools WHERE id = ?", (pool_id.bytes,)) is not None


def is_served(tx: Transaction, pools: Collection[UUID], tasks: Collection[Serves]) -> bool:
    """Returns whether one of these pools serves the task type and the kind of one of these tasks."""
    for pool_id in pools:
        served = tx.row("SELECT task_types, kinds FROM fang_pools WHERE id = ?", (pool_id.bytes,))
        task_types, kinds = ((), ()) if served is None else map(names_of, served)
        if any(task_type in task_types and kind in kinds for task_type, kind in tasks):
            return True
    return False


def progress_of(tx: Transaction, task: Task) -> Progress | None:
    """Returns how far the run of a task has got, if its pool has reported that."""
    if task.pool_id is None:
        return None
    told = tx.row("SELECT runs FROM fang_pools WHERE id = ?", (task.pool_id.bytes,))
    run = None if told is None else object_of(told[0]).get(str(task.id))
    if not isinstance(run, Mapping) or run.get("attempt") != task.attempt:
        return None
    return as_progress(run.get("progress"))
