"""Builds the conditions of a ``TaskFilter``."""

from typing import Any

from sqlalchemy import ARRAY, Boolean, DateTime, Text, any_, bindparam, cast, func, not_, or_, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.sql.elements import ColumnElement

from fang_core.lifecycle import TERMINAL_STATES
from fang_core.tasks.filter import TaskFilter
from fang_postgres.sql.fragments import array_of, state_literals


def matching(c: Any) -> list[ColumnElement[bool]]:
    """Returns all conditions but that on ``ids``: statements find these rows in another way than the rest.

    The state is compared as text, so that these conditions never decide which index is taken.
    """
    before, after = (bindparam(f"p_inserted_{name}", type_=DateTime(timezone=True)) for name in ("before", "after"))
    headers = bindparam("p_headers", type_=Text)
    return [
        _has_one("kinds", c.kind),
        _has_one("task_types", c.task_type),
        _has_one("states", cast(c.state, Text)),
        or_(headers.is_(None), c.headers.op("@>")(cast(headers, JSONB))),
        or_(before.is_(None), c.created_at < before),
        or_(after.is_(None), c.created_at >= after),
    ]


def _has_one(name: str, column: Any) -> ColumnElement[bool]:
    # A switch of its own: on a caller's connection a list that is null arrives as an empty one.
    is_any = not_(bindparam(f"p_has_{name}", type_=Boolean))
    wanted = select(func.unnest(bindparam(f"p_{name}", type_=ARRAY(Text))))
    return or_(is_any, column == any_(array_of(wanted)))


def goes_on(c: Any) -> ColumnElement[bool]:
    """Whether the task's life has not ended; compared as text, so that it never decides which index is taken."""
    return not_(cast(c.state, Text).in_(state_literals(TERMINAL_STATES)))


def filter_parameters(which: TaskFilter) -> dict[str, Any]:
    """Returns the parameters of ``matching``, except ``p_headers``, whose value is a JSON text."""
    params: dict[str, Any] = {}
    for name in ("kinds", "task_types", "states"):
        values = getattr(which, name)
        params |= {f"p_has_{name}": values is not None, f"p_{name}": [str(value) for value in values or ()]}
    return params | {"p_inserted_before": which.inserted_before, "p_inserted_after": which.inserted_after}
