"""Schedules."""

from sqlalchemy import (
    DateTime,
    Text,
    all_,
    any_,
    bindparam,
    exists,
    func,
    literal_column,
    or_,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import ARRAY, insert

from fang_postgres.schema import Tables
from fang_postgres.sql.fragments import array_of, new_row, told_of_new_rows, waking
from fang_postgres.statement import Statement


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
    head = select(func.clock_timestamp().label("now"), rows)
    return Statement("sight", head.select_from(one.outerjoin(rows, true())))


def tick(t: Tables) -> Statement:
    """Raises a schedule's last tick and inserts the tick's task, or does neither.

    Also where the tick was raised before but still lies ahead: its task cannot have run, and its id admits it once.
    Always one row comes back.
    """
    s, at = t.schedules, bindparam("p_at", type_=DateTime(timezone=True))
    raising = insert(s).values({"name": bindparam("p_name", type_=Text), "last_tick": at})
    raised = (
        raising.on_conflict_do_update(
            index_elements=[s.c.name],
            set_={"last_tick": raising.excluded.last_tick},
            where=s.c.last_tick < raising.excluded.last_tick,
        )
        .returning(s.c.name)
        .cte("raised")
    )
    was_raised = exists(select(literal_column("1")).select_from(raised))
    values = new_row()
    inserted = (
        insert(t.tasks)
        .from_select(
            [*values, "scheduled_at"],
            select(*values.values(), at).where(or_(was_raised, at > func.clock_timestamp())),
        )
        .on_conflict_do_nothing()
        .returning(*told_of_new_rows(t))
        .cte("inserted")
    )
    one = select(was_raised.label("raised")).subquery("one")
    head = select(one.c.raised, inserted.c.scheduled_at, inserted.c.created_at, waking(t, inserted))
    return Statement("tick", head.select_from(one.outerjoin(inserted, true())))
