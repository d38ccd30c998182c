"""Lets pools claim tasks: each task type in its turn, by priority and then by time.

A claim first looks, in a transaction that only reads, where the first task is that it may take. It takes the write lock
only if there is one, and begins there: what a pool cannot run may lie before it, and is walked past while other
connections write.
"""

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Any, Final, NamedTuple
from uuid import UUID

from fang_core.backends.claims import NO_TRANSACTIONS, Claim, ClaimRequest
from fang_core.crashes import MOST_GROUP, SUSPECT_AFTER
from fang_core.record import PRIORITIES, ClaimedTask, waiting_state
from fang_sqlite.connections.transaction import Transaction
from fang_sqlite.records import CLAIMED, moment, names_of
from fang_sqlite.schema import DUE
from fang_sqlite.tasks import flow, spoilt
from fang_sqlite.tasks.spoilt import NEXT_ATTEMPT

WANTED: Final = f"""kind IN (SELECT value FROM json_each(:kinds))
    AND (crashes < {SUSPECT_AFTER} OR max(1, coalesce(group_limit, {MOST_GROUP})) >= :group_size
      OR (kind IN (SELECT value FROM json_each(:isolated_kinds)) AND coalesce(group_limit, {MOST_GROUP}) > 1))"""
"""Whether a claim may take a row that is due: the pool knows its kind, and it is no suspect that must wait."""

FIRST: Final = f"""SELECT priority, scheduled_at, id FROM fang_tasks INDEXED BY fang_tasks_due
  WHERE {DUE} AND task_type = :task_type AND priority IN ({", ".join(map(str, PRIORITIES))}) AND scheduled_at <= :now
    AND {WANTED}
  ORDER BY priority, scheduled_at, id LIMIT 1"""
"""Finds the first task of a type that a claim may take."""

_TAKE: Final = f"state = 'in_progress', {NEXT_ATTEMPT}, pool_id = :pool_id, claimed_at = :now, updated_at = :now"

_FOUND: Final = f"""task_type = :task_type AND priority = :priority AND scheduled_at <= :now
      AND {WANTED}
    ORDER BY scheduled_at, id LIMIT :limit"""

CLAIM: Final = f"""UPDATE fang_tasks SET {_TAKE} WHERE rowid IN (
    SELECT rowid FROM fang_tasks INDEXED BY fang_tasks_due
    WHERE {DUE} AND (scheduled_at, id) >= (:from_time, :from_id) AND {_FOUND})
  RETURNING {", ".join(CLAIMED)}"""
"""Takes tasks of a type and a priority. RETURNING keeps no order."""

CLAIM_RETRIED: Final = f"""UPDATE fang_tasks SET {_TAKE} WHERE rowid IN (
    SELECT rowid FROM fang_tasks INDEXED BY fang_tasks_retried
    WHERE state = 'retried' AND {_FOUND})
  RETURNING {", ".join(CLAIMED)}"""
"""Does so with those that have failed or crashed before."""

_IN_ORDER: Final = itemgetter(CLAIMED.index("scheduled_at"), CLAIMED.index("id"))
"""Sorts rows of ``CLAIMED`` as they are: to compare UUIDs takes longer."""

_IS_REGISTERED: Final = "SELECT 1 FROM fang_pools WHERE id = ?"


class Start(NamedTuple):
    """Says where the tasks of a type begin that a claim may take."""

    priority: int
    time: int
    id: bytes


def look(tx: Transaction, request: ClaimRequest) -> tuple[Claim, Mapping[str, Start]]:
    """Returns what a claim that finds nothing answers, and the types of which it would find something, and where."""
    if tx.row(_IS_REGISTERED, (request.pool_id.bytes,)) is None:
        return Claim([], tx.now, NO_TRANSACTIONS, registered=False), {}
    managed = flow.managed_types(tx, request.task_types)
    values = _values(tx, request)
    starts: dict[str, Start] = {}
    for task_type in request.task_types:
        if task_type not in managed:
            found = tx.row(FIRST, values | {"task_type": task_type})
            if found is not None:
                starts[task_type] = Start(*found)
    return Claim([], tx.now, NO_TRANSACTIONS, True, _in_order(request, managed)), starts


def claim(tx: Transaction, request: ClaimRequest, starts: Mapping[str, Start]) -> Claim:
    """Marks due tasks as held by the pool, each type from where ``look`` has found its first one."""
    if tx.row(_IS_REGISTERED, (request.pool_id.bytes,)) is None:
        return Claim([], tx.now, NO_TRANSACTIONS, registered=False)
    managed = flow.managed_types(tx, request.task_types)
    values = _values(tx, request)
    tasks: list[ClaimedTask] = []
    for task_type in request.task_types:
        start = starts.get(task_type)
        if start is not None and task_type not in managed:
            _take(tx, values | {"task_type": task_type}, start, request, tasks)
    return Claim(tasks, tx.now, NO_TRANSACTIONS, True, _in_order(request, managed))


def _take(
    tx: Transaction, values: dict[str, Any], start: Start, request: ClaimRequest, tasks: list[ClaimedTask]
) -> None:
    """Adds tasks of one type to those of the claim, up to its limit."""
    for priority in PRIORITIES:
        if priority < start.priority:
            continue
        values["priority"] = priority
        is_first = priority == start.priority and not request.retries_first
        values["from_time"], values["from_id"] = (start.time, start.id) if is_first else (-(2**63), b"")
        for statement in (CLAIM_RETRIED, CLAIM) if request.retries_first else (CLAIM,):
            for _ in spoilt.passes(tx, values["task_type"]):
                values["limit"] = request.limit - len(tasks)
                if values["limit"] <= 0:
                    return
                found = sorted(tx.rows(statement, values), key=_IN_ORDER)
                taken = spoilt.readable(tx, found)
                tasks += taken
                if len(taken) == len(found):
                    break


