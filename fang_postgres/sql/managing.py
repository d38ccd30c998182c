"""Builds the statements that read and change which task types are paused, or have limits, rates or fairness."""

from typing import Any, Final

from sqlalchemy import (
    Boolean,
    DateTime,
    Double,
    Integer,
    Interval,
    SmallInteger,
    Text,
    and_,
    any_,
    bindparam,
    case,
    cast,
    column,
    delete,
    exists,
    false,
    func,
    literal_column,
    not_,
    null,
    or_,
    select,
    table,
    true,
    tuple_,
    update,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, UUID
from sqlalchemy.sql.elements import ColumnElement

from fang_core.flow.info import MOST_COUNTED
from fang_core.lifecycle import DUE_STATES
from fang_postgres.schema import Tables
from fang_postgres.sql.fragments import aliased, array_of, state_literals, telling_type, within
from fang_postgres.statement import Statement

LIMITS: Final = (
    *("max_running", "max_running_per_key", "rate_interval", "rate_burst", "key_rate_interval", "key_rate_burst"),
    *("fair", "weights"),
)
"""The columns of what holds for a type."""

_TYPE = bindparam("p_task_type", type_=Text)
_BY = bindparam("p_by", type_=Text)
_REASON = bindparam("p_reason", type_=Text)
_NOW: Any = func.clock_timestamp()
_NOTHING: Any = literal_column("'{}'::jsonb")


def is_paused(c: Any) -> ColumnElement[bool]:
    """Returns whether a pause of the type goes on."""
    return and_(c.paused, func.coalesce(c.paused_until > _NOW, true()))


def list_types(t: Tables) -> Statement:
    """Reads managed types, all or those of ``p_task_types``; with ``p_counts`` how many tasks run and wait."""
    c, running, waiting = t.types.c, aliased(t.tasks, "r"), aliased(t.tasks, "w")
    wanted = bindparam("p_task_types", type_=ARRAY(Text))
    count_of_running = select(func.count()).where(
        running.c.task_type == c.task_type, running.c.state == literal_column("'in_progress'")
    )
    some_waiting = (
        select(literal_column("1"))
        .where(waiting.c.task_type == c.task_type, waiting.c.state.in_(state_literals(DUE_STATES)))
        .limit(literal_column(str(MOST_COUNTED)))
        .correlate(t.types)
        .subquery("some_waiting")
    )
    counts = bindparam("p_counts", type_=Boolean)
    count_of_waiting = select(func.count()).select_from(some_waiting)
    return Statement(
        "list_types",
        select(
            *type_columns(c),
            case((counts, count_of_running.scalar_subquery()), else_=literal_column("0")).label("running"),
            case((counts, count_of_waiting.scalar_subquery()), else_=literal_column("0")).label("waiting"),
        )
        .where(or_(wanted.is_(None), c.task_type == any_(array_of(select(func.unnest(wanted))))))
        .order_by(c.task_type),
    )


def type_columns(c: Any) -> list[ColumnElement[Any]]:
    """Returns what there is to read of a type, as ``operations.managing.as_type`` reads it."""
    texts = ("weights", "declared", "changed")
    limits = [
        cast(c[name], Text).label(name) if name in texts else within(c[name]) if name.endswith("_interval") else c[name]
        for name in LIMITS
    ]
    return [
        c.task_type,
        is_paused(c).label("is_paused"),
        *(within(c[name]) for name in ("paused_until", "paused_at")),
        c.paused_by,
        c.pause_reason,
        within(c.settling_until),
        *limits,
        cast(c.declared, Text).label("declared"),
        cast(c.changed, Text).label("changed"),
        within(c.changed_at),
        c.changed_by,
        c.change_reason,
    ]


def pause_type(t: Tables) -> Statement:
    """Pauses a type, until a time or for so long if that is given. Returns no row if that time has passed."""
    until = bindparam("p_until", type_=DateTime(timezone=True))
    values: dict[str, Any] = {
        "paused": true(),
        "paused_until": func.coalesce(until, _NOW + bindparam("p_lasts", type_=Interval)),
        "paused_at": _NOW,
        "paused_by": _BY,
        "pause_reason": _REASON,
    }
    row = select(_TYPE, *values.values()).where(func.coalesce(until > _NOW, true()))
    pausing = postgresql.insert(t.types).from_select(["task_type", *values], row)
    updating = pausing.on_conflict_do_update(index_elements=[t.types.c.task_type], set_=values)
    return Statement("pause_type", updating.returning(t.types.c.task_type))


def resume_type(t: Tables) -> Statement:
    """Ends the pause of a type, and has its pools look for tasks."""
    c = t.types.c
    resumed = (
        update(t.types)
        .where(c.task_type == _TYPE, c.paused)
        .values(paused=false(), paused_until=null(), paused_at=null(), paused_by=null(), pause_reason=null())
        .returning(c.task_type)
        .cte("resumed")
    )
    return Statement("resume_type", select(telling_type(t, resumed.c.task_type)).select_from(resumed))


def settle_type(t: Tables) -> Statement:
    """Has no task of a type start for ``p_lasts`` from now; returns until when.

    If none starts for ``p_enough`` as it is, that stays: several pools may settle a type at once.
    """
    c = t.types.c
    until = _NOW + bindparam("p_lasts", type_=Interval)
    settling = postgresql.insert(t.types).values(task_type=_TYPE, settling_until=until)
    goes_on = case((c.settling_until > _NOW + bindparam("p_enough", type_=Interval), c.settling_until), else_=until)
    return Statement(
        "settle_type",
        settling.on_conflict_do_update(index_elements=[c.task_type], set_={"settling_until": goes_on}).returning(
            c.settling_until
        ),
    )


_SESSIONS: Final = table(
    "pg_stat_activity",
    *(
        column(name)
        for name in ("pid", "datname", "backend_type", "state", "xact_start", "backend_xid", "backend_xmin")
    ),
    schema="pg_catalog",
)


def older_statements(t: Tables) -> Statement:
    """Counts the other sessions in a transaction from before ``p_since`` that uses a snapshot or has written, and
    sessions whose state is hidden: those of other roles, unless this role may read all statistics.

    A statement that commits by itself gives up its snapshot before its rows are seen: it has an id until then.
    """
    c = _SESSIONS.c
    since = bindparam("p_since", type_=DateTime(timezone=True))
    is_hidden = c.state.is_(None)
    is_older = and_(func.num_nonnulls(c.backend_xmin, c.backend_xid) > literal_column("0"), c.xact_start < since)
    counts = [func.count().filter(condition) for condition in (is_older, is_hidden)]
    return Statement(
        "older_statements",
        select(counts[0].label("older"), counts[1].label("hidden")).where(
            c.datname == func.current_database(),
            func.coalesce(c.backend_type, literal_column("'client backend'")) == literal_column("'client backend'"),
            c.pid != func.pg_backend_pid(),
        ),
    )


def nap(t: Tables) -> Statement:
    """Waits for this many seconds."""
    return Statement("nap", select(cast(func.pg_sleep(bindparam("p_seconds", type_=Double)), Text).label("slept")))


def write_limits(t: Tables) -> Statement:
    """Writes what holds for a type, with what it is decided by, and has the type's pools look for tasks.

    It returns true; false, having written nothing, if the row is no longer as it was read, or if ``p_settled`` and its
    settling is over.
    """
    c = t.types.c
    was_there, settled, is_change = (
        bindparam(name, type_=Boolean) for name in ("p_was_there", "p_settled", "p_is_change")
    )
    has_changed = cast(bindparam("p_changed", type_=Text), JSONB).is_not(None)

    def remarked(name: str, value: Any) -> ColumnElement[Any]:
        return case((not_(is_change), c[name]), (has_changed, value))

    new: dict[str, Any] = {name: _written(t, name) for name in (*LIMITS, "declared", "changed")}
    first = {"changed_at": _NOW, "changed_by": _BY, "change_reason": _REASON}
    since_then = {name: remarked(name, value) for name, value in first.items()}
    written_first = {name: case((has_changed, value)) for name, value in first.items()}
    names = ["task_type", *new, *first]
    row = select(_TYPE.label("task_type"), *(value.label(name) for name, value in (new | written_first).items()))
    inserted = (
        postgresql.insert(t.types)
        .from_select(names, row.where(not_(was_there)))
        .on_conflict_do_nothing()
        .returning(c.task_type)
        .cte("inserted")
    )
    unchanged = (
        c.declared == cast(bindparam("p_was_declared", type_=Text), JSONB),
        c.changed.is_not_distinct_from(cast(bindparam("p_was_changed", type_=Text), JSONB)),
        c.settling_until.is_not_distinct_from(bindparam("p_was_settling", type_=DateTime(timezone=True))),
        or_(not_(settled), c.settling_until > _NOW),
    )
    updated = (
        update(t.types)
        .where(was_there, c.task_type == _TYPE, *unchanged)
        .values(new | since_then | {"settling_until": case((not_(settled), c.settling_until))})
        .returning(c.task_type)
        .cte("updated")
    )
    written = select(inserted.c.task_type).union_all(select(updated.c.task_type)).cte("written")
    turn = (
        postgresql.insert(t.turns)
        .from_select(
            ["task_type"],
            select(written.c.task_type).where(bindparam("p_rate_interval", type_=Interval).is_not(None)),
        )
        .on_conflict_do_nothing()
        .returning(t.turns.c.task_type)
        .cte("turn")
    )
    return Statement(
        "write_limits",
        select(
            exists(select(literal_column("1")).select_from(written)).label("written"),
            select(func.count(telling_type(t, written.c.task_type))).scalar_subquery().label("told"),
            select(func.count()).select_from(turn).scalar_subquery().label("turns"),
        ),
    )


def _written(t: Tables, name: str) -> ColumnElement[Any]:
    type_ = t.types.c[name].type
    if isinstance(type_, JSONB):
        return cast(bindparam(f"p_{name}", type_=Text), JSONB)
    return cast(bindparam(f"p_{name}", type_=type_), type_)


def drop_type(t: Tables) -> Statement:
    """Removes the row of a type of which nothing is left to say, so that the type is like any other again."""
    c = t.types.c
    is_settling = func.coalesce(c.settling_until > _NOW, false())
    is_empty = (c.declared == _NOTHING, c.changed.is_(None), not_(is_paused(c)), not_(is_settling))
    gone = delete(t.types).where(c.task_type == _TYPE, *is_empty).returning(c.task_type)
    return Statement("drop_type", gone)


def adopt_running(t: Tables) -> Statement:
    """Gives a lane to the tasks of a type that are in progress without one, so that they are counted."""
    c = t.tasks.c
    adopted = (
        update(t.tasks)
        .where(c.task_type == _TYPE, c.state == literal_column("'in_progress'"), c.lane.is_(None))
        .values(lane=literal_column("''"))
        .returning(c.id)
        .cte("adopted")
    )
    return Statement("adopt_running", select(func.count().label("count")).select_from(adopted))


_KEY = ("priority", "scheduled_at", "id")


def adopt_waiting(t: Tables) -> Statement:
    """Does the same with waiting tasks, among the next ``p_limit`` rows of the type after a place in the index of due
    rows, and makes the type's pools look for them.

    It returns how many, and the place that it reached; nulls if no row is left.
    """
    task, looked = aliased(t.tasks, "t"), aliased(t.tasks, "looked")
    limit = select(bindparam("p_limit", type_=Integer)).scalar_subquery()
    place = tuple_(
        cast(bindparam("p_after_priority", type_=SmallInteger), SmallInteger),
        bindparam("p_after_at", type_=DateTime(timezone=True)),
        bindparam("p_after_id", type_=UUID),
    )
    key = [looked.c[name] for name in _KEY]
    seen = (
        select(*key, looked.c.lane.is_(None).label("wanted"))
        .where(
            looked.c.task_type == _TYPE,
            looked.c.state.in_(state_literals(DUE_STATES)),
            tuple_(*key) > place,
        )
        .order_by(*key)
        .limit(limit)
        .cte("seen")
        .prefix_with("MATERIALIZED")
    )
    adopted = (
        update(task)
        .where(
            task.c.id == any_(array_of(select(seen.c.id).where(seen.c.wanted))),
            # As text: the index of due rows, which has the ids too, would be read as a whole.
            cast(task.c.state, Text).in_(state_literals(DUE_STATES)),
            task.c.lane.is_(None),
        )
        .values({task.c.lane: literal_column("''")})
        .returning(task.c.id)
        .cte("adopted")
    )
    some = select(_TYPE.label("task_type")).where(exists(select(adopted.c.id))).subquery("some")
    count = select(func.count()).select_from(adopted).scalar_subquery()
    told = select(func.count(telling_type(t, some.c.task_type))).scalar_subquery()
    counted = select(count.label("count"), told.label("told")).subquery("counted")
    is_full = select(func.count()).select_from(seen).scalar_subquery() == limit
    last = (
        select(*(seen.c[name] for name in _KEY))
        .where(is_full)
        .order_by(*(seen.c[name].desc() for name in _KEY))
        .limit(literal_column("1"))
        .subquery("last")
    )
    return Statement(
        "adopt_waiting",
        select(counted, *(last.c[name] for name in _KEY)).select_from(counted.outerjoin(last, true())),
    )


def tell_types(t: Tables) -> Statement:
    """Has the pools of some types look for tasks."""
    types = func.unnest(bindparam("p_task_types", type_=ARRAY(Text))).table_valued("task_type").render_derived("told")
    return Statement("tell_types", select(telling_type(t, types.c.task_type)))
