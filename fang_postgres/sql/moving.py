"""Builds the statements that read and write whole tasks, for those that move from one queue to another."""

from typing import Any, Final

from sqlalchemy import DateTime, Text, any_, bindparam, case, cast, column, delete, func, literal_column, select, update
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import ARRAY, ENUM, JSONB
from sqlalchemy.sql.elements import ColumnElement

from fang_postgres.schema import Tables
from fang_postgres.shapes import PUT
from fang_postgres.sql.fragments import (
    ATTEMPTS,
    IDS,
    aliased,
    array_of,
    lane_of,
    task_columns,
    waking,
)
from fang_postgres.statement import Statement

_MOMENT: Final = DateTime(timezone=True)


def read_whole(t: Tables) -> Statement:
    """Reads tasks by their ids; after their columns, what keeps equal ones out."""
    c, u = t.tasks.c, t.uniques.c
    is_for_ever = u.until == literal_column("'infinity'")
    period = [u.hash, u.inserted_at, case((is_for_ever, None), else_=u.until).label("until")]
    found = select(*task_columns(t), c.uniq_waiting, *period).outerjoin_from(t.tasks, t.uniques, u.task_id == c.id)
    return Statement("read_whole", found.where(c.id == any_(array_of(select(func.unnest(IDS))))).order_by(c.id))


def exchange(t: Tables) -> Statement:
    """Writes type, due time and headers of rows that have not changed since they were read; returns their ids."""
    task = aliased(t.tasks, "t")
    c = task.c
    lists: dict[str, Any] = {
        "id": IDS,
        "state": bindparam("p_states", type_=ARRAY(Text)),
        "attempt": ATTEMPTS,
        "updated_at": bindparam("p_updated_at", type_=ARRAY(_MOMENT)),
        "task_type": bindparam("p_task_types", type_=ARRAY(Text)),
        "due": bindparam("p_due", type_=ARRAY(_MOMENT)),
        "headers": bindparam("p_headers", type_=ARRAY(Text)),
    }
    given = func.unnest(*lists.values()).table_valued(*lists).render_derived(name="given")
    changed = (
        update(task)
        .where(
            c.id == given.c.id,
            cast(c.state, Text) == given.c.state,
            c.attempt == given.c.attempt,
            c.updated_at == given.c.updated_at,
        )
        .values(
            task_type=given.c.task_type,
            scheduled_at=given.c.due,
            headers=cast(given.c.headers, JSONB),
            lane=lane_of(t, c.lane, given.c.task_type),
            updated_at=func.clock_timestamp(),
        )
        .returning(c.id, c.task_type, c.priority, c.scheduled_at, c.kind)
        .cte("changed")
    )
    return Statement("exchange", select(changed.c.id, waking(t, changed)).select_from(changed))


def put(t: Tables) -> Statement:
    """Inserts rows as they are, unless their id or hash exists already; returns the ids of the inserted ones."""
    c = t.tasks.c
    rows = func.jsonb_to_recordset(cast(bindparam("p_rows", type_=Text), JSONB))
    columns = (column(name, Text() if isinstance(c[name].type, ENUM) else c[name].type) for name in PUT)
    given = rows.table_valued(*columns).render_derived(name="given", with_types=True)
    values: list[ColumnElement[Any]] = [cast(given.c[name], c[name].type) for name in PUT]
    values[PUT.index("lane")] = lane_of(t, given.c.lane, given.c.task_type)
    inserted = (
        postgresql.insert(t.tasks)
        .from_select([*PUT, "updated_at"], select(*values, func.clock_timestamp()).select_from(given))
        .on_conflict_do_nothing()
        .returning(c.id, c.task_type, c.priority, c.scheduled_at, c.kind)
        .cte("inserted")
    )
    return Statement("put", select(inserted.c.id, waking(t, inserted)).select_from(inserted))


def end_old_periods(t: Tables) -> Statement:
    """Deletes periods of these hashes that are over."""
    u = t.uniques.c
    hashes = array_of(select(func.unnest(bindparam("p_hashes", type_=ARRAY(Text)))))
    return Statement(
        "end_old_periods", delete(t.uniques).where(u.hash == any_(hashes), u.until <= func.clock_timestamp())
    )


def put_periods(t: Tables) -> Statement:
    """Inserts the periods of tasks, except those of hashes that have one; returns the tasks of the inserted ones."""
    lists: dict[str, Any] = {
        "hash": bindparam("p_hashes", type_=ARRAY(Text)),
        "task_id": IDS,
        "inserted_at": bindparam("p_inserted_at", type_=ARRAY(_MOMENT)),
        "until": bindparam("p_until", type_=ARRAY(_MOMENT)),
    }
    given = func.unnest(*lists.values()).table_valued(*lists).render_derived(name="given")
    for_ever = cast(literal_column("'infinity'"), _MOMENT)
    rows = select(given.c.hash, given.c.task_id, given.c.inserted_at, func.coalesce(given.c.until, for_ever))
    begun = postgresql.insert(t.uniques).from_select(["hash", "task_id", "inserted_at", "until"], rows)
    return Statement("put_periods", begun.on_conflict_do_nothing().returning(t.uniques.c.task_id))
