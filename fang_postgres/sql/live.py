"""Builds the statement by which a pool says what it does now."""

from typing import Any

from sqlalchemy import Integer, Text, bindparam, cast, func, select
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.sql.elements import ColumnElement

from fang_postgres.schema import Tables
from fang_postgres.sql.fragments import is_alive
from fang_postgres.statement import Statement


def tell_live(t: Tables) -> Statement:
    """Writes what the pool does, in place of what it wrote before, unless its own row is gone or declared dead."""
    live = t.live
    values: dict[str, ColumnElement[Any]] = {
        "pool_id": t.pools.c.id,
        "at": func.clock_timestamp(),
        "busy": bindparam("p_busy", type_=Integer),
        "waiting": bindparam("p_waiting", type_=Integer),
        "runs": cast(bindparam("p_runs", type_=Text), JSONB),
    }
    told = insert(live).from_select(list(values), select(*values.values()).where(*is_alive(t)))
    changed = {name: told.excluded[name] for name in values if name != "pool_id"}
    return Statement("tell_live", told.on_conflict_do_update(index_elements=[live.c.pool_id], set_=changed))
