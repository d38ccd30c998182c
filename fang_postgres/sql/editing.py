"""Builds the statement that changes payload and options of a waiting task."""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    DateTime,
    Double,
    Interval,
    Select,
    Text,
    bindparam,
    case,
    cast,
    exists,
    func,
    literal_column,
    not_,
    or_,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB, UUID
from sqlalchemy.sql.elements import ColumnElement

from fang_core.lifecycle import DUE_STATES
from fang_core.tasks.options import COLUMNS
from fang_postgres.schema import Tables
from fang_postgres.sql.fragments import (
    aliased,
    due_time,
    expiry,
    has_ended,
    is_unclaimed,
    lane_of,
    state_literals,
    task_columns,
    waking,
)
from fang_postgres.statement import Statement


def edit(t: Tables) -> Statement:
    """Changes a waiting row if it has not changed since it was read. Returns no row if it has.

    Nor does it if another row with its new hash counts. If such a row is inserted at this moment, the index decides.
    """
    task, twin = aliased(t.tasks, "t"), aliased(t.tasks, "twin")
    c = task.c
    moment = DateTime(timezone=True)
    compared = bindparam("p_compared", type_=Text)
    one: Select[Any] = select(literal_column("1"))
    live = one.where(twin.c.uniq_hash == compared, not_(has_ended(twin.c)), twin.c.id != c.id)
    waiting = one.where(twin.c.uniq_waiting == compared, is_unclaimed(twin.c), twin.c.id != c.id)
    is_unique = c.uniq_hash.is_not(None)
    is_unique_until_claimed = c.uniq_waiting.is_not(None)
    has_twin = or_(
        is_unique & exists(live).correlate(task),
        is_unique_until_claimed & (c.attempt == literal_column("0")) & exists(waiting).correlate(task),
    )
    given = func.coalesce(
        bindparam("p_scheduled_at", type_=moment), func.clock_timestamp() + bindparam("p_delay", type_=Interval)
    )
    due = func.coalesce(given, c.scheduled_at)
    expires = expiry(due, cast(bindparam("p_expires", type_=Double), Double))
    values: dict[str, Any] = {name: _option(t, c, name) for name in COLUMNS}
    lane = lane_of(t, bindparam("p_lane", type_=Text), values["task_type"])
    values |= {
        "metadata": cast(bindparam("p_metadata", type_=Text), JSONB),
        "scheduled_at": due,
        "expires_at": case((bindparam("p_sets_expires", type_=Boolean), expires), else_=c.expires_at),
        "uniq_hash": case((is_unique, compared)),
        "uniq_waiting": case((is_unique_until_claimed, compared)),
        "lane": lane,
        "updated_at": func.clock_timestamp(),  # not now(): it tells two changes in one transaction apart
    }
    changed = (
        update(task)
        .where(
            c.id == bindparam("p_id", type_=UUID),
            cast(c.state, Text).in_(state_literals(DUE_STATES)),
            c.attempt == bindparam("p_read_attempt", type_=BigInteger),
            c.updated_at == bindparam("p_read_updated_at", type_=moment),
            not_(has_twin),
        )
        .values(values)
        .returning(*task_columns(t, c))
        .cte("changed")
    )
    told = select(changed, waking(t, changed, passed_at=due_time(changed.c))).select_from(changed)
    return Statement("edit", told)


def _option(t: Tables, c: Any, name: str) -> ColumnElement[Any]:
    type_ = t.tasks.c[name].type
    is_json = isinstance(type_, JSONB)
    new = cast(bindparam(f"p_{name}", type_=Text), JSONB) if is_json else bindparam(f"p_{name}", type_=type_)
    return case((bindparam(f"p_sets_{name}", type_=Boolean), new), else_=c[name])
