"""Builds the inserts, and the statements that read the rows which kept an insert out."""

from typing import Any, Final

from sqlalchemy import (
    DateTime,
    Double,
    Interval,
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

from fang_core.tasks.options import COLUMNS
from fang_postgres.schema import Tables
from fang_postgres.shapes import TEXTS
from fang_postgres.sql.fragments import (
    array_of,
    expiry,
    has_ended,
    is_live_twin,
    known_types,
    lane_of,
    new_row,
    task_columns,
    told_of_new_rows,
    waking,
    waking_of_one,
)
from fang_postgres.statement import Statement

SET_BY_HAND: Final = bindparam("p_scheduled_at", type_=DateTime(timezone=True))
DELAY: Final = bindparam("p_delay", type_=Interval)


def due_of_insert() -> ColumnElement[Any]:
    """Returns the time at which new rows are due: one reading of the clock for all uses, and for all rows of a bulk,
    whose order is that of their ids.

    It is not now(), since the caller's transaction may have begun long ago.
    """
    delay = func.coalesce(DELAY, cast(literal_column("'0'"), Interval))
    due = func.coalesce(SET_BY_HAND, func.clock_timestamp() + delay)
    return select(select(due.label("due")).cte("moment").c.due).scalar_subquery()


def insert(t: Tables) -> Statement:
    """Inserts one row, unless its id or its unique hash is taken: then it returns no row, and locks none.

    Its RETURNING wakes pools: the lists and groups of ``waking`` would cost 30 microseconds more; a plain INSERT whose
    commit waits for no disk takes 180.
    """
    c = t.tasks.c
    inserted = (
        postgresql.insert(t.tasks)
        .values(new_row(t, due_of_insert()))
        .on_conflict_do_nothing()
        .returning(c.scheduled_at, c.created_at, c.lane, *waking_of_one(t, passed_at=SET_BY_HAND))
    )
    return Statement("insert", inserted)


def insert_many(t: Tables) -> Statement:
    """Inserts rows that cannot collide. Returns one row for all of them, since its columns are the same for each."""
    names, source = _new_rows(t)
    inserted = postgresql.insert(t.tasks).from_select(names, source).returning(*told_of_new_rows(t)).cte("inserted")
    told = select(
        func.max(inserted.c.scheduled_at).label("scheduled_at"),
        func.max(inserted.c.created_at).label("created_at"),
        known_types(t).label("managed"),
        func.count().label("written"),
        waking(t, inserted, passed_at=SET_BY_HAND),
    )
    return Statement("insert_many", told.select_from(inserted))


def insert_unique(t: Tables, name: str, *hashes: str) -> Statement:
    """Inserts rows of which some may have a live twin; returns the inserted ones. The hashes are columns.

    Pass them in the order of their hashes, so that two bulks wait for each other in one direction only.
    """
    names, source = _new_rows(t, *hashes)
    inserted = (
        postgresql.insert(t.tasks)
        .from_select(names, source)
        .on_conflict_do_nothing()
        .returning(t.tasks.c.id, t.tasks.c.lane, *told_of_new_rows(t))
        .cte("inserted")
    )
    told = select(
        *(inserted.c[name] for name in ("id", "scheduled_at", "created_at", "lane")),
        waking(t, inserted, passed_at=SET_BY_HAND),
    )
    return Statement(name, told.select_from(inserted))


def insert_past(t: Tables) -> Statement:
    """Inserts rows of which each has a due time of its own, and whose ids or hashes may be taken. Counts the new ones.

    Pass them in the order of their hashes, as those of ``insert_unique``.
    """
    names, source = _new_rows(t, "uniq_hash", has_dues=True)
    inserted = (
        postgresql.insert(t.tasks)
        .from_select(names, source)
        .on_conflict_do_nothing()
        .returning(*told_of_new_rows(t))
        .cte("inserted")
    )
    count = select(func.count()).select_from(inserted).scalar_subquery().label("count")
    return Statement("insert_past", select(count, waking(t, inserted)))


def _new_rows(t: Tables, *hashes: str, has_dues: bool = False) -> tuple[list[str], Any]:
    """Returns the columns, and the rows that lists in parameters stand for; ``has_dues``: one says when they are due.

    Most lists are one text with a line for each item: psycopg took longer to escape an array of JSON texts than it took
    to insert them, and asyncpg then has no array types to look up on each new connection. An option in ``TEXTS`` may
    hold any character, and is sent as an array.
    """
    lists: dict[str, Any] = {
        "id": cast(_lines("p_ids"), ARRAY(UUID)),
        "metadata": _lines("p_metadata"),
    }
    for name in COLUMNS:
        of_items = ARRAY(t.tasks.c[name].type)
        lists[name] = bindparam(f"p_{name}", type_=of_items) if name in TEXTS else cast(_lines(f"p_{name}"), of_items)
    for name in hashes:
        lists[name] = _lines(f"p_{name}")
    lists["lane"] = bindparam("p_lanes", type_=ARRAY(Text))  # a key may hold any character
    lists["expires"] = cast(_lines("p_expires"), ARRAY(Double))
    if has_dues:
        lists["scheduled_at"] = bindparam("p_dues", type_=ARRAY(DateTime(timezone=True)))
    row = func.unnest(*lists.values()).table_valued(*lists).render_derived(name="new_task")
    due = row.c.scheduled_at if has_dues else due_of_insert()
    values: dict[str, Any] = {name: cast(row.c[name], JSONB) if name == "metadata" else row.c[name] for name in lists}
    values["lane"] = lane_of(t, row.c.lane, row.c.task_type)
    values["scheduled_at"], values["expires_at"] = due, expiry(due, values.pop("expires"))
    return list(values), select(*(value.label(name) for name, value in values.items()))


def _lines(name: str) -> Any:
    """Returns the items of a text that ``operations.inserts`` made of a list."""
    line_feed: Any = literal_column("E'\\n'")
    return func.string_to_array(bindparam(name, type_=Text), line_feed, literal_column("''"), type_=ARRAY(Text))


def existing(t: Tables) -> Statement:
    """Reads the row whose id or unique hash kept another from being inserted, and whether it is the same task."""
    c = t.tasks.c
    same = (c.metadata == cast(bindparam("p_metadata", type_=Text), JSONB)).label("same")
    by_id = select(*task_columns(t), same).where(c.id == bindparam("p_id", type_=UUID))
    by_hash = select(*task_columns(t), same).where(is_live_twin(c))
    return Statement("existing", by_id.union_all(by_hash))


def twins(t: Tables) -> Statement:
    """Reads the live rows with these hashes."""
    c = t.tasks.c
    hashes = array_of(select(func.unnest(bindparam("p_uniq_hashes", type_=ARRAY(Text)))))
    return Statement("twins", select(*task_columns(t)).where(c.uniq_hash == any_(hashes), not_(has_ended(c))))
