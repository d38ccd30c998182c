"""Claims from managed types: who may start is picked among the heads of lanes, and never among all that is due.

Of a lane no more is read than it may start, and of lanes no more than take turns. What runs is counted from an index of
what runs, so that a claim costs the same whatever waits.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from fang_core.backends.claims import NO_TRANSACTIONS, LaneClaim, LaneRequest
from fang_core.backends.managed import ManagedType, pick
from fang_core.claims.suspects import ANY_SUSPECTS
from fang_core.crashes import MOST_GROUP, SUSPECT_AFTER
from fang_core.logs import SafeLogger
from fang_core.record import Task
from fang_sqlite import rows
from fang_sqlite.connections.transaction import Transaction
from fang_sqlite.pools.registering import is_registered
from fang_sqlite.records import CLAIMED, Undecodable, micros, moment
from fang_sqlite.schema import DUE
from fang_sqlite.tasks import spoilt
from fang_sqlite.tasks.flow import read_type, write_type
from fang_sqlite.tasks.spoilt import NEXT_ATTEMPT

_LOGGER: Final = SafeLogger("fang_sqlite")

_WANTED: Final = f"""t.scheduled_at <= :now
    AND (:kinds IS NULL OR t.kind IN (SELECT value FROM json_each(:kinds)))
    AND (t.crashes < {SUSPECT_AFTER} OR max(1, coalesce(t.group_limit, {MOST_GROUP})) >= :group_size
      OR (t.kind IN (SELECT value FROM json_each(:isolated_kinds)) AND coalesce(t.group_limit, {MOST_GROUP}) > 1))"""

_OF_LEVEL: Final = f"""FROM fang_tasks t INDEXED BY fang_tasks_lanes
    WHERE t.{DUE} AND t.lane IS NOT NULL AND t.task_type = :task_type AND t.priority = :priority"""

_HEADS: Final = f"SELECT t.id {_OF_LEVEL} AND t.lane = :lane AND {_WANTED} ORDER BY t.scheduled_at, t.id LIMIT :most"

# Each lane is found in the index behind the one before.
_LANES: Final = f"""WITH RECURSIVE lanes (lane) AS (
  SELECT (SELECT t.lane {_OF_LEVEL} AND t.lane >= :first AND t.lane <= :last ORDER BY t.lane LIMIT 1)
  UNION ALL
  SELECT (SELECT t.lane {_OF_LEVEL} AND t.lane > lanes.lane AND t.lane <= :last ORDER BY t.lane LIMIT 1)
  FROM lanes WHERE lanes.lane IS NOT NULL)
