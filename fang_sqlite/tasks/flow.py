"""Keeps the task types that are paused, or have limits, rates or fairness, in the file, and changes them.

``ManagedType`` has the rules. A type of which there is nothing to say has no row. While it has one, tasks of it that
are inserted or revived get a lane; when its limits begin, those that are there are adopted. So the indexes of lanes,
by which limits count and claims look, have all tasks of a type with limits.
"""

import json
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Final, TypeAlias

from fang_core.backends.json_forms import Unreadable, managed_as_json, managed_from_json
from fang_core.backends.managed import ManagedType
from fang_core.backends.pools import Declaration
from fang_core.flow.info import MOST_COUNTED, TypeInfo
from fang_core.flow.settings import check_key
from fang_core.logs import SafeLogger
from fang_core.record import HIGHEST_PRIORITY, Task
from fang_core.tasks.managing import LimitChange, Pause
from fang_sqlite.connections.transaction import Transaction
from fang_sqlite.records import UNREADABLE, from_json, micros, names_of, unreadable
from fang_sqlite.schema import DUE

_LOGGER: Final = SafeLogger("fang_sqlite")
_ADOPTED_AT_ONCE: Final = 1_000
"""How many waiting tasks get a lane in one transaction, at most: that takes some ms."""

_FOR_EVER: Final = 2**63 - 1
_AMONG: Final = "task_type IN (SELECT value FROM json_each(?))"

# What is kept ---------------------------------------------------------------------------------------------------------


def read_types(tx: Transaction) -> dict[str, ManagedType]:
    """Returns what is kept of all types, in the order of their names."""
    rows = tx.rows("SELECT task_type, managed FROM fang_types ORDER BY task_type")
    return {task_type: _read(task_type, text) for task_type, text in rows}


def read_type(tx: Transaction, task_type: str) -> ManagedType | None:
    """Returns what is kept of a type; None if nothing is."""
    row = tx.row("SELECT managed FROM fang_types WHERE task_type = ?", (task_type,))
    return None if row is None else _read(task_type, row[0])


def _read(task_type: str, text: str) -> ManagedType:
    """Returns what a row says. Raises ``BackendError``: to leave it out would be to forget a limit, or a pause."""
    try:
        return managed_from_json(text)
    except UNREADABLE as error:
        raise unreadable(f"task type {task_type!r:.80} in fang_types", error) from None


def managed_types(tx: Transaction, task_types: Iterable[str]) -> set[str]:
    """Returns those of the types that plain claims leave alone."""
    sql = f"SELECT task_type FROM fang_types WHERE managed_until > ? AND {_AMONG}"
    return {task_type for (task_type,) in tx.rows(sql, (tx.micros, json.dumps(list(task_types))))}


def types_with_lanes(tx: Transaction, task_types: Iterable[str]) -> set[str]:
    """Returns those of the types whose tasks have a lane while they wait: ``''`` if their class makes none."""
    sql = f"SELECT task_type FROM fang_types WHERE {_AMONG}"
    return {task_type for (task_type,) in tx.rows(sql, (json.dumps(list(task_types)),))}


def in_lanes(tx: Transaction, tasks: Collection[Task]) -> list[Task]:
    """Returns tasks that wait from now on as they are to be written: with a lane, if their type has lanes."""
    without = {task.task_type for task in tasks if task.lane is None}
    types = types_with_lanes(tx, without) if without else set()
    return [task._replace(lane="") if task.lane is None and task.task_type in types else task for task in tasks]


def write_type(tx: Transaction, task_type: str, managed: ManagedType) -> None:
    """Writes what is kept of a type that has a row."""
    tx.run("UPDATE fang_types SET managed = ? WHERE task_type = ?", (managed_as_json(managed), task_type))


# How it changes -------------------------------------------------------------------------------------------------------


def declare(tx: Transaction, declarations: Sequence[Declaration]) -> None:
    """Notes what the classes of a pool declare; see ``PoolStore.declare``."""
    pools = [(names_of(types), names_of(kinds)) for types, kinds in tx.rows("SELECT task_types, kinds FROM fang_pools")]
    for declaration in declarations:
        task_type = declaration.task_type
        try:
            managed = read_type(tx, task_type) or ManagedType()
        except Unreadable as error:
            _LOGGER.error("tasks of type %r are not run: %s", task_type, error)
            continue
        known = {kind for task_types, kinds in pools if task_type in task_types for kind in kinds}
        managed.declare(declaration, known)
        _change(tx, task_type, managed)
    tx.tell_types(each.task_type for each in declarations)


def list_types(tx: Transaction) -> list[TypeInfo]:
    """Returns the managed types, in the order of their names."""
    kept = read_types(tx)
    running = running_by_type(tx) if kept else {}
    infos = [_info(tx, task_type, managed, running.get(task_type, 0)) for task_type, managed in kept.items()]
    return [info for info in infos if info.is_managed]


def pause_type(tx: Transaction, task_type: str, pause: Pause) -> TypeInfo:
    """Has nothing of a type start."""
    managed = read_type(tx, task_type) or ManagedType()
    managed.pause(pause, tx.now)
    _change(tx, task_type, managed)
    return info_of(tx, task_type, managed)


def resume_type(tx: Transaction, task_type: str) -> TypeInfo | None:
    """Ends the pause of a type; returns what is left to say of it."""
    tx.tell_types([task_type])
    managed = read_type(tx, task_type)
    if managed is None:
        return None
    managed.resume()
    return _change(tx, task_type, managed)


