"""Keeps the schedules in the file: applications change them, and pools turn their ticks into tasks.

``schedule_rows`` has the rules. A transaction that writes has the file to itself, so that each tick is made once.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from fang_core.backends import schedule_rows
from fang_core.backends.json_forms import schedule_as_json, schedule_named
from fang_core.backends.rows import after_cancel
from fang_core.backends.scheduling import is_listed, replaced, row_now, unknown_schedule
from fang_core.backends.ticks import ScheduleState, Tick
from fang_core.backends.waking import SCHEDULES
from fang_core.errors import BackendError
from fang_core.logs import SafeLogger
from fang_core.record import Task
from fang_core.remarks import Remark
from fang_core.schedules.stored import Backfill, ScheduleInfo, Schedules, ScheduleSpec, Verdict
from fang_core.tasks.insertion import NewTask, Overrides, Rules
from fang_core.tasks.managing import Pause
from fang_core.words.moments import LATEST
from fang_sqlite import rows
from fang_sqlite.connections.transaction import Transaction
from fang_sqlite.records import UNREADABLE, unreadable
from fang_sqlite.tasks import inserting

_LOGGER: Final = SafeLogger("fang_sqlite")

# What applications do -------------------------------------------------------------------------------------------------


def put(tx: Transaction, spec: ScheduleSpec, row: NewTask, said: Remark) -> ScheduleInfo:
    """Stores a schedule and the task of its ticks; one that is the same already stays as it is."""
    former = _find(tx, spec.name)
    return _changed(tx, former, schedule_rows.after_put(former, spec, row, tx.now, said))


def pause(tx: Transaction, name: str, pause: Pause) -> ScheduleInfo:
    """Pauses a schedule. Raises ``UnknownSchedule``."""
    known = _known(tx, name)
    return _changed(tx, known, schedule_rows.after_pause(known, pause, tx.now))


def resume(tx: Transaction, name: str, said: Remark) -> ScheduleInfo:
    """Ends a pause, if there is one. Raises ``UnknownSchedule``."""
    known = _known(tx, name)
    return _changed(tx, known, schedule_rows.after_resume(known, _last_task(tx, known), tx.now, said))


def remove(tx: Transaction, name: str) -> bool:
    """Removes a schedule, or gives it back to the class that declares it; returns whether there was one."""
    known = _find(tx, name)
    if known is None:
        return False
    left = schedule_rows.after_removal(known, tx.now)
    if left is None:
        tx.run("DELETE FROM fang_schedules WHERE name = ?", (name,))
    else:
        _write(tx, left)
    tx.tell([SCHEDULES])
    return True


def list_all(tx: Transaction) -> Schedules:
    """Returns the schedules of which there is something to say, in the order of their names."""
    infos = [_read(*row) for row in tx.rows("SELECT name, info FROM fang_schedules ORDER BY name")]
    return Schedules(tx.now, [info for info in infos if is_listed(info)])


def run_now(tx: Transaction, name: str, task_id: UUID, rules: Rules) -> Task:
    """Inserts a task of a schedule that is due now, and is of no tick. Raises ``UnknownSchedule`` or ``IdInUse``."""
    return inserting.insert(tx, row_now(_known(tx, name), task_id, rules), Overrides(task_id))


def backfill(tx: Transaction, name: str, backfill: Backfill, rules: Rules) -> int:
    """Inserts the tasks of past ticks that are not there; returns how many.

    Raises ``UnknownSchedule`` or ``UsageError``.
    """
    info = _known(tx, name)
    last, past = _last_task(tx, info), schedule_rows.past_tasks(info, backfill, tx.now, rules)
    is_there = bool(past) and rows.find(tx, past[0].row.id) is not None
    if not schedule_rows.is_to_backfill(backfill, past, last, is_there=is_there):
        return 0
    _write(tx, schedule_rows.after_backfill(info, past[-1].at))
    _cancel(tx, backfill.overlap, last, name)
    tasks = [_insert(tx, each.row, each.due) for each in past]
    new = [task for task in tasks if not task.conflict]
    inserting.wake(tx, new)
    return len(new)


def _changed(tx: Transaction, former: ScheduleInfo | None, after: ScheduleInfo) -> ScheduleInfo:
    if after is not former:
        _write(tx, after)
        tx.tell([SCHEDULES])
    return after


# What pools do --------------------------------------------------------------------------------------------------------


def declare(
    tx: Transaction, declared: Mapping[str, Mapping[str, str]], dropped: Sequence[str], again: bool = False
) -> None:
    """Notes what classes say of their schedules; see ``ScheduleStore.declare_schedules``."""
    for name, says in {**declared, **dict.fromkeys(dropped)}.items():
        try:
            former = _find(tx, name)
        except BackendError:  # read() says so
            continue
        after = schedule_rows.after_declaration(former, name, says, tx.now, again=again)
        if after is not None and after != former:
            _write(tx, after)


def read(tx: Transaction, names: Sequence[str], task_types: Sequence[str] = (), known: str = "") -> ScheduleState:
    """Returns what a pool reads of schedules, without the last ticks of those that are to ``begin``.

    A schedule whose row cannot be read is left out, and makes no tick until the row is mended or removed. That is
    logged when the caller knows another version, and so once by each pool.
    """
    sql = """SELECT name, info FROM fang_schedules
  WHERE name IN (SELECT value FROM json_each(?)) OR task_type IN (SELECT value FROM json_each(?)) ORDER BY name"""
    found, spoilt = schedule_rows.readable(tx.rows(sql, (json.dumps(names), json.dumps(task_types))), _read)
    wanted = [info for info in found if schedule_rows.is_read(info, names, task_types)]
    version = schedule_rows.version_of(wanted) + (f" without {sorted(spoilt)}" if spoilt else "")
    last_ticks = {info.name: info.last_tick for info in found if info.name in names}
    last_ticks |= {name: LATEST for name in spoilt if name in names}  # no tick of its class is due after that
    if version != known and last_ticks.keys() >= set(names):  # otherwise the caller reads again
        for error in spoilt.values():
            _LOGGER.error("a schedule is left out: %s", error)
    return ScheduleState(tx.now, last_ticks, None if version == known else wanted, version)


def begin(tx: Transaction, names: Iterable[str]) -> None:
    """Has schedules of classes begin now, unless they have begun before."""
    for name in names:
        if _find(tx, name) is None:
            _write(tx, ScheduleInfo(name, tx.now))


def is_to_tick(tx: Transaction, tick: Tick) -> bool:
    """Returns whether the tick of a class is still to be made: of ten pools, nine ask too late."""
    try:
        return schedule_rows.is_to_tick(_find(tx, tick.name), tick, tx.now)
    except BackendError:  # spoilt since it was read: the next read leaves it out
        return False


def tick(tx: Transaction, tick: Tick) -> bool:
    """Inserts the task of a class's tick, once; returns whether that raised the last tick."""
    return _tick(tx, tick, by_hand=False)[0]


