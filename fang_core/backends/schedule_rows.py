"""Changes the row of a schedule, for every backend: pure functions from one ``ScheduleInfo`` to the next.

A backend reads the row under its own lock or transaction, calls one of these, and writes what it returns. Functions
that may find nothing to change return the very row that they were given.
"""

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final, NamedTuple

from fang_core.backends.rows import can_be_cancelled
from fang_core.backends.scheduling import PAUSER, due_at, row_of_past
from fang_core.backends.ticks import Tick
from fang_core.errors import BackendError
from fang_core.record import Task, TaskState
from fang_core.remarks import Remark
from fang_core.schedules.schedule import Cron, Every, ScheduleOnce
from fang_core.schedules.stored import (
    MICROSECOND,
    Backfill,
    Overlap,
    ScheduleInfo,
    ScheduleSpec,
    Verdict,
    backfilled,
    begins_anew,
    judged,
    refuse_cancelling,
)
from fang_core.tasks.insertion import NewTask, Rules
from fang_core.tasks.managing import Pause
from fang_core.tasks.stored import stored_options

_OF_SPEC: Final = ("tz", "overlap", "missed", "missed_within", "jitter", "until", "pause_on_failure")


# What applications do -------------------------------------------------------------------------------------------------


def after_put(
    former: ScheduleInfo | None, spec: ScheduleSpec, row: NewTask, now: datetime, said: Remark
) -> ScheduleInfo:
    """Returns the row of a schedule that is put, with the task of its ticks; ``former`` if that is the same."""
    known = former or ScheduleInfo(spec.name, now)
    schedule = spec.schedule
    options = stored_options(row)
    put = known._replace(
        kind=row.kind,
        task_type=options["task_type"],
        metadata=row.metadata,
        options=options,
        cron=schedule.pattern if isinstance(schedule, Cron) else None,
        every=schedule.interval if isinstance(schedule, Every) else None,
        at=schedule.at if isinstance(schedule, ScheduleOnce) else None,
        anchor=_anchor(schedule, known, now) if isinstance(schedule, Every) else None,
        **{name: getattr(spec, name) for name in _OF_SPEC},
    )
    if former is not None and put == former:
        return former
    if begins_anew(known, put):
        put = put._replace(last_tick=max(known.last_tick, now))
    return _changed(put, now, said)


def after_pause(info: ScheduleInfo, pause: Pause, now: datetime) -> ScheduleInfo:
    """Returns the row of a schedule that is paused."""
    by, reason = pause.remark
    paused = info._replace(paused=True, paused_until=pause.end(now), paused_at=now, paused_by=by, pause_reason=reason)
    return _changed(paused, now, pause.remark)


def after_resume(info: ScheduleInfo, last: Task | None, now: datetime, said: Remark) -> ScheduleInfo:
    """Returns the row of a schedule whose pause is ended: its ticks are not made up for. ``info`` if it has no pause.

    ``last`` is the task of its last tick: one that has failed does not pause it again.
    """
    if not info.paused:
        return info
    ended = now if info.paused_until is None else min(now, info.paused_until - MICROSECOND)
    resumed = info._replace(
        last_tick=max(info.last_tick, ended),
        last_task_id=None if last is not None and last.state is TaskState.FAILED else info.last_task_id,
        paused=False,
        paused_until=None,
        paused_at=None,
        paused_by=None,
        pause_reason=None,
    )
    return _changed(resumed, now, said)


def after_removal(info: ScheduleInfo, now: datetime) -> ScheduleInfo | None:
    """Returns the row that is left when a schedule is removed: the class that declares it has it back. None if no class
    does, or there was nothing but its declaration."""
    if info.declared is not None and (info.is_stored or info.changed_at is not None):
        return ScheduleInfo(info.name, max(info.last_tick, now), declared=info.declared)
    return None


class PastTask(NamedTuple):
    """The task of a past tick that is made up for, and when it is due."""

    row: NewTask
    due: datetime
    at: datetime


def past_tasks(info: ScheduleInfo, backfill: Backfill, now: datetime, rules: Rules) -> list[PastTask]:
    """Returns the tasks of past ticks that a backfill is about. Raises ``UsageError``.

    If ``is_to_backfill``: cancel the task of the last tick if ``cancels(backfill.overlap, last)``, insert those that
    are not there, and write ``after_backfill``.
    """
    past = [PastTask(row_of_past(info, at, now, rules), due_at(info, at), at) for at in backfilled(info, backfill, now)]
    if any(task.row.uniq_hash is not None for task in past):
        refuse_cancelling(backfill.overlap)
    return past


def is_to_backfill(backfill: Backfill, past: Sequence[PastTask], last: Task | None, *, is_there: bool) -> bool:
    """Returns whether these tasks are made; ``last`` is the task of the last tick.

    ``is_there`` says whether there is the task of the first of them: if they may not overlap that is the only one, and
    then nothing is to be cancelled for it.
    """
    if not past or (is_there and backfill.overlap is not Overlap.ALLOW):
        return False
    return judged(backfill.overlap, None if last is None else last.state) is Verdict.TICKED


def after_backfill(info: ScheduleInfo, last_tick: datetime) -> ScheduleInfo:
    """Returns the row of a schedule whose past ticks were made, up to this one."""
    return info._replace(last_tick=max(info.last_tick, last_tick))


