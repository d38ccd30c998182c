"""What applications do with rows that are there."""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    DateTime,
    Integer,
    Interval,
    Text,
    and_,
    bindparam,
    case,
    cast,
    delete,
    exists,
    func,
    literal_column,
    not_,
    null,
    select,
    true,
    update,
)
from sqlalchemy.dialects.postgresql import UUID
from sqlalchemy.sql.elements import ColumnElement

from fang_postgres.schema import Tables
from fang_postgres.sql.fragments import (
    aliased,
    due_time,
    has_ended,
    is_registered,
    marking_due_rows,
    task_columns,
    waking,
    with_entry,
)
from fang_postgres.statement import Statement


def find(t: Tables) -> Statement:
    """A row by its id."""
    return Statement("find", select(*task_columns(t)).where(t.tasks.c.id == bindparam("p_id", type_=UUID)))


def change(t: Tables) -> Statement:
    """A move by hand, where the row still is as it was read. No row comes back where it is not.

    A unique row is not revived beside a live twin; between two that revive at once the index decides.
    """
    task, twin = aliased(t.tasks, "t"), aliased(t.tasks, "twin")
    c = task.c
    revives = bindparam("p_revives", type_=Boolean)
    has_twin = exists(
        select(literal_column("1")).where(twin.c.uniq_hash == c.uniq_hash, not_(has_ended(twin.c)))
    ).correlate(task)
    zero: ColumnElement[int] = literal_column("0")
    due = func.coalesce(func.clock_timestamp() + bindparam("p_delay", type_=Interval), c.scheduled_at)
    values = {
        "state": cast(bindparam("p_state", type_=Text), t.tasks.c.state.type),
        "scheduled_at": case((revives, func.greatest(due, func.clock_timestamp())), else_=due),
        "retries": case((revives, zero), else_=c.retries + bindparam("p_charge", type_=Integer)),
        "crashes": case((revives, zero), else_=c.crashes),
        "error_message": func.coalesce(bindparam("p_error_message", type_=Text), c.error_message),
        "errors": with_entry(c, bindparam("p_error_entry", type_=Text)),
        "pool_id": null(),
        "claimed_at": null(),
        "updated_at": func.clock_timestamp(),  # not now(): it tells two changes in one transaction apart
    }
    changed = (
        update(task)
        .where(
            c.id == bindparam("p_id", type_=UUID),
            cast(c.state, Text) == bindparam("p_read_state", type_=Text),
            c.attempt == bindparam("p_read_attempt", type_=BigInteger),
            c.updated_at == bindparam("p_read_updated_at", type_=DateTime(timezone=True)),
            not_(and_(revives, has_twin)),
        )
        .values(values)
        .returning(*task_columns(t, c))
        .cte("changed")
    )
    return Statement("change", select(changed, waking(t, changed, passed_at=due_time(changed.c))).select_from(changed))


def touch(t: Tables) -> Statement:
    """Claims one due row of whatever kind; its first column says whether the queue's own row is there."""
    task = aliased(t.tasks, "t")
    claimed = marking_due_rows(t, task, of_kinds=False).returning(*task_columns(t, task.c)).cte("claimed")
    one = select(literal_column("1").label("one")).subquery("one")
    head = select(is_registered(t).label("registered"), claimed)
    return Statement("touch", head.select_from(one.outerjoin(claimed, true())))


def removal(t: Tables, name: str, *which: ColumnElement[bool]) -> Statement:
    """Deletes the rows for which all of this holds, and counts them."""
    gone = delete(t.tasks).where(*which).returning(t.tasks.c.id).cte("gone")
    return Statement(f"remove_{name}", select(func.count().label("count")).select_from(gone))


def is_scheduled(c: Any) -> list[ColumnElement[bool]]:
    """Waits for its first run: neither a retry in backoff nor a snoozed task."""
    return [
        c.state == literal_column("'new'"),
        c.attempt == literal_column("0"),
        c.scheduled_at > func.clock_timestamp(),
    ]
