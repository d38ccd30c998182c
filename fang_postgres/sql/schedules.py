"""Schedules."""

from typing import Any, Final

from sqlalchemy import (
    Boolean,
    DateTime,
    Select,
    Text,
    all_,
    any_,
    bindparam,
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
from fang_postgres.sql.fragments import array_of, new_row, told_of_new_rows, waking
from fang_postgres.statement import Statement

_ONE: Final[Select[Any]] = select(literal_column("1"))


def sight(t: Tables) -> Statement:
    """The last ticks; a schedule that nobody has seen begins now. One that another is just adding may be missing."""
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
    known = select(c.name, c.last_tick).where(c.name == any_(array_of(select(func.unnest(names)))))
    rows = known.union_all(select(first_seen.c.name, first_seen.c.last_tick)).subquery("sighted")
    one = select(literal_column("1").label("one")).subquery("one")
    head = select(func.clock_timestamp(type_=DateTime(timezone=True)).label("now"), rows)
    return Statement("sight", head.select_from(one.outerjoin(rows, true())))


def tick(t: Tables) -> Statement:
    """Raises a schedule's last tick and inserts the tick's task, each tick once. Always one row comes back.

    A tick whose time has come is raised first, and its task inserted by whoever raised it: it may have run already. A
    unique twin leaves it out. One that lies ahead is inserted first: its task cannot have run, and its id admits it
    once. Where a unique twin keeps it out it is not raised, since the twin may have ended by then.

    One that was done is not done again, unless it is ``p_by_hand`` and lies ahead: its task may have been removed.
    (Without that it may also have run, before the clock was set back.)
    """
    s, c = t.schedules.c, t.tasks.c
    name = bindparam("p_name", type_=Text)
    at = bindparam("p_at", type_=DateTime(timezone=True))
    # One reading of the clock for all of it.
    moment = select((at > func.clock_timestamp()).label("is_ahead")).cte("moment")
    values = new_row()

    def inserting(name: str, *where: ColumnElement[bool]) -> Any:
        row = select(*values.values(), at).select_from(moment).where(*where)
        insertion = insert(t.tasks).from_select([*values, "scheduled_at"], row).on_conflict_do_nothing()
        return insertion.returning(*told_of_new_rows(t)).cte(name)

    was_done = exists(_ONE.where(s.name == name, s.last_tick >= at))
    ahead = inserting("ahead", moment.c.is_ahead, or_(bindparam("p_by_hand", type_=Boolean), not_(was_done)))
    is_there = exists(_ONE.where(c.id == values["id"]))
    may_raise = or_(not_(moment.c.is_ahead), exists(_ONE.select_from(ahead)), is_there)
    row = select(name, at).select_from(moment).where(may_raise)
    raising = insert(t.schedules).from_select(["name", "last_tick"], row)
    raised = (
        raising.on_conflict_do_update(
            index_elements=[s.name],
            set_={"last_tick": raising.excluded.last_tick},
            where=s.last_tick < raising.excluded.last_tick,
        )
        .returning(s.name)
        .cte("raised")
    )
    was_raised = exists(_ONE.select_from(raised))
    due = inserting("due", not_(moment.c.is_ahead), was_raised)
    inserted = select(ahead).union_all(select(due)).cte("inserted")
    one = select(was_raised.label("raised")).subquery("one")
    head = select(one.c.raised, inserted.c.scheduled_at, inserted.c.created_at, waking(t, inserted))
    return Statement("tick", head.select_from(one.outerjoin(inserted, true())))