# What pools do --------------------------------------------------------------------------------------------------------


def after_declaration(
    former: ScheduleInfo | None, name: str, declared: Mapping[str, str] | None, now: datetime, *, again: bool = False
) -> ScheduleInfo | None:
    """Returns the row of a schedule of which a class says this; None if it says nothing and there is no row.

    What it says ``again`` does not take the place of what is declared.
    """
    if former is None and declared is None:
        return None
    if again and former is not None and former.declared is not None:
        return former
    return (former or ScheduleInfo(name, now))._replace(declared=declared)


def is_read(info: ScheduleInfo, names: Container[str], task_types: Container[str | None]) -> bool:
    """Returns whether a pool that makes the ticks of these classes and task types has to know the row."""
    return (info.is_stored and info.task_type in task_types) or (info.name in names and info.changed_at is not None)


def readable(
    rows: Iterable[tuple[str, str]], read: Callable[[str, str], ScheduleInfo]
) -> tuple[list[ScheduleInfo], dict[str, BackendError]]:
    """Returns the schedules among rows of name and text, and by name the errors of those that ``read`` cannot read."""
    infos: list[ScheduleInfo] = []
    spoilt: dict[str, BackendError] = {}
    for name, text in rows:
        try:
            infos.append(read(name, text))
        except BackendError as error:
            spoilt[name] = error
    return infos, spoilt


def version_of(infos: Iterable[ScheduleInfo]) -> str:
    """Returns what stands for these rows in ``ScheduleState.version``: another one whenever one of them changes."""
    return str(sorted((info.name, info.changed_at) for info in infos))


def is_to_tick(info: ScheduleInfo | None, tick: Tick, now: datetime, *, by_hand: bool = False) -> bool:
    """Returns whether the tick of a class's schedule is to be inserted, if its task is not there.

    ``by_hand`` also inserts a tick of a paused schedule, and one that lies ahead, though a later one was made before.
    """
    if info is None:
        return True
    if info.last_tick >= tick.at and not (by_hand and tick.at > now):
        return False
    return by_hand or not (info.is_stored or info.is_paused(tick.at))


def after_class_tick(info: ScheduleInfo | None, tick: Tick, task: Task, now: datetime) -> ScheduleInfo | None:
    """Returns the row after the tick of a class, whose insert has returned ``task``; None if it stays as it is.

    A twin leaves a tick out when its time has come, not ahead of it: the twin may have ended by then.
    """
    is_news = info is None or info.last_tick < tick.at
    if not is_news or (tick.at > now and task.id != tick.row.id):
        return None
    return (info or ScheduleInfo(tick.name, now))._replace(last_tick=tick.at)


def refused(info: ScheduleInfo | None, tick: Tick, now: datetime) -> Verdict | None:
    """Returns why the tick of a stored schedule is not made, before the task of the last one is looked at."""
    if info is None or not info.is_stored or info.changed_at != tick.changed_at or info.is_paused(tick.at):
        return Verdict.STALE
    if tick.at > now:
        return Verdict.STALE
    if info.last_tick >= tick.at:
        return Verdict.DONE
    return Verdict.LATE if info.missed_within is not None and now - tick.at > info.missed_within else None


def judged_by(info: ScheduleInfo, last: Task | None) -> Verdict:
    """Returns what becomes of a tick that is not refused; ``last`` is the task of the last tick.

    TICKED inserts the task, after it has cancelled ``last`` if ``cancels(info.overlap, last)``.
    """
    return judged(info.overlap, None if last is None else last.state, pause_on_failure=info.pause_on_failure)


def after_tick(info: ScheduleInfo, tick: Tick, verdict: Verdict, inserted: Task | None, now: datetime) -> ScheduleInfo:
    """Returns the row of a stored schedule after a tick was judged; ``inserted`` is what the insert returned, if any.

    After PAUSED, pools must be notified that schedules have changed.
    """
    if verdict is Verdict.PAUSED:
        why = Remark(PAUSER, f"task {info.last_task_id} of its last tick has failed")
        return after_pause(info, Pause(None, None, why), now)
    if verdict not in (Verdict.TICKED, Verdict.SKIPPED):
        return info
    is_its = inserted is not None and (not inserted.conflict or inserted.id == tick.row.id)
    last_id = tick.row.id if is_its else info.last_task_id
    return info._replace(last_tick=tick.at, last_task_id=last_id)


def cancels(overlap: str, last: Task | None) -> bool:
    """Returns whether a tick cancels the task of the last one, as ``scheduling.replaced`` says why."""
    return overlap == Overlap.CANCEL_RUNNING and last is not None and can_be_cancelled(last)


def _anchor(schedule: Every, known: ScheduleInfo, now: datetime) -> datetime:
    if schedule.anchor is not None:
        return schedule.anchor
    return known.anchor if known.anchor and known.every == schedule.interval else now.replace(microsecond=0)


def _changed(info: ScheduleInfo, now: datetime, said: Remark) -> ScheduleInfo:
    """The time of a change is always another one, so that no pool takes the row for what it was."""
    changed_at = now if info.changed_at is None else max(now, info.changed_at + MICROSECOND)
    return info._replace(changed_at=changed_at, changed_by=said.by, change_reason=said.reason)
