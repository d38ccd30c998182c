"""What applications do with rows that are there."""

from collections.abc import Callable
from typing import Any, Final

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    DateTime,
    Integer,
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
    array_of,
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


def of_kinds(t: Tables) -> Statement:
    """All rows of some kinds: for tests of applications, as it reads every row."""
    c = t.tasks.c
    # Not ANY: to a caller's connection an array goes as a subquery, whose rows ANY would compare with.
    kinds = select(func.unnest(bindparam("p_kinds", type_=ARRAY(Text))))
    rows = select(*task_columns(t)).where(c.kind.in_(kinds))
    return Statement("of_kinds", rows.order_by(c.created_at, c.id))


def kinds(t: Tables) -> Statement:
    """How many rows of each kind there are: for tests of applications, as it reads every row."""
    c = t.tasks.c
    return Statement("kinds", select(c.kind, func.count().label("count")).group_by(c.kind).order_by(c.kind))


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


LOOKED_AT: Final = 10_000
"""Rows that one batch of a removal looks at, at most."""


def removal_batch(t: Tables, name: str, which: Callable[[Any], list[ColumnElement[bool]]]) -> Statement:
    """Deletes the first ``p_limit`` such rows among those that it looks at, in the order of their ids.

    It looks at rows from ``p_from`` to ``p_until``. Besides the count comes the id that it has reached; null if no row
    is left. The next batch begins behind that: to begin anew it would walk the dead entries of all batches before.
    """
    task, looked = aliased(t.tasks, "t"), aliased(t.tasks, "looked")
    limit = bindparam("p_limit", type_=Integer)
    window: Any = literal_column(str(LOOKED_AT))
    in_range = (looked.c.id >= bindparam("p_from", type_=UUID), looked.c.id <= bindparam("p_until", type_=UUID))
    seen = (
        select(looked.c.id, and_(true(), *which(looked.c)).label("wanted"))
        .where(*in_range)
        .order_by(looked.c.id)
        .limit(window)
        .cte("seen")
        .prefix_with("MATERIALIZED")
    )
    first = select(seen.c.id).where(seen.c.wanted).order_by(seen.c.id).limit(limit)
    doomed = first.cte("doomed").prefix_with("MATERIALIZED")
    gone = (
        delete(task)
        .where(task.c.id == any_(array_of(select(doomed.c.id))), *which(task.c))
        .returning(task.c.id)
        .cte("gone")
    )
    last_doomed = _last_of(doomed.c.id)
    last_seen = _last_of(seen.c.id).where(select(func.count()).select_from(seen).scalar_subquery() == window)
    is_full = select(func.count()).select_from(doomed).scalar_subquery() == limit
    return Statement(
        f"remove_{name}",
        select(
            select(func.count()).select_from(gone).scalar_subquery().label("count"),
            case((is_full, last_doomed.scalar_subquery()), else_=last_seen.scalar_subquery()).label("reached"),
        ),
    )


def last_id(t: Tables) -> Statement:
    """The greatest id: how far a removal goes, so that rows inserted meanwhile do not keep it going for ever."""
    return Statement("last_id", _last_of(t.tasks.c.id))


def _last_of(id_: Any) -> Select[Any]:
    # max() of a uuid is new in Postgres 18.
    return select(id_).order_by(id_.desc()).limit(literal_column("1"))


def is_scheduled(c: Any) -> list[ColumnElement[bool]]:
    """Waits for its first run: neither a retry in backoff nor a snoozed task.

    The state is compared as text, so that a removal never goes by the index of due rows, with all of its dead entries.
    """
    return [
        cast(c.state, Text) == literal_column("'new'"),
        c.attempt == literal_column("0"),
        c.scheduled_at > func.clock_timestamp(),
    ]