def _values(tx: Transaction, request: ClaimRequest) -> dict[str, Any]:
    return {
        "pool_id": request.pool_id.bytes,
        "now": tx.micros,
        "kinds": as_list(request.kinds),
        "group_size": request.group_size,
        "isolated_kinds": as_list(request.isolated_kinds),
    }


def _in_order(request: ClaimRequest, managed: set[str]) -> tuple[str, ...]:
    return tuple(each for each in request.task_types if each in managed)


@lru_cache(maxsize=256)
def as_list(names: tuple[str, ...]) -> str:
    """Returns names as JSON, for statements: they are the same from claim to claim."""
    return json.dumps(names)


# No more of a row is read than this takes, so that spoilt rows are given back, too.
_HELD: Final = "SELECT id, task_type, retries, crashes FROM fang_tasks WHERE pool_id = ? AND state = 'in_progress'"

_GIVE_BACK: Final = """UPDATE fang_tasks SET state = ?, pool_id = NULL, claimed_at = NULL, updated_at = ?
  WHERE id = ?"""


def reconcile(tx: Transaction, pool_id: UUID, known: Sequence[UUID]) -> int:
    """Gives back, uncharged, what the pool holds and is not among ``known``; returns how many tasks."""
    ids = {each.bytes for each in known}
    unknown = [row for row in tx.rows(_HELD, (pool_id.bytes,)) if row[0] not in ids]
    for id_, _, retries, crashes in unknown:
        tx.run(_GIVE_BACK, (waiting_state(retries, crashes).value, tx.micros, id_))
    tx.wake(task_type for _, task_type, *_ in unknown)
    return len(unknown)


# What waits -----------------------------------------------------------------------------------------------------------

_NEXT: Final = f"""SELECT scheduled_at FROM fang_tasks INDEXED BY fang_tasks_due
  WHERE {DUE} AND task_type = ? AND priority = ? AND scheduled_at > ?
    AND kind IN (SELECT value FROM json_each(?))
  ORDER BY scheduled_at LIMIT 1"""

LANES: Final = f"""WITH RECURSIVE lanes (task_type, priority) AS (
    SELECT * FROM (SELECT task_type, priority FROM fang_tasks INDEXED BY fang_tasks_due WHERE {DUE}
      ORDER BY task_type, priority LIMIT 1)
    UNION ALL
    SELECT next.task_type, next.priority FROM lanes JOIN fang_tasks next ON next.rowid = coalesce(
      (SELECT rowid FROM fang_tasks INDEXED BY fang_tasks_due
        WHERE {DUE} AND task_type = lanes.task_type AND priority > lanes.priority ORDER BY priority LIMIT 1),
      (SELECT rowid FROM fang_tasks INDEXED BY fang_tasks_due
        WHERE {DUE} AND task_type > lanes.task_type ORDER BY task_type, priority LIMIT 1)))
  SELECT task_type, priority, (SELECT scheduled_at FROM fang_tasks due INDEXED BY fang_tasks_due
      WHERE due.{DUE} AND due.task_type = lanes.task_type AND due.priority = lanes.priority
      ORDER BY scheduled_at LIMIT 1)
    FROM lanes LIMIT ?"""
"""Finds the lanes with waiting tasks, and when the first of each is due, by a search for each lane."""

_DUE_KINDS: Final = f"""SELECT DISTINCT kind FROM (
    SELECT kind FROM fang_tasks INDEXED BY fang_tasks_due
    WHERE {DUE} AND task_type = ? AND priority = ? AND scheduled_at <= ?
    ORDER BY scheduled_at LIMIT 1000)"""


def next_due(tx: Transaction, task_types: Sequence[str], kinds: Sequence[str]) -> float | None:
    """Returns the seconds until the next of these tasks that is not due yet; None if there is none."""
    known = as_list(tuple(kinds))
    found = [
        tx.row(_NEXT, (task_type, priority, tx.micros, known)) for task_type in task_types for priority in PRIORITIES
    ]
    times = [row[0] for row in found if row is not None]
    return (moment(min(times)) - tx.now).total_seconds() if times else None


def waiting_types(tx: Transaction, most: int) -> dict[str, bool] | None:
    """Returns the task types with waiting tasks, and whether one of each is due; None for ``most`` lanes or more."""
    lanes = tx.rows(LANES, (most,))
    if len(lanes) >= most:
        return None
    types: dict[str, bool] = {}
    for task_type, _, first in lanes:
        types[task_type] = types.get(task_type, False) or first <= tx.micros
    return types


def unknown_kinds(tx: Transaction, task_types: Sequence[str]) -> list[str]:
    """Returns the kinds among the first due tasks of these types that no registered pool of the type knows."""
    known = {(task_type, kind) for types, kinds in _served(tx) for task_type in types for kind in kinds}
    found = {
        (task_type, kind)
        for task_type in task_types
        for priority in PRIORITIES
        for (kind,) in tx.rows(_DUE_KINDS, (task_type, priority, tx.micros))
    }
    return sorted({kind for _, kind in found - known})


def unserved_types(tx: Transaction, due_before: int) -> list[str]:
    """Returns the task types with tasks that were due before this time, and that no registered pool serves."""
    served = {task_type for types, _ in _served(tx) for task_type in types}
    return sorted({task_type for task_type, _, first in tx.rows(LANES, (-1,)) if first <= due_before} - served)


def _served(tx: Transaction) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Returns the task types and the kinds of each registered pool."""
    served = tx.rows("SELECT task_types, kinds FROM fang_pools")
    return [(names_of(task_types), names_of(kinds)) for task_types, kinds in served]
