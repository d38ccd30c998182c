"""Builds the statements for schedules and their ticks."""

from typing import Any, Final

from sqlalchemy import (
    Boolean,
    DateTime,
    Select,
    Text,
    all_,
    and_,
    any_,
    bindparam,
    case,
    exists,
    func,
    literal_column,
    not_,
    or_,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.sql.elements import ColumnElement

from fang_postgres.schema import Tables
from fang_postgres.sql.fragments import (
    array_of,
    new_row,
    told_of_new_rows,
    waking,
    within,
)
from fang_postgres.statement import Statement

_ONE: Final[Select[Any]] = select(literal_column("1"))


def read_schedules(t: Tables) -> Statement:
    """Reads the last ticks. A schedule that no pool has seen begins now; one that another session is just adding may
    be missing."""
    c = t.schedules.c
    names = bindparam("p_names", type_=ARRAY(Text))
    name = func.unnest(names).column_valued("name")
    first_seen = (
        insert(t.schedules)
        .from_select(["name", "last_tick"], select(name, func.now()).where(name != all_(array_of(select(c.name)))))
        .on_conflict_do_nothing()
        .returning(c.name, c.last_tick)
        .cte("first_seen")
    )
    known = select(c.name, within(c.last_tick)).where(c.name == any_(array_of(select(func.unnest(names)))))
    rows = known.union_all(select(first_seen.c.name, first_seen.c.last_tick)).subquery("sighted")
    one = select(literal_column("1").label("one")).subquery("one")
    head = select(func.clock_timestamp(type_=DateTime(timezone=True)).label("now"), rows)
    return Statement("read_schedules", head.select_from(one.outerjoin(rows, true())))


def tick(t: Tables) -> Statement:
    """Raises a schedule's last tick and inserts the tick's task, each tick once. It always returns one row.

    A tick whose time has come is raised first, and its task is inserted only if this statement raised it, since it may
    have run already; a unique twin keeps the task out. For a tick that lies ahead the task is inserted first: it cannot
    have run, and its id admits it once. If a unique twin keeps it out, the tick is not raised, since the twin may have
    ended by then.

    It is for the schedule of a class: if a person has put another in its place, or the tick falls into a pause, it is
    not made, except by hand.

    A tick that was done is not repeated, unless it is ``p_by_hand`` and lies ahead: its task may have been removed.
    (Otherwise the task may also have run, before the clock was set back.)

    Unless it is made by hand, it waits for no lock on the schedule's row: a transaction of an application that has
    changed one schedule, and stays open, would hold up the ticks of all other schedules. Then ``raised`` is null.
    """
    s, c = t.schedules.c, t.tasks.c
    name = bindparam("p_name", type_=Text)
    at = bindparam("p_at", type_=DateTime(timezone=True))
    # One reading of the clock for all of it.
    moment = select((at > func.clock_timestamp()).label("is_ahead")).cte("moment")
    values = new_row(t, at)

    def inserting(name: str, *where: ColumnElement[bool]) -> Any:
        row = select(*values.values()).select_from(moment).where(*where)
        insertion = insert(t.tasks).from_select([*values], row).on_conflict_do_nothing()
        return insertion.returning(*told_of_new_rows(t), c.lane).cte(name)

    was_done = exists(_ONE.where(s.name == name, s.last_tick >= at))
    by_hand: ColumnElement[bool] = bindparam("p_by_hand", type_=Boolean)
    is_kept_out = exists(_ONE.where(s.name == name, not_(and_(s.kind.is_(None), not_(is_paused(s, at))))))
    ahead = inserting("ahead", moment.c.is_ahead, or_(by_hand, and_(not_(was_done), not_(is_kept_out))))
    is_there = exists(_ONE.where(c.id == values["id"]))
    may_raise = or_(not_(moment.c.is_ahead), exists(_ONE.select_from(ahead)), is_there)
    free = select(s.name).where(s.name == name).with_for_update(key_share=True, skip_locked=True).cte("free")
    is_new = not_(exists(_ONE.where(s.name == name)))
    is_free = or_(by_hand, is_new, exists(_ONE.select_from(free)))
    row = select(name, at).select_from(moment).where(may_raise, is_free)
    raising = insert(t.schedules).from_select(["name", "last_tick"], row)
    raised = (
        raising.on_conflict_do_update(
            index_elements=[s.name],
            set_={"last_tick": raising.excluded.last_tick},
            where=and_(
                s.last_tick < raising.excluded.last_tick,
                or_(by_hand, and_(s.kind.is_(None), not_(is_paused(s, at)))),
            ),
        )
        .returning(s.name)
        .cte("raised")
    )
    was_raised = exists(_ONE.select_from(raised))
    due = inserting("due", not_(moment.c.is_ahead), was_raised)
    inserted = select(ahead).union_all(select(due)).cte("inserted")
    one = select(case((is_free, was_raised)).label("raised")).subquery("one")
    new = (inserted.c[name] for name in ("scheduled_at", "created_at", "lane"))
    head = select(one.c.raised, *new, waking(t, inserted))
    return Statement("tick", head.select_from(one.outerjoin(inserted, true())))


def is_paused(s: Any, at: ColumnElement[Any]) -> ColumnElement[bool]:
    """Returns whether the tick of this time falls into a pause."""
    return and_(s.paused, or_(s.paused_until.is_(None), at < s.paused_until))
