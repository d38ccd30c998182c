"""Builds the conditions of a ``TaskFilter``."""

from typing import Any, Final

from sqlalchemy import ARRAY, Boolean, DateTime, Text, any_, bindparam, cast, func, literal_column, not_, or_, select
from sqlalchemy.dialects.postgresql import JSONB, UUID
from sqlalchemy.sql.elements import ColumnElement

from fang_core.lifecycle import TERMINAL_STATES
from fang_postgres.sql.fragments import array_of, state_literals

_OF_TIMES: Final = {"inserted": "created_at", "updated": "updated_at", "due": "scheduled_at"}


def matching(c: Any) -> list[ColumnElement[bool]]:
    """Returns all conditions but that on ``ids``: statements find these rows in another way than the rest.

    The state is compared as text, so that these conditions never decide which index is taken.
    """
    error = bindparam("p_error", type_=Text)
    return [
        _has_one("kinds", c.kind, Text),
        _has_one("task_types", c.task_type, Text),
        _has_one("states", cast(c.state, Text), Text),
        _has_one("pool_ids", c.pool_id, UUID),
        *in_ranges(c),
        or_(error.is_(None), func.strpos(c.error_message, error) > literal_column("0")),
        _has("headers", c.headers),
        _has("payload", c.metadata),
    ]


def in_ranges(c: Any) -> list[ColumnElement[bool]]:
    """Returns those of the conditions that are about times."""
    return [bound for name, column in _OF_TIMES.items() for bound in _range(name, c[column])]


def _has_one(name: str, column: ColumnElement[Any], type_: Any) -> ColumnElement[bool]:
    # A switch of its own: on a caller's connection a list that is null arrives as an empty one.
    is_any = not_(bindparam(f"p_has_{name}", type_=Boolean))
    wanted = select(func.unnest(bindparam(f"p_{name}", type_=ARRAY(type_))))
    return or_(is_any, column == any_(array_of(wanted)))


def _range(name: str, column: ColumnElement[Any]) -> list[ColumnElement[bool]]:
    before, after = (bindparam(f"p_{name}_{end}", type_=DateTime(timezone=True)) for end in ("before", "after"))
    return [or_(before.is_(None), column < before), or_(after.is_(None), column >= after)]


def _has(name: str, column: ColumnElement[Any]) -> ColumnElement[bool]:
    wanted = bindparam(f"p_{name}", type_=Text)
    return or_(wanted.is_(None), column.op("@>")(cast(wanted, JSONB)))


def goes_on(c: Any) -> ColumnElement[bool]:
    """Whether the task's life has not ended; compared as text, so that it never decides which index is taken."""
    return not_(cast(c.state, Text).in_(state_literals(TERMINAL_STATES)))