def set_limits(tx: Transaction, task_type: str, change: LimitChange) -> TypeInfo | None:
    """Sets the limits of a type, or forgets what was set; returns what is left to say of it. Raises ``UsageError``."""
    managed = read_type(tx, task_type) or ManagedType()
    if change.rules is not None:
        check_key(task_type, change.rules, managed.declared)
    managed.change(change, tx.now)
    tx.tell_types([task_type])
    return _change(tx, task_type, managed)


def _change(tx: Transaction, task_type: str, managed: ManagedType) -> TypeInfo | None:
    """Writes what is kept of a type now; returns what is left to say of it."""
    info = info_of(tx, task_type, managed)
    if not info.is_managed:
        tx.run("DELETE FROM fang_types WHERE task_type = ?", (task_type,))
        tx.run("DELETE FROM fang_lanes WHERE task_type = ?", (task_type,))
        return None
    before = read_type(tx, task_type)
    values = (managed_as_json(managed), _managed_until(managed, tx.now), task_type)
    if before is None:
        tx.run("INSERT INTO fang_types (managed, managed_until, task_type) VALUES (?, ?, ?)", values)
    else:
        tx.run("UPDATE fang_types SET managed = ?, managed_until = ? WHERE task_type = ?", values)
    if managed.settings.is_limited and not (before is not None and before.settings.is_limited):
        _adopt_at_once(tx, task_type)
    return info


def _managed_until(managed: ManagedType, now: datetime) -> int:
    if managed.settings.is_limited or (managed.paused and managed.paused_until is None):
        return _FOR_EVER
    return micros(managed.paused_until if managed.is_paused(now) and managed.paused_until else now)


def info_of(tx: Transaction, task_type: str, managed: ManagedType) -> TypeInfo:
    """Describes a type."""
    return _info(tx, task_type, managed, running_by_type(tx).get(task_type, 0))


def _info(tx: Transaction, task_type: str, managed: ManagedType, running: int) -> TypeInfo:
    (waiting,) = tx.row(
        f"SELECT count(*) FROM (SELECT 1 FROM fang_tasks WHERE {DUE} AND task_type = ? LIMIT {MOST_COUNTED})",
        (task_type,),
    )
    return managed.info(task_type, tx.now, running, waiting)


def running_by_type(tx: Transaction) -> dict[str, int]:
    """Returns how many tasks of each type pools hold."""
    return dict(
        tx.rows(
            """SELECT task_type, count(*) FROM fang_tasks INDEXED BY fang_tasks_held
  WHERE pool_id IS NOT NULL GROUP BY task_type"""
        )
    )


# Tasks without a lane -------------------------------------------------------------------------------------------------

_Place: TypeAlias = tuple[int, int, bytes]

_START: Final[_Place] = (HIGHEST_PRIORITY - 1, 0, b"")
"""The place of which all tasks that wait are behind."""

_TO_ADOPT: Final = f"SELECT task_type, adopt_from FROM fang_types WHERE adopt_from IS NOT NULL AND {_AMONG}"

_LOOK: Final = f"""SELECT rowid, lane, priority, scheduled_at, id FROM fang_tasks INDEXED BY fang_tasks_due
  WHERE {DUE} AND task_type = ? AND (priority, scheduled_at, id) > (?, ?, ?)
  ORDER BY priority, scheduled_at, id LIMIT ?"""


def has_to_adopt(tx: Transaction, task_types: Iterable[str]) -> bool:
    """Returns whether waiting tasks of these types may lack a lane, so that ``adopt`` has something to do."""
    return tx.row(_TO_ADOPT, (json.dumps(list(task_types)),)) is not None


def adopt(tx: Transaction, task_types: Iterable[str], limit: int) -> bool:
    """Gives a lane to waiting tasks of these types that have none; returns whether there are no more.

    It looks at this many tasks, but not for longer than some ms, and goes on where the last call has ended.
    """
    limit = min(limit, _ADOPTED_AT_ONCE)
    for task_type, place in tx.rows(_TO_ADOPT, (json.dumps(list(task_types)),)):
        limit -= _adopt(tx, task_type, _place_of(place), limit)
        if limit <= 0:
            return False
    return True


def _place_of(text: str) -> _Place:
    """Returns the place up to which tasks have a lane: the first of all if another program has written another text."""
    try:
        priority, scheduled_at, id_ = from_json(text)
        return int(priority), int(scheduled_at), bytes.fromhex(id_)
    except UNREADABLE:
        return _START


def _adopt(tx: Transaction, task_type: str, place: _Place, limit: int) -> int:
    """Does so with one type, from a place on; returns at how many tasks it has looked."""
    priority, scheduled_at, id_ = place
    found = tx.rows(_LOOK, (task_type, priority, scheduled_at, id_, limit))
    without = [(rowid,) for rowid, lane, *_ in found if lane is None]
    if without:
        tx.run_many("UPDATE fang_tasks SET lane = '' WHERE rowid = ?", without)
        tx.tell_types([task_type])
    reached = None
    if len(found) == limit:
        *_, priority, scheduled_at, last = found[-1]
        reached = json.dumps([priority, scheduled_at, last.hex()])
    tx.run("UPDATE fang_types SET adopt_from = ? WHERE task_type = ?", (reached, task_type))
    return len(found)


def _adopt_at_once(tx: Transaction, task_type: str) -> None:
    """Adopts the running tasks of a type, and the first waiting ones; the rest follows in batches, between which other
    connections can write."""
    tx.run(
        """UPDATE fang_tasks INDEXED BY fang_tasks_held SET lane = ''
  WHERE pool_id IS NOT NULL AND task_type = ? AND lane IS NULL""",
        (task_type,),
    )
    _adopt(tx, task_type, _START, _ADOPTED_AT_ONCE)