SELECT lane, EXISTS (SELECT 1 {_OF_LEVEL} AND t.lane = lanes.lane AND {_WANTED})
FROM lanes WHERE lane IS NOT NULL LIMIT :most"""

_FEWEST: Final = 16
"""How many lanes are looked at first; then four times as many, and so on."""

_NEXT: Final = "\0"
"""Makes of a lane the next possible one: no lane has this character."""

_GREATEST: Final = b"\xff"
"""Comes behind all lanes: for SQLite a blob is greater than any text."""

_RUNNING: Final = """SELECT lane, count(*) FROM fang_tasks INDEXED BY fang_tasks_running
  WHERE lane IS NOT NULL AND state = 'in_progress' AND task_type = ? GROUP BY lane"""

_TAKE: Final = f"""UPDATE fang_tasks
  SET state = 'in_progress', {NEXT_ATTEMPT}, pool_id = ?, claimed_at = ?, updated_at = ? WHERE id = ?
  RETURNING {", ".join(CLAIMED)}"""


@dataclass(slots=True)
class _Waiting:
    """Shows a claim the tasks of one type, as ``managed.Waiting`` has it: by their ids."""

    tx: Transaction
    managed: ManagedType
    request: LaneRequest
    values: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        request = self.request
        self.values = {
            "now": self.tx.micros,
            "task_type": request.task_type,
            "kinds": json.dumps(request.kinds),
            "group_size": request.group_size,
            "isolated_kinds": json.dumps(request.isolated_kinds),
        }

    def lanes(self, priority: int, /) -> "_Lanes":
        """Returns the lanes of a priority, starting after the one that was served last."""
        return _Lanes(self, priority)

    def heads(self, priority: int, lane: str, most: int, /) -> Sequence[bytes]:
        """Returns the first tasks of a lane."""
        found = self.tx.rows(_HEADS, self.values | {"priority": priority, "lane": lane, "most": most})
        return [task_id for (task_id,) in found]


@dataclass(slots=True)
class _Lanes:
    """The lanes of a priority, found while they are read, as ``managed.InTurn`` has it."""

    waiting: _Waiting
    priority: int
    looked: int = 0
    last: str | None = None
    is_at_end: bool = False

    @property
    def keys(self) -> Iterator[str]:
        """The lanes that have a task to take."""
        after_lane = self.waiting.request.after_lane
        yield from self._between(after_lane + _NEXT, _GREATEST)
        yield from self._between("", after_lane)
        self.is_at_end = self.looked < self.waiting.request.most_lanes

    @property
    def reached(self) -> str | None:
        """The last lane that was looked at, if there may be more."""
        return None if self.is_at_end else self.last

    def _between(self, first: str, last: str | bytes) -> Iterator[str]:
        waiting, most, size = self.waiting, self.waiting.request.most_lanes, _FEWEST
        while self.looked < most:
            size = min(size, most - self.looked)
            values = {"priority": self.priority, "first": first, "last": last, "most": size}
            found = waiting.tx.rows(_LANES, waiting.values | values)
            if any(isinstance(lane, Undecodable) for lane, _ in found):
                raise _LanesSpoilt
            if waiting.managed.settings.key_rate is not None:
                waiting.managed.tats.update(_tats(waiting.tx, waiting.request.task_type, [lane for lane, _ in found]))
            for lane, has_task in found:
                self.looked, self.last = self.looked + 1, lane
                if has_task:
                    yield lane
            if len(found) < size:
                return
            first, size = found[-1][0] + _NEXT, size * 4


class _LanesSpoilt(Exception):
    """Raised for lanes that are not UTF-8: no statement can name them, nor go on after them."""


def look(tx: Transaction, request: LaneRequest) -> tuple[LaneClaim, bool]:
    """Returns the answer to a claim that takes nothing, and whether there is something to take: if not, the answer is
    true, and there is no need for a transaction that writes."""
    try:
        claim, _, ids = _pick(tx, request)
    except _LanesSpoilt:
        return LaneClaim([], tx.now, NO_TRANSACTIONS, registered=True), True
    return claim, bool(ids)


def claim_lanes(tx: Transaction, request: LaneRequest) -> LaneClaim:
    """Marks due tasks of a managed type as held by the pool; see ``FlowStore.claim_lanes``."""
    answer, managed, ids = _picked(tx, request)
    taken = _take(tx, request.task_type, managed, ids, request.pool_id)
    tasks = spoilt.readable(tx, taken)
    for _ in spoilt.passes(tx, request.task_type) if len(tasks) < len(taken) else ():
        later, managed, ids = _picked(tx, request._replace(limit=request.limit - len(tasks)))
        answer = later._replace(room=answer.room)
        taken = _take(tx, request.task_type, managed, ids, request.pool_id)
        read = spoilt.readable(tx, taken)
        tasks += read
        if len(read) == len(taken):
            break
    return answer._replace(tasks=tasks)


def _picked(tx: Transaction, request: LaneRequest) -> tuple[LaneClaim, ManagedType, Sequence[bytes]]:
    """Returns what ``_pick`` does, in a transaction that writes: lanes that are not UTF-8 are rewritten before."""
    try:
        return _pick(tx, request)
    except _LanesSpoilt:
        _mend_lanes(tx, request.task_type)
        return _pick(tx, request)


def _mend_lanes(tx: Transaction, task_type: str) -> None:
    """Replaces lanes of tasks that are not UTF-8, and logs that."""
    lanes = tx.rows(f"SELECT DISTINCT lane FROM fang_tasks WHERE {DUE} AND task_type = ?", (task_type,))
    spoilt_lanes = [(str(lane), task_type, lane.raw) for (lane,) in lanes if isinstance(lane, Undecodable)]
    sql = f"UPDATE fang_tasks SET lane = ? WHERE {DUE} AND task_type = ? AND lane = CAST(? AS TEXT)"
    count = tx.run_many(sql, spoilt_lanes)
    _LOGGER.error(
        "%s tasks of type %s had lanes that are not UTF-8: another program has written them", count, task_type
    )


def _pick(tx: Transaction, request: LaneRequest) -> tuple[LaneClaim, ManagedType, Sequence[bytes]]:
    """Returns the answer to a claim but for its tasks, the type with what their starts charge to it, and their ids."""
    claim = LaneClaim([], tx.now, NO_TRANSACTIONS, registered=is_registered(tx, request.pool_id))
    managed = read_type(tx, request.task_type) or ManagedType()
    if not managed.is_managed(tx.now):
        return claim._replace(is_managed=False), managed, ()
    if managed.is_paused(tx.now):
        end = managed.paused_until
        look_in = None if end is None else (end - tx.now).total_seconds()
        return claim._replace(look_in=look_in), managed, ()
    if not claim.registered:
        return claim, managed, ()
    picked = pick(
        managed,
        _Waiting(tx, managed, request),
        _running(tx, request.task_type),
        limit=request.limit,
        after_lane=request.after_lane,
        now=tx.now,
        quantum=request.quantum,
    )
    answer = claim._replace(
        room=picked.room,
        look_in=picked.look_in,
        after_lane=picked.after_lane,
        is_counted=managed.is_counted,
        is_short=picked.is_short,
        cut_at=picked.cut_at,
    )
    return answer, managed, picked.tasks


def fetch(tx: Transaction, task_type: str, pool_id: UUID) -> Task | None:
    """Takes the task of a managed type that is to be run first, of whatever kind; None if none may start now."""
    managed = read_type(tx, task_type)
    if managed is None or managed.is_paused(tx.now):
        return None
    request = LaneRequest(pool_id, task_type, (), 1, after_lane=managed.fetched_last, group_size=ANY_SUSPECTS)
    waiting = _Waiting(tx, managed, request)
    waiting.values["kinds"] = None
    running = _running(tx, task_type)
    try:
        picked = pick(managed, waiting, running, limit=1, after_lane=request.after_lane, now=tx.now)
    except _LanesSpoilt:
        _mend_lanes(tx, task_type)
        return fetch(tx, task_type, pool_id)
    managed.fetched_last = picked.after_lane or ""
    taken = _take(tx, task_type, managed, picked.tasks, pool_id)
    return rows.find(tx, UUID(bytes=taken[0][0])) if taken else None


def _running(tx: Transaction, task_type: str) -> dict[str, int]:
    """Returns how many tasks of each lane run."""
    return dict(tx.rows(_RUNNING, (task_type,)))


def _tats(tx: Transaction, task_type: str, lanes: Sequence[str]) -> dict[str, datetime]:
    sql = "SELECT lane, tat FROM fang_lanes WHERE task_type = ? AND lane IN (SELECT value FROM json_each(?))"
    return {lane: moment(tat) for lane, tat in tx.rows(sql, (task_type, json.dumps(lanes)))}


def _take(
    tx: Transaction, task_type: str, managed: ManagedType, ids: Sequence[bytes], pool_id: UUID
) -> list[tuple[Any, ...]]:
    """Has the pool hold these tasks, and writes what their starts have charged to rates; returns their new rows."""
    if not ids:
        return []
    taken = [tx.row(_TAKE, (pool_id.bytes, tx.micros, tx.micros, task_id)) for task_id in ids]
    if managed.settings.rate is not None or managed.fetched_last:
        write_type(tx, task_type, managed)
    if managed.settings.key_rate is not None:
        tats = ((task_type, lane, micros(tat)) for lane, tat in managed.tats.items() if tat > tx.now)
        tx.run_many("INSERT OR REPLACE INTO fang_lanes (task_type, lane, tat) VALUES (?, ?, ?)", tats)
    return taken


def prune_rates(tx: Transaction, limit: int) -> int:
    """Deletes what the rates of single keys have left behind, at most this many rows; returns how many."""
    return tx.run(
        """DELETE FROM fang_lanes WHERE (task_type, lane) IN (
  SELECT task_type, lane FROM fang_lanes WHERE tat <= ? LIMIT ?)""",
        (tx.micros, limit),
    )
