"""Builds the statement for a tick of a schedule that lives in the database."""

from typing import Any, Final, NamedTuple

from sqlalchemy import (
    DateTime,
    Select,
    and_,
    any_,
    bindparam,
    case,
    exists,
    func,
    literal_column,
    not_,
    null,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.dialects.postgresql import UUID, insert
from sqlalchemy.sql.elements import ColumnElement

from fang_core.backends.scheduling import PAUSER
from fang_core.lifecycle import DUE_STATES
from fang_core.record import TaskState
from fang_core.schedules.stored import Overlap, Verdict
from fang_postgres.schema import Tables
from fang_postgres.sql.cancelling import cancelling, is_news
from fang_postgres.sql.filters import goes_on
from fang_postgres.sql.fragments import (
    aliased,
    array_of,
    is_live_twin,
    new_row,
    telling,
    told_of_new_rows,
    waking,
)
from fang_postgres.sql.schedules import is_paused
from fang_postgres.sql.stored_schedules import ALL_POOLS, CLOCK, NAME, changed, is_as_read, last_state, literal
from fang_postgres.statement import Statement

_ONE: Final[Select[Any]] = select(literal_column("1"))
_AT: Final = bindparam("p_at", type_=DateTime(timezone=True))


def tick_stored(t: Tables) -> Statement:
    """Makes a tick of a schedule in the database, if that is still as its pool has read it; returns the verdict.

    Whether the tick's task overlaps is judged by the state of the last tick's task. Both are read in one snapshot, and
    the verdict counts only if the schedule's row, once it is locked, has not ticked since: otherwise the last task may
    be one that the snapshot does not show.

    It waits for no lock: a transaction of an application that has changed one schedule, and stays open, would hold up
    the ticks of all other schedules. If the row is locked, or has changed since the snapshot, the pool is to ask again.
    """
    seen = _seen(t)
    was_raised = exists(_ONE.select_from(_raised(t, seen)))
    may_insert = and_(was_raised, seen.is_ticked)
    new = new_row(t, bindparam("p_due", type_=DateTime(timezone=True)))
    inserted = insert(t.tasks).from_select([*new], select(*new.values()).where(may_insert)).on_conflict_do_nothing()
    rows = inserted.returning(*told_of_new_rows(t)).cte("inserted")
    refusal = case(
        (seen.verdict.is_(None), literal(Verdict.STALE)), (and_(seen.writes, not_(was_raised)), literal(Verdict.WAITS))
    )
    return Statement(
        "tick_stored",
        select(
            func.coalesce(refusal, seen.verdict).label("verdict"),
            waking(t, rows),
            _cancelled_and_told(t, seen, may_insert).label("told"),
            case((and_(seen.pauses, was_raised), telling(t, ALL_POOLS))).label("changed"),
        ),
    )


class _Seen(NamedTuple):
    """Holds what the statement's snapshot shows of a schedule: each value is null if there is none to tick."""

    verdict: ColumnElement[Any]
    last_tick: ColumnElement[Any]
    last_task_id: ColumnElement[Any]
    overlap: ColumnElement[Any]
    has_twin: ColumnElement[Any]

    @property
    def is_ticked(self) -> ColumnElement[bool]:
        return self.verdict == literal(Verdict.TICKED)

    @property
    def pauses(self) -> ColumnElement[bool]:
        return self.verdict == literal(Verdict.PAUSED)

    @property
    def writes(self) -> ColumnElement[bool]:
        """Returns whether the verdict is one for which the schedule's row is written."""
        return self.verdict.in_([literal(each) for each in (Verdict.TICKED, Verdict.SKIPPED, Verdict.PAUSED)])


def _seen(t: Tables) -> _Seen:
    s = t.schedules.c
    moment = select(CLOCK.label("now")).cte("moment").prefix_with("MATERIALIZED")
    twin = t.tasks.alias("twin")
    read = (
        select(
            s.last_tick,
            s.last_task_id,
            s.overlap,
            s.missed_within,
            s.pause_on_failure,
            last_state(t).label("state"),
            exists(_ONE.where(is_live_twin(twin.c))).label("has_twin"),
            moment.c.now,
        )
        .select_from(t.schedules.join(moment, true()))
        .where(s.name == NAME, s.kind.is_not(None), is_as_read(s), not_(is_paused(s, _AT)), moment.c.now >= _AT)
        .cte("read")
        .prefix_with("MATERIALIZED")
    )
    seen = select(read, _verdict(read.c).label("verdict")).cte("seen").prefix_with("MATERIALIZED")
    return _Seen(*(select(seen.c[name]).scalar_subquery() for name in _Seen._fields))


def _verdict(read: Any) -> ColumnElement[str]:
    """Returns the verdict on a tick that is not stale; see ``schedules.stored.judged``."""
    waits = read.state.in_([literal(state) for state in DUE_STATES])
    runs = read.state == literal(TaskState.IN_PROGRESS)
    is_skipping, is_queueing = (read.overlap == literal(each) for each in (Overlap.SKIP, Overlap.QUEUE_ONE))
    return case(
        (read.last_tick >= _AT, literal(Verdict.DONE)),
        (read.now - _AT > read.missed_within, literal(Verdict.LATE)),
        (and_(read.pause_on_failure, read.state == literal(TaskState.FAILED)), literal(Verdict.PAUSED)),
        (or_(and_(is_skipping, or_(waits, runs)), and_(is_queueing, waits)), literal(Verdict.SKIPPED)),
        (and_(is_queueing, runs), literal(Verdict.WAITS)),
        else_=literal(Verdict.TICKED),
    )


def _raised(t: Tables, seen: _Seen) -> Any:
    """Returns the row of the schedule as it is after the tick: ticked, or paused because its last task has failed."""
    s = t.schedules.c
    held = (
        select(s.name)
        .where(s.name == NAME, is_as_read(s), s.last_tick == seen.last_tick, seen.writes)
        .with_for_update(key_share=True, skip_locked=True)
        .cte("held")
        .prefix_with("MATERIALIZED")
    )
    inserts = and_(seen.is_ticked, not_(seen.has_twin))
    why = func.concat(literal_column("'task '"), seen.last_task_id, literal_column("' of its last tick has failed'"))
    by: ColumnElement[Any] = literal_column(f"'{PAUSER}'")
    of_a_pause = {
        "paused_until": null(),
        "paused_at": CLOCK,
        "paused_by": by,
        "changed_by": by,
        "pause_reason": why,
        "change_reason": why,
        "changed_at": changed(s)["changed_at"],
    }
    values = {
        "last_tick": case((seen.pauses, s.last_tick), else_=_AT),
        "last_task_id": case((inserts, bindparam("p_id", type_=UUID)), else_=s.last_task_id),
        "paused": or_(s.paused, seen.pauses),
        **{name: case((seen.pauses, value), else_=s[name]) for name, value in of_a_pause.items()},
    }
    raised = update(t.schedules).where(s.name == any_(array_of(select(held.c.name)))).values(**values)
    return raised.returning(s.name).cte("raised")


def _cancelled_and_told(t: Tables, seen: _Seen, may_cancel: ColumnElement[bool]) -> ColumnElement[Any]:
    """Cancels the task of the last tick, if the schedule's overlap says so; returns how many pools are notified."""
    task = aliased(t.tasks, "t")
    is_to_be_cancelled = seen.overlap == literal(Overlap.CANCEL_RUNNING)
    cancelled = (
        cancelling(t, task)
        .where(task.c.id == seen.last_task_id, goes_on(task.c), is_news(task.c), may_cancel, is_to_be_cancelled)
        .returning(task.c.pool_id)
        .cte("cancelled")
    )
    told = select(func.count(telling(t, cancelled.c.pool_id))).where(cancelled.c.pool_id.is_not(None))
    return told.scalar_subquery()
