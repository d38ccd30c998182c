"""Reads and writes the records of pools, the runs that they report, and messages to them."""

from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

from fang_core.backends.live_runs import as_live, live_as_json
from fang_core.backends.pools import Live
from fang_core.record import PoolInfo
from fang_sqlite.connections.transaction import Transaction
from fang_sqlite.records import as_json, moment, moment_or_none, names_of, object_of

# Who looks on ---------------------------------------------------------------------------------------------------------


def tell_live(tx: Transaction, pool_id: UUID, live: Live) -> None:
    """Stores what a pool does now, in place of its last report; does nothing if its record is gone."""
    tx.run(
        """INSERT OR REPLACE INTO fang_live (pool_id, at, busy, waiting, runs)
  SELECT id, ?, ?, ?, ? FROM fang_pools WHERE id = ?""",
        (tx.micros, live.busy, live.waiting, live_as_json(live.runs), pool_id.bytes),
    )


_POOLS: Final = """SELECT p.id, p.mode, p.host, p.pid, p.task_types, p.kinds, p.workers, p.started_at, p.stopping,
    p.runs, v.busy, v.waiting, v.at, v.runs
  FROM fang_pools p LEFT JOIN fang_live v ON v.pool_id = p.id WHERE length(p.id) = 16 ORDER BY p.started_at, p.id"""


def list_pools(tx: Transaction) -> list[PoolInfo]:
    """Returns the registered pools, in the order in which they started."""
    return list(map(_info, tx.rows(_POOLS)))


def _info(row: tuple[Any, ...]) -> PoolInfo:
    pool_id, mode, host, pid, task_types, kinds, workers, started_at, stopping, *told = row
    runs, busy, waiting, at, live = told
    return PoolInfo(
        UUID(bytes=pool_id),
        mode,
        host,
        pid,
        names_of(task_types),
        names_of(kinds),
        workers,
        moment(started_at),
        bool(stopping),
        object_of(runs),
        busy,
        waiting,
        moment_or_none(at),
        as_live(live),
    )


# Messages -------------------------------------------------------------------------------------------------------------


def send(tx: Transaction, pool_id: UUID, kind: str, body: Mapping[str, Any], sender: str) -> bool:
    """Leaves a message for a pool, and wakes its heart; returns whether there is such a pool."""
    sent = tx.run(
        """INSERT INTO fang_messages (pool_id, sent_at, sender, kind, body)
  SELECT id, ?, ?, ?, ? FROM fang_pools WHERE id = ?""",
        (tx.micros, sender, kind, as_json(body), pool_id.bytes),
    )
    if sent:
        tx.tell([pool_id])
    return sent > 0