def tick_by_hand(tx: Transaction, tick: Tick) -> Task | None:
    """Inserts the tick of a class ahead of its time; returns its task, or with ``conflict`` the one that is there.

    Returns None if the tick does not lie ahead any more, and was made before.
    """
    return _tick(tx, tick, by_hand=True)[1]


def _tick(tx: Transaction, tick: Tick, *, by_hand: bool) -> tuple[bool, Task | None]:
    info = _find(tx, tick.name)
    if not schedule_rows.is_to_tick(info, tick, tx.now, by_hand=by_hand):
        return False, None
    task = _insert(tx, tick.row, tick.at)
    after = schedule_rows.after_class_tick(info, tick, task, tx.now)
    if after is not None:
        _write(tx, after)
    if not task.conflict:
        inserting.wake(tx, [task])
    return after is not None, task


def judge(tx: Transaction, tick: Tick) -> Verdict:
    """Returns what is to become of the tick of a stored schedule. Only some verdicts have anything written."""
    try:
        return _judged(tx, tick, _find(tx, tick.name))[0]
    except BackendError:  # spoilt since it was read: to read again leaves it out
        return Verdict.STALE


def _judged(tx: Transaction, tick: Tick, info: ScheduleInfo | None) -> tuple[Verdict, Task | None]:
    """Returns the verdict, and the task of the last tick."""
    refused = schedule_rows.refused(info, tick, tx.now)
    if refused is not None or info is None:
        return refused or Verdict.STALE, None
    last = _last_task(tx, info)
    return schedule_rows.judged_by(info, last), last


