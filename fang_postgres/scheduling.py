"""Writes the scripts for schedules that live in the database. Pure."""

from collections.abc import Sequence
from datetime import datetime
from itertools import groupby
from typing import Final
from uuid import UUID

from fang_core.backends.schedule_rows import PastTask, cancels, is_to_backfill, past_tasks
from fang_core.backends.scheduling import replaced, row_now, unknown_schedule
from fang_core.errors import BackendError, UnknownSchedule
from fang_core.record import Task
from fang_core.remarks import Remark
from fang_core.schedules.stored import (
    Backfill,
    Overlap,
    ScheduleInfo,
    Schedules,
    ScheduleSpec,
)
from fang_core.tasks.insertion import NewTask, Overrides, Rules, in_chunks
from fang_core.tasks.managing import Pause, has_passed
from fang_postgres import scripts
from fang_postgres.operations import Operations
from fang_postgres.statement import Script

_TRIES: Final = 20  # of a change to a schedule that other processes change at the same time

AT_ONCE: Final = 1_000
"""The most ticks that one statement of a backfill makes: it takes some tens of milliseconds."""


def put(
    operations: Operations, spec: ScheduleSpec, row: NewTask, said: Remark, *, notify: bool
) -> Script[ScheduleInfo]:
    """Stores a schedule and the task of its ticks; one that is the same already stays as it is."""
    for _ in range(_TRIES):
        stored: ScheduleInfo | None = yield operations.put_schedule(spec, row, said, notify=notify)
        if stored is not None:
            return stored
        found: Schedules = yield operations.list_schedules(spec.name)
        if found.infos:
            return found.infos[0]
    raise _changed(spec.name)


def pause(operations: Operations, name: str, pause: Pause, *, notify: bool) -> Script[ScheduleInfo]:
    """Pauses a schedule. Raises ``UnknownSchedule``, or ``UsageError`` if the pause would end before it begins."""
    paused: ScheduleInfo | None = yield operations.pause_schedule(name, pause, notify=notify)
    if paused is None:
        yield from _known(operations, name)
        raise has_passed()
    return paused


def resume(operations: Operations, name: str, said: Remark, *, notify: bool) -> Script[ScheduleInfo]:
    """Ends a pause: its ticks are not made up for. Raises ``UnknownSchedule``."""
    resumed: ScheduleInfo | None = yield operations.resume_schedule(name, said, notify=notify)
    return resumed or (yield from _known(operations, name))[1]


def remove(operations: Operations, name: str, *, notify: bool) -> Script[bool]:
    """Removes a schedule, or gives it back to the class that declares it; returns whether there was one."""
    return bool((yield operations.remove_schedule(name, notify=notify)))


def list_all(operations: Operations, *, notify: bool) -> Script[Schedules]:
    """Returns all schedules, without those of classes that no pool has declared."""
    found: Schedules = yield operations.list_schedules()
    return found


def run_now(operations: Operations, name: str, task_id: UUID, rules: Rules, *, notify: bool) -> Script[Task]:
    """Inserts a task of a schedule that is due now, and is of no tick. Raises ``UnknownSchedule`` or ``IdInUse``."""
    _, info = yield from _known(operations, name)
    return (yield from scripts.insert(operations, row_now(info, task_id, rules), Overrides(task_id), notify=notify))


def backfill(operations: Operations, name: str, backfill: Backfill, rules: Rules, *, notify: bool) -> Script[int]:
    """Inserts the tasks of past ticks that are not there; returns how many. See ``Backfill``.

    Run it in one transaction. Raises ``UnknownSchedule`` or ``UsageError``.
    """
    for _ in range(_TRIES):
        now, info = yield from _known(operations, name)
        past = past_tasks(info, backfill, now, rules)
        if not past:
            return 0
        if (yield operations.hold_schedule(info)):
            return (yield from _backfill(operations, info, backfill, past, notify=notify))
    raise _changed(name)


def _backfill(
    operations: Operations,
    info: ScheduleInfo,
    backfill: Backfill,
    past: Sequence[PastTask],
    *,
    notify: bool,
) -> Script[int]:
    """Makes ticks of a schedule whose row it holds, so that pools make none of them meanwhile."""
    last: Task | None = None
    is_there = False
    if backfill.overlap is not Overlap.ALLOW:
        if info.last_task_id is not None:
            last = yield operations.find(info.last_task_id)
        is_there = (yield operations.find(past[0].row.id)) is not None
    if not is_to_backfill(backfill, past, last, is_there=is_there):
        return 0
    if cancels(backfill.overlap, last):
        assert last is not None
        yield operations.cancel(last.id, replaced(info.name), notify=notify)
    yield operations.hold_schedule(info, past[-1].at)
    inserted = 0
    for _, alike in groupby(past, key=lambda each: each.row.expires):
        ticks = list(alike)
        dues = {each.row.id: each.due for each in ticks}
        for chunk in in_chunks((each.row for each in ticks), most_rows=AT_ONCE):
            chunk.sort(key=lambda row: row.uniq_hash or "")
            inserted += yield operations.insert_past(chunk, [dues[row.id] for row in chunk], notify=notify)
    return inserted


def _known(operations: Operations, name: str) -> Script[tuple[datetime, ScheduleInfo]]:
    found: Schedules = yield operations.list_schedules(name)
    if not found.infos:
        raise (yield from _unknown(operations, name))
    return found.now, found.infos[0]


def _unknown(operations: Operations, name: str) -> Script[UnknownSchedule]:
    known: Schedules = yield operations.list_schedules()
    return unknown_schedule(name, [info.name for info in known.infos])


def _changed(name: str) -> BackendError:
    return BackendError(f"schedule {name!r:.100} was changed {_TRIES} times meanwhile: try again")
