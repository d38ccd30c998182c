"""Builds the statements for unique tasks on terms of their own: for their periods, and for what keeps inserts out.

A period is a row of ``fang_uniques``, which outlives its task. Who is kept out writes nothing and locks no row.
"""

from typing import Any, Final

from sqlalchemy import (
    DateTime,
    Double,
    Integer,
    Interval,
    Text,
    and_,
    any_,
    bindparam,
    case,
    cast,
    delete,
    func,
    literal_column,
    not_,
    null,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, UUID
from sqlalchemy.sql.elements import ColumnElement, Grouping

from fang_core.lifecycle import DUE_STATES
from fang_core.tasks.options import COLUMNS
from fang_postgres.schema import Tables
from fang_postgres.sql.fragments import (
    ATTEMPTS,
    IDS,
    LIMIT,
    aliased,
    array_of,
    due_time,
    expiry,
    has_ended,
    is_unclaimed,
    lane_of,
    state_literals,
    task_columns,
    waking,
)
from fang_postgres.sql.inserts import DELAY, SET_BY_HAND, due_of_insert
from fang_postgres.statement import Statement

_HASHES: Final = bindparam("p_hashes", type_=ARRAY(Text))
_GIVEN_HASHES: Final = array_of(select(func.unnest(_HASHES)))
_FOR_EVER: Final = cast(literal_column("'infinity'"), DateTime(timezone=True))


def begin_periods(t: Tables) -> Statement:
    """Begins periods of tasks, unless one with the hash has begun and is not over; returns the tasks of the begun ones.

    Pass them in the order of their hashes, so that two bulks wait for each other in one direction only.

    A period that is over is deleted, and another row inserted: an UPDATE, also that of ON CONFLICT, would leave who
    loses a race with a lock on the row of the winner.
    """
    u = t.uniques.c
    lists = {
        "hash": _HASHES,
        "task_id": IDS,
        "within": bindparam("p_within", type_=ARRAY(Interval)),
    }
    asked = func.unnest(*lists.values()).table_valued(*lists).render_derived(name="asked")
    now = select(func.clock_timestamp(type_=DateTime(timezone=True)).label("now")).cte("moment")
    is_over = u.until <= select(now.c.now).scalar_subquery()
    locked = (
        select(u.hash)
        .where(u.hash == any_(_GIVEN_HASHES), is_over)
        .order_by(u.hash)
        .with_for_update()
        .cte("locked")
        .prefix_with("MATERIALIZED")
    )
    ended = (
        delete(t.uniques).where(u.hash == any_(array_of(select(locked.c.hash))), is_over).returning(u.hash).cte("ended")
    )
    until = func.coalesce(now.c.now + asked.c.within, _FOR_EVER)
    # The count has the rows deleted first.
    have_ended = select(func.count()).select_from(ended).scalar_subquery() >= literal_column("0")
    rows = select(asked.c.hash, asked.c.task_id, now.c.now, until).select_from(asked.join(now, have_ended))
    begun = postgresql.insert(t.uniques).from_select(["hash", "task_id", "inserted_at", "until"], rows)
    return Statement("begin_periods", begun.on_conflict_do_nothing().returning(u.task_id))


def end_periods(t: Tables) -> Statement:
    """Ends periods that the same transaction has begun, of tasks that were not inserted after all.

    They are found by their hashes: a task that is there already may have a period of another hash, which lasts.
    """
    return Statement("end_periods", delete(t.uniques).where(t.uniques.c.hash == any_(_GIVEN_HASHES)))


def undo_inserts(t: Tables) -> Statement:
    """Deletes rows that the same transaction has inserted, with their periods."""
    c = t.tasks.c
    gone = (
        delete(t.tasks).where(c.id == any_(_given(IDS)), c.attempt == literal_column("0")).returning(c.id).cte("gone")
    )
    periods = delete(t.uniques).where(t.uniques.c.task_id == any_(array_of(select(gone.c.id))))
    return Statement("undo_inserts", periods)


def prune_periods(t: Tables) -> Statement:
    """Deletes periods that are over, those first that have been over for longest."""
    u, old = t.uniques.c, aliased(t.uniques, "old")
    now = func.now()  # unlike clock_timestamp() it can be compared in the index
    over = (
        select(old.c.hash)
        .where(old.c.until <= now)
        .order_by(old.c.until)
        .limit(LIMIT)
        .with_for_update(skip_locked=True)
    )
    return Statement(
        "prune_periods", delete(t.uniques).where(u.hash == any_(array_of(over)), u.until <= now).returning(u.hash)
    )


def keeping_out(t: Tables) -> Statement:
    """Reads what kept rows out: the columns of a task, by what it was found, and the hash.

    A period has no columns of a task, but the task's id, and its beginning; if the task is there, it is found by its
    id. There is no join, which would become quadratic under stale statistics.
    """
    c, u = t.tasks.c, t.uniques.c
    no_hash, no_id = cast(null(), Text).label("compared"), cast(null(), UUID).label("task_id")
    no_time = cast(null(), DateTime(timezone=True)).label("inserted_at")
    lasting = and_(u.hash == any_(_GIVEN_HASHES), u.until > func.clock_timestamp())

    def found(by: str, compared: Any, *where: ColumnElement[bool]) -> Any:
        return select(*task_columns(t), _text(by).label("found_by"), compared, no_id, no_time).where(*where)

    ids = select(func.unnest(IDS)).union_all(select(u.task_id).where(lasting))
    by_id = found("id", no_hash, c.id == any_(array_of(ids)))
    unfinished = found("unfinished", c.uniq_hash, c.uniq_hash == any_(_GIVEN_HASHES), not_(has_ended(c)))
    waiting = found("waiting", c.uniq_waiting, c.uniq_waiting == any_(_GIVEN_HASHES), is_unclaimed(c))
    no_task = [cast(null(), column.type).label(column.key) for column in task_columns(t)]
    periods = select(*no_task, _text("period").label("found_by"), u.hash, u.task_id, u.inserted_at).where(lasting)
    return Statement("keeping_out", by_id.union_all(unfinished, waiting, periods))


def _text(text: str) -> ColumnElement[str]:
    return literal_column(f"'{text}'", Text)


def change_twins(t: Tables, *, replaces: bool) -> Statement:
    """Gives waiting tasks the due time, and with ``replaces`` also payload and options, of the rows they kept out.

    The fence is that of ``outcomes``: arrays that are sorted by id. What was claimed since it was read stays as it is.
    Without a due time of its own an insert is due now, and a task that is due already keeps its place, but expires so
    long after now; one that has run before waits at least until its next run.
    """
    task = aliased(t.tasks, "t")
    c = task.c
    place = func.width_bucket(c.id, IDS, type_=Integer)

    def of_row(name: str, type_: Any) -> ColumnElement[Any]:
        return Grouping(bindparam(name, type_=ARRAY(type_)))[place]

    asked = due_of_insert()
    is_given = or_(SET_BY_HAND.is_not(None), DELAY.is_not(None))
    wanted = case((is_given, asked), else_=func.least(c.scheduled_at, asked))
    due = case((c.attempt > literal_column("0"), func.greatest(c.scheduled_at, wanted)), else_=wanted)
    values: dict[str, Any] = {
        "scheduled_at": due,
        "expires_at": expiry(func.greatest(due, asked), of_row("p_expires", Double)),
        "updated_at": func.clock_timestamp(),  # not now(): it tells two changes in one transaction apart
    }
    if replaces:
        values["metadata"] = cast(of_row("p_metadata", Text), JSONB)
        for name in COLUMNS:
            type_ = t.tasks.c[name].type
            is_json = isinstance(type_, JSONB)
            values[name] = cast(of_row(f"p_{name}", Text), JSONB) if is_json else of_row(f"p_{name}", type_)
        values["lane"] = lane_of(t, of_row("p_lanes", Text), values["task_type"])
    changed = (
        update(task)
        .where(
            c.id == any_(_locked(t)),
            Grouping(IDS)[place] == c.id,
            Grouping(ATTEMPTS)[place] == c.attempt,
            cast(c.state, Text).in_(state_literals(DUE_STATES)),
        )
        .values(values)
        .returning(*task_columns(t, c))
        .cte("changed")
    )
    told = select(changed, waking(t, changed, passed_at=due_time(changed.c))).select_from(changed)
    return Statement("replace_twins" if replaces else "postpone_twins", told)


def _locked(t: Tables) -> ColumnElement[Any]:
    """Returns the given ids after locking their rows in this order. The update itself may go by the places of the rows
    instead, which differ from snapshot to snapshot when other sessions update them: two bulks would wait for each
    other."""
    locked = aliased(t.tasks, "locked")
    ids = select(locked.c.id).where(locked.c.id == any_(_given(IDS))).order_by(locked.c.id)
    return array_of(ids.with_for_update(key_share=True))


def _given(ids: Any) -> ColumnElement[Any]:
    return array_of(select(func.unnest(ids)))
