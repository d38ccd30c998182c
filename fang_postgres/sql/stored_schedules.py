"""Builds the statements for schedules that live in the database, and their ticks."""

from typing import Any, Final

from sqlalchemy import (
    Boolean,
    DateTime,
    Interval,
    Select,
    Text,
    and_,
    any_,
    bindparam,
    case,
    cast,
    delete,
    exists,
    false,
    func,
    literal_column,
    not_,
    null,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, aggregate_order_by, insert
from sqlalchemy.sql.elements import ColumnElement

from fang_core.backends.waking import SCHEDULES
from fang_core.record import TaskState
from fang_core.schedules.stored import STORED
from fang_postgres.schema import Tables
from fang_postgres.sql.fragments import (
    array_of,
    microseconds,
    telling,
    within,
)
from fang_postgres.statement import Statement

_ONE: Final[Select[Any]] = select(literal_column("1"))
ALL_POOLS: Final[ColumnElement[str]] = literal_column(f"'{SCHEDULES}'")
"""Whom ``telling`` tells that schedules have changed."""


NAME: Final = bindparam("p_name", type_=Text)
CLOCK: Final[ColumnElement[Any]] = func.clock_timestamp(type_=DateTime(timezone=True))
_MICROSECOND: Final[ColumnElement[Any]] = literal_column("'1 us'::interval")


def schedule_columns(c: Any) -> list[ColumnElement[Any]]:
    """Returns the fields of ``ScheduleInfo``, in its order, as ``operations.schedules`` reads them."""
    return [_readable(c[name]) for name in STORED]


def _readable(column: Any) -> ColumnElement[Any]:
    if isinstance(column.type, JSONB):
        return cast(column, Text).label(column.name)
    return within(column) if isinstance(column.type, DateTime | Interval) else column


def declare_schedules(t: Tables) -> Statement:
    """Writes what classes say of their schedules; one that is new begins now. With ``p_again`` it writes only where
    nothing is declared.

    It locks no row that says so already: pools declare again and again, and another transaction may hold the row.
    """
    s, there = t.schedules.c, t.schedules.alias("there")
    lists = {name: bindparam(f"p_{name}", type_=ARRAY(Text)) for name in ("names", "declared")}
    row = func.unnest(*lists.values()).table_valued("name", "declared").render_derived(name="class")
    declared = cast(row.c.declared, JSONB)
    again = bindparam("p_again", type_=Boolean)
    stays = or_(there.c.declared == declared, and_(again, there.c.declared.is_not(None)))
    is_said = exists(_ONE.select_from(there).where(there.c.name == row.c.name, stays))
    news = select(row.c.name, func.now(), declared).where(not_(is_said)).order_by(row.c.name)
    declaring = insert(t.schedules).from_select(["name", "last_tick", "declared"], news)
    return Statement(
        "declare_schedules",
        declaring.on_conflict_do_update(
            index_elements=[s.name],
            set_={"declared": declaring.excluded.declared},
            where=case((again, s.declared.is_(None)), else_=s.declared.is_distinct_from(declaring.excluded.declared)),
        ),
    )


def drop_schedules(t: Tables) -> Statement:
    """Writes that these classes have no schedule any more."""
    s = t.schedules.c
    names = select(func.unnest(bindparam("p_names", type_=ARRAY(Text))))
    dropped = update(t.schedules).where(s.name == any_(array_of(names)), s.declared.is_not(None))
    return Statement("drop_schedules", dropped.values(declared=null()))


def read_stored(t: Tables) -> Statement:
    """Reads the schedules in the database that a pool makes the ticks of, and those of its classes that were changed.

    It returns the rows only if their version is not ``p_known``.
    """
    s = t.schedules.c
    types = array_of(select(func.unnest(bindparam("p_task_types", type_=ARRAY(Text)))))
    names = array_of(select(func.unnest(bindparam("p_names", type_=ARRAY(Text)))))
    is_stored = and_(s.kind.is_not(None), s.task_type == any_(types))
    is_changed = and_(s.changed_at.is_not(None), s.name == any_(names))
    wanted = select(*schedule_columns(s)).where(or_(is_stored, is_changed)).cte("wanted").prefix_with("MATERIALIZED")
    w = wanted.c
    each = func.concat_ws(literal_column("' '"), microseconds(w.changed_at), w.name)
    all_of_them = func.string_agg(each, aggregate_order_by(literal_column("E'\\n'"), w.name))
    digest: ColumnElement[str] = func.md5(func.coalesce(all_of_them, literal_column("''")), type_=Text)
    version = select(digest.label("version")).cte("version")
    is_news = version.c.version != bindparam("p_known", type_=Text)
    head = select(CLOCK.label("now"), version.c.version, wanted)
    return Statement("read_stored", head.select_from(version.outerjoin(wanted, is_news)))


def list_schedules(t: Tables) -> Statement:
    """Reads all schedules, or that of ``p_name``; without those of classes of which nothing is known but a tick."""
    s = t.schedules.c
    is_named = or_(NAME.is_(None), s.name == NAME)
    found = select(*schedule_columns(s)).where(is_named, _is_listed(s)).subquery("found")
    one = select(CLOCK.label("now")).subquery("one")
    rows = select(one.c.now, found).select_from(one.outerjoin(found, true()))
    return Statement("list_schedules", rows.order_by(found.c.name))


def _is_listed(s: Any) -> ColumnElement[bool]:
    """Returns whether there is more to say of a schedule than when it has ticked; see ``scheduling.is_listed``."""
    return or_(s.kind.is_not(None), s.declared.is_not(None), s.paused)


_TIMING: Final = ("cron", "every", "at", "until")
_OF_SPEC: Final = (*_TIMING, "tz", "overlap", "missed", "missed_within", "jitter", "pause_on_failure")
_OF_TASK: Final = ("kind", "task_type", "metadata", "options")


def put_schedule(t: Tables) -> Statement:
    """Stores a schedule and the task of its ticks. Returns no row if the same is stored already.

    If the times of its ticks change, it begins now: then none of them was missed.
    """
    s = t.schedules.c
    given: dict[str, Any] = {name: _given(s[name]) for name in (*_OF_TASK, *_OF_SPEC)}
    # To psycopg each place of a parameter is one of its own, and IS NOT NULL does not say of which type it is.
    anchor = cast(bindparam("p_anchor", type_=DateTime(timezone=True)), DateTime(timezone=True))
    every = cast(bindparam("p_every", type_=Interval), Interval)
    whole: ColumnElement[Any] = func.date_trunc(literal_column("'second'"), CLOCK, type_=DateTime(timezone=True))
    putting = insert(t.schedules).values(
        name=NAME,
        last_tick=CLOCK,
        anchor=case((every.is_not(None), func.coalesce(anchor, whole))),
        changed_at=CLOCK,
        **given,
        **_who(),
    )
    new = putting.excluded
    is_moved = and_(anchor.is_not(None), s.anchor.is_distinct_from(anchor))
    # The zone of other schedules only decides how their ticks are shown.
    has_other_zone = and_(new.cron.is_not(None), s.tz.is_distinct_from(new.tz))
    is_other = [s[name].is_distinct_from(new[name]) for name in _TIMING]
    begins_anew = or_(s.kind.is_(None), *is_other, has_other_zone, is_moved)
    others = [s[name].is_distinct_from(new[name]) for name in given if name not in _TIMING]
    kept_anchor = case((s.every == new.every, s.anchor))
    put = putting.on_conflict_do_update(
        index_elements=[s.name],
        set_={
            **{name: new[name] for name in given},
            "last_tick": case((begins_anew, func.greatest(s.last_tick, new.last_tick)), else_=s.last_tick),
            "anchor": case((new.every.is_not(None), func.coalesce(anchor, kept_anchor, new.anchor))),
            **changed(s),
        },
        where=or_(begins_anew, *others),
    ).returning(*schedule_columns(s), telling(t, ALL_POOLS))
    return Statement("put_schedule", put)


def _given(column: Any) -> ColumnElement[Any]:
    if isinstance(column.type, JSONB):
        return cast(bindparam(f"p_{column.name}", type_=Text), JSONB)
    return bindparam(f"p_{column.name}", type_=column.type)


def _who() -> dict[str, ColumnElement[Any]]:
    return {"changed_by": bindparam("p_by", type_=Text), "change_reason": bindparam("p_reason", type_=Text)}


def changed(s: Any) -> dict[str, ColumnElement[Any]]:
    """Returns who changes a schedule, why, and when: always another time than before, since pools compare it."""
    return {"changed_at": func.greatest(CLOCK, s.changed_at + _MICROSECOND), **_who()}


_NO_PAUSE: Final = {name: null() for name in ("paused_until", "paused_at", "paused_by", "pause_reason")}


def pause_schedule(t: Tables) -> Statement:
    """Pauses a schedule, until a time or for so long if that is given.

    Returns no row if there is none of this name, or that time has passed.
    """
    s = t.schedules.c
    until = bindparam("p_until", type_=DateTime(timezone=True))
    pause = {
        "paused": true(),
        "paused_until": func.coalesce(until, CLOCK + bindparam("p_lasts", type_=Interval)),
        "paused_at": CLOCK,
        "paused_by": bindparam("p_by", type_=Text),
        "pause_reason": bindparam("p_reason", type_=Text),
    }
    is_ahead = func.coalesce(until > CLOCK, true())
    paused = update(t.schedules).where(s.name == NAME, _is_listed(s), is_ahead).values(**pause, **changed(s))
    return Statement("pause_schedule", paused.returning(*schedule_columns(s), telling(t, ALL_POOLS)))


def resume_schedule(t: Tables) -> Statement:
    """Ends a pause; the ticks that fell into it are not made up for. Returns no row if there is nothing to resume.

    If the task of the last tick has failed, it is forgotten: the schedule would pause again.
    """
    s = t.schedules.c
    ended = func.least(CLOCK, s.paused_until - _MICROSECOND)
    values = {
        "last_tick": func.greatest(s.last_tick, ended),
        "last_task_id": case((last_state(t).is_distinct_from(literal(TaskState.FAILED)), s.last_task_id)),
        "paused": false(),
        **_NO_PAUSE,
        **changed(s),
    }
    resumed = update(t.schedules).where(s.name == NAME, s.paused).values(**values)
    return Statement("resume_schedule", resumed.returning(*schedule_columns(s), telling(t, ALL_POOLS)))


def remove_schedule(t: Tables) -> Statement:
    """Removes a schedule; or forgets what people have done to one that a class declares. Counts it."""
    s = t.schedules.c
    is_of_class = and_(s.declared.is_not(None), or_(s.kind.is_not(None), s.changed_at.is_not(None)))
    gone = delete(t.schedules).where(s.name == NAME, not_(is_of_class)).returning(s.name).cte("gone")
    kept = {"name", "last_tick", "declared", *_NO_PAUSE, "paused", "overlap", "missed", "pause_on_failure"}
    values = {
        **{name: null() for name in STORED if name not in kept},
        **{name: literal_column(f"'{value}'") for name, value in (("overlap", "allow"), ("missed", "latest"))},
        **{name: false() for name in ("paused", "pause_on_failure")},
        **_NO_PAUSE,
        "last_tick": func.greatest(s.last_tick, CLOCK),
    }
    given_back = update(t.schedules).where(s.name == NAME, is_of_class).values(**values).returning(s.name)
    removed = select(gone.c.name).union_all(select(given_back.cte("given_back").c.name)).subquery("removed")
    told = func.count(telling(t, ALL_POOLS)).label("told")
    return Statement("remove_schedule", select(func.count().label("count"), told).select_from(removed))


def hold_schedule(t: Tables) -> Statement:
    """Locks a schedule's row, if it has neither changed nor ticked since it was read, and raises its last tick to
    ``p_at``, unless that is null."""
    s = t.schedules.c
    at, last_tick = (bindparam(name, type_=DateTime(timezone=True)) for name in ("p_at", "p_last_tick"))
    held = update(t.schedules).where(s.name == NAME, is_as_read(s), within(s.last_tick) == last_tick)
    return Statement("hold_schedule", held.values(last_tick=func.greatest(s.last_tick, at)).returning(s.name))


def is_as_read(s: Any) -> ColumnElement[bool]:
    """Returns whether the schedule is unchanged since its pool has read it."""
    return within(s.changed_at).is_not_distinct_from(bindparam("p_changed_at", type_=DateTime(timezone=True)))


def last_state(t: Tables) -> ColumnElement[Any]:
    """Returns the state of the task of a schedule's last tick, as text, so that no index of states is taken."""
    c, s = t.tasks.c, t.schedules.c
    state = select(cast(c.state, Text)).where(c.id == s.last_task_id)
    return state.correlate(t.schedules).scalar_subquery()


def literal(word: str) -> ColumnElement[str]:
    """Returns a word of ours as a literal of SQL."""
    return literal_column(f"'{word}'", Text)
