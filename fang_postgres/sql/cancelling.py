"""Builds the statements with which applications cancel tasks: waiting ones at once, and running ones by a request.

The pool of a running task hears of the request by a NOTIFY, or reads it from the row with its next beat.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    Integer,
    Select,
    SmallInteger,
    Text,
    and_,
    any_,
    bindparam,
    case,
    cast,
    func,
    literal_column,
    or_,
    select,
    true,
    tuple_,
    union_all,
    update,
)
from sqlalchemy.dialects.postgresql import TIMESTAMP, UUID
from sqlalchemy.sql.elements import ColumnElement

from fang_core.lifecycle import DUE_STATES
from fang_core.record import TaskState
from fang_postgres.schema import Tables
from fang_postgres.sql.by_hand import LOOKED_AT
from fang_postgres.sql.filters import goes_on, matching
from fang_postgres.sql.fragments import IDS, LIMIT, aliased, array_of, state_literals, task_columns, telling
from fang_postgres.statement import Statement

_UNTIL = bindparam("p_until", type_=UUID)


def cancel(t: Tables) -> Statement:
    """Cancels one task, or asks its pool to. Returns no row if the task has ended, or there is none."""
    task = aliased(t.tasks, "t")
    found = (task.c.id == bindparam("p_id", type_=UUID), goes_on(task.c))
    cancelled = cancelling(t, task).where(*found).returning(*task_columns(t, task.c)).cte("cancelled")
    told = case((cancelled.c.pool_id.is_not(None), telling(t, cancelled.c.pool_id))).label("told")
    return Statement("cancel", select(cancelled, told).select_from(cancelled))


def cancel_ids(t: Tables) -> Statement:
    """Does the same with those of the tasks ``p_ids`` that match the filter; counts them."""
    task = aliased(t.tasks, "t")
    return Statement("cancel_ids", _counted(t, _cancelling_many(t, task, select(func.unnest(IDS)))))


def cancel_held(t: Tables) -> Statement:
    """Does the same with ``p_limit`` such tasks in progress, with ids up to ``p_until``; counts them."""
    task, held = aliased(t.tasks, "t"), aliased(t.tasks, "held")
    found = (
        select(held.c.id)
        .where(held.c.state == literal_column("'in_progress'"), held.c.id <= _UNTIL, is_news(held.c), *matching(held.c))
        .order_by(held.c.pool_id)
        .limit(LIMIT)
    )
    return Statement("cancel_held", _counted(t, _cancelling_many(t, task, found)))


_KEY = ("task_type", "priority", "scheduled_at", "id")
"""The columns of the index of due rows."""


def cancel_waiting(t: Tables) -> Statement:
    """Does the same with the first ``p_limit`` such tasks among the waiting ones that it looks at.

    It looks at rows in the order of the index of due rows, behind a place, and at none with an id above ``p_until``. It
    returns the count, and the place that it reached; nulls if no row is left. The next batch begins behind that place:
    from the start it would walk the dead entries of all batches before.
    """
    task, looked = aliased(t.tasks, "t"), aliased(t.tasks, "looked")
    limit = bindparam("p_limit", type_=Integer)
    window: Any = literal_column(str(LOOKED_AT))
    place = tuple_(
        bindparam("p_after_type", type_=Text),
        cast(bindparam("p_after_priority", type_=SmallInteger), SmallInteger),
        bindparam("p_after_at", type_=TIMESTAMP(timezone=True)),
        bindparam("p_after_id", type_=UUID),
    )
    is_wanted = and_(looked.c.id <= _UNTIL, *matching(looked.c))
    seen = (
        select(*_key(looked.c), is_wanted.label("wanted"))
        .where(looked.c.state.in_(state_literals(DUE_STATES)), tuple_(*_key(looked.c)) > place)
        .order_by(*_key(looked.c))
        .limit(window)
        .cte("seen")
        .prefix_with("MATERIALIZED")
    )
    doomed = (
        select(*_key(seen.c)).where(seen.c.wanted).order_by(*_key(seen.c)).limit(limit).cte("doomed")
    ).prefix_with("MATERIALIZED")
    cancelled = _cancelling_many(t, task, select(doomed.c.id))
    is_full = select(func.count()).select_from(doomed).scalar_subquery() == limit
    saw_all = select(func.count()).select_from(seen).scalar_subquery() < window
    last = union_all(
        select(_last_of(doomed).subquery("last_doomed")).where(is_full),
        select(_last_of(seen).subquery("last_seen")).where(~is_full, ~saw_all),
    ).subquery("last")
    counted = _counted(t, cancelled).subquery("counted")
    return Statement("cancel_waiting", select(counted, *_key(last.c)).select_from(counted.outerjoin(last, true())))


def _key(c: Any) -> list[Any]:
    return [c[name] for name in _KEY]


def _last_of(rows: Any) -> Select[Any]:
    return select(*_key(rows.c)).order_by(*(column.desc() for column in _key(rows.c))).limit(literal_column("1"))


def cancelling(t: Tables, task: Any) -> Any:
    """Returns the UPDATE that cancels a task that waits, and leaves a request in one that runs."""
    c = task.c
    is_waiting = c.state.in_(state_literals(DUE_STATES))
    texts: Sequence[Any] = [bindparam(f"p_{name}", type_=Text) for name in ("reason", "by")]
    asked = func.jsonb_build_object(
        *(literal_column("'reason'"), texts[0], literal_column("'by'"), texts[1]),
        *(literal_column("'at'"), func.clock_timestamp()),
    )
    request = func.coalesce(c.cancel_request, asked)  # a run may have been interrupted for the first one
    cancelled = cast(literal_column(f"'{TaskState.CANCELLED}'"), t.tasks.c.state.type)
    return update(task).values(
        {
            c.state: case((is_waiting, cancelled), else_=c.state),
            c.error_message: case((is_waiting, request.op("->>")(literal_column("'reason'"))), else_=c.error_message),
            c.cancel_request: request,
            c.updated_at: func.clock_timestamp(),  # as in a change by hand
        }
    )


def _cancelling_many(t: Tables, task: Any, ids: Any) -> Any:
    c = task.c
    found = (c.id == any_(array_of(ids)), goes_on(c), is_news(c), *matching(c))
    return cancelling(t, task).where(*found).returning(c.pool_id).cte("cancelled")


def is_news(c: Any) -> ColumnElement[bool]:
    """Whether a request changes anything: it is the first one, or the task waits, and can be cancelled at once."""
    return or_(c.cancel_request.is_(None), cast(c.state, Text).in_(state_literals(DUE_STATES)))


def _counted(t: Tables, cancelled: Any) -> Select[Any]:
    """Counts the rows, and notifies the pools that hold some of them; see ``telling``."""
    holders = select(cancelled.c.pool_id).where(cancelled.c.pool_id.is_not(None)).distinct().subquery("holders")
    told = select(func.count(telling(t, holders.c.pool_id))).scalar_subquery()
    count = select(func.count()).select_from(cancelled).scalar_subquery()
    return select(count.label("count"), told.label("told"))
