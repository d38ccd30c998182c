"""Inserts, and who was there before them."""

from typing import Any

from sqlalchemy import (
    DateTime,
    Integer,
    Interval,
    SmallInteger,
    Text,
    any_,
    bindparam,
    cast,
    func,
    literal_column,
    not_,
    select,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, UUID
from sqlalchemy.sql.elements import ColumnElement

from fang_postgres.schema import Tables
from fang_postgres.sql.fragments import (
    array_of,
    has_ended,
    is_live_twin,
    new_row,
    task_columns,
    told_of_new_rows,
    waking,
    waking_of_one,
)
from fang_postgres.statement import Statement

_SET_BY_HAND = bindparam("p_scheduled_at", type_=DateTime(timezone=True))


def _due(now: ColumnElement[Any]) -> ColumnElement[Any]:
    delay = func.coalesce(bindparam("p_delay", type_=Interval), cast(literal_column("'0'"), Interval))
    return func.coalesce(_SET_BY_HAND, now + delay)


# clock_timestamp(), not now(): the caller's transaction may have begun long ago.
_DUE_OF_ONE = _due(func.clock_timestamp())
# One time for all rows of a bulk, whose order is that of their ids.
_DUE_OF_ALL = _due(select(func.clock_timestamp()).scalar_subquery())


def insert(t: Tables) -> Statement:
    """One row, unless its id or its unique hash is taken: then no row comes back, and nobody's row is locked.

    What wakes stands in its RETURNING: the lists and groups of ``waking`` cost 30 microseconds more, beside 180 of a
    plain INSERT whose commit waits for no disk.
    """
    c = t.tasks.c
    inserted = (
        postgresql.insert(t.tasks)
        .values({**new_row(), "scheduled_at": _DUE_OF_ONE})
        .on_conflict_do_nothing()
        .returning(c.scheduled_at, c.created_at, *waking_of_one(t, passed_at=_SET_BY_HAND))
    )
    return Statement("insert", inserted)


def insert_many(t: Tables) -> Statement:
    """Rows that cannot collide. One row comes back for all of them: what is left to tell is the same for each."""
    names, source = _new_rows(unique=False)
    inserted = postgresql.insert(t.tasks).from_select(names, source).returning(*told_of_new_rows(t)).cte("inserted")
    told = select(
        func.max(inserted.c.scheduled_at).label("scheduled_at"),
        func.max(inserted.c.created_at).label("created_at"),
        waking(t, inserted, passed_at=_SET_BY_HAND),
    )
    return Statement("insert_many", told.select_from(inserted))


def insert_unique(t: Tables) -> Statement:
    """Rows of which some may have a live twin; those that were inserted come back.

    They are to be given in the order of their hashes, so that two bulks wait for each other in one direction only.
    """
    names, source = _new_rows(unique=True)
    inserted = (
        postgresql.insert(t.tasks)
        .from_select(names, source)
        .on_conflict_do_nothing()
        .returning(t.tasks.c.id, *told_of_new_rows(t))
        .cte("inserted")
    )
    told = select(
        inserted.c.id, inserted.c.scheduled_at, inserted.c.created_at, waking(t, inserted, passed_at=_SET_BY_HAND)
    )
    return Statement("insert_unique", told.select_from(inserted))


def _new_rows(*, unique: bool) -> tuple[list[str], Any]:
    """The columns, and the rows that lists in parameters stand for.

    Most lists are one text, a line an item: psycopg escaped an array of JSON texts for longer than it took to insert
    them, and asyncpg has no array types to look up on each new connection. A task type may hold any character.
    """
    lists: dict[str, Any] = {
        "id": cast(_lines("p_ids"), ARRAY(UUID)),
        "metadata": _lines("p_metadata"),
        "task_type": bindparam("p_task_types", type_=ARRAY(Text)),
        "priority": cast(_lines("p_priorities"), ARRAY(SmallInteger)),
        "max_retries": cast(_lines("p_max_retries"), ARRAY(Integer)),
    }
    if unique:
        lists["uniq_hash"] = _lines("p_uniq_hashes")
    row = func.unnest(*lists.values()).table_valued(*lists).render_derived(name="new_task")
    values = [cast(row.c[name], JSONB) if name == "metadata" else row.c[name] for name in lists]
    return [*lists, "scheduled_at"], select(*values, _DUE_OF_ALL.label("due"))


def _lines(name: str) -> Any:
    """The items of ``operations._as_lines``."""
    line_feed: Any = literal_column("E'\\n'")
    return func.string_to_array(bindparam(name, type_=Text), line_feed, literal_column("''"), type_=ARRAY(Text))


def existing(t: Tables) -> Statement:
    """The row that kept another from being inserted: by its id, or by its unique hash; and whether it is the same."""
    c = t.tasks.c
    same = (c.metadata == cast(bindparam("p_metadata", type_=Text), JSONB)).label("same")
    by_id = select(*task_columns(t), same).where(c.id == bindparam("p_id", type_=UUID))
    by_hash = select(*task_columns(t), same).where(is_live_twin(c))
    return Statement("existing", by_id.union_all(by_hash))


def twins(t: Tables) -> Statement:
    """The live rows of these hashes."""
    c = t.tasks.c
    hashes = array_of(select(func.unnest(bindparam("p_uniq_hashes", type_=ARRAY(Text)))))
    return Statement("twins", select(*task_columns(t)).where(c.uniq_hash == any_(hashes), not_(has_ended(c))))