WRITTEN: Final = frozenset((Verdict.TICKED, Verdict.SKIPPED, Verdict.PAUSED))
"""The verdicts that change something."""


def tick_stored(tx: Transaction, tick: Tick) -> Verdict:
    """Inserts the task of a stored schedule's tick, once; see ``ScheduleStore.tick_stored``."""
    info = _find(tx, tick.name)
    verdict, last = _judged(tx, tick, info)
    if verdict not in WRITTEN or info is None:
        return verdict
    task = None
    if verdict is Verdict.TICKED:
        _cancel(tx, info.overlap, last, info.name)
        task = _insert(tx, tick.row, tick.due or tick.at)
        inserting.wake(tx, [] if task.conflict else [task])
    after = schedule_rows.after_tick(info, tick, verdict, task, tx.now)
    if after != info:
        _write(tx, after)
    if verdict is Verdict.PAUSED:
        tx.tell([SCHEDULES])
    return verdict


def _insert(tx: Transaction, row: NewTask, due: datetime) -> Task:
    """Inserts the task of a tick, unless it exists: it may have been edited since."""
    there = rows.find(tx, row.id)
    return inserting.insert_row(tx, row, due) if there is None else there._replace(conflict=True)


# Rows -----------------------------------------------------------------------------------------------------------------


def _find(tx: Transaction, name: str) -> ScheduleInfo | None:
    row = tx.row("SELECT info FROM fang_schedules WHERE name = ?", (name,))
    return None if row is None else _read(name, row[0])


def _read(name: str, text: str) -> ScheduleInfo:
    """Returns the schedule of a row. Raises ``BackendError``: if it were left out, it would be lost."""
    try:
        return schedule_named(name, text)
    except UNREADABLE as error:
        raise unreadable(f"schedule {name!r:.80} in fang_schedules", error) from None


def _known(tx: Transaction, name: str) -> ScheduleInfo:
    info = _find(tx, name)
    if info is None or not is_listed(info):
        found, _ = schedule_rows.readable(tx.rows("SELECT name, info FROM fang_schedules"), _read)
        raise unknown_schedule(name, [each.name for each in found if is_listed(each)])
    return info


def _write(tx: Transaction, info: ScheduleInfo) -> None:
    tx.run(
        "INSERT OR REPLACE INTO fang_schedules (name, task_type, info) VALUES (?, ?, ?)",
        (info.name, info.task_type if info.is_stored else None, schedule_as_json(info)),
    )


def _last_task(tx: Transaction, info: ScheduleInfo) -> Task | None:
    """Returns the task of the last tick, without its payload, which other programs may have spoilt."""
    last: UUID | None = info.last_task_id
    return None if last is None else next(iter(rows.states(tx, "WHERE id = ?", (last.bytes,))), None)


def _cancel(tx: Transaction, overlap: str, last: Task | None, name: str) -> None:
    """Cancels the task of the last tick, if it is to be."""
    if last is None or not schedule_rows.cancels(overlap, last):
        return
    rows.write_states(tx, [after_cancel(last, replaced(name), tx.now)])
    if last.pool_id is not None:
        tx.tell([last.pool_id])
