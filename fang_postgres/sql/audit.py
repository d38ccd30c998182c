"""Builds the statements of the audit: who has changed what on the page."""

from sqlalchemy import BigInteger, Text, bindparam, cast, insert, or_, select, update
from sqlalchemy.dialects.postgresql import JSONB

from fang_postgres.schema import Tables
from fang_postgres.sql.fragments import LIMIT, within
from fang_postgres.statement import Statement

_ID = bindparam("p_id", type_=BigInteger)
_BEFORE = bindparam("p_before", type_=BigInteger)


def begin_audit(t: Tables) -> Statement:
    """Adds an entry without a result, and returns its id."""
    values = {name: bindparam(f"p_{name}", type_=Text) for name in ("who", "action", "target")}
    details = cast(bindparam("p_details", type_=Text), JSONB)
    return Statement("begin_audit", insert(t.audit).values(**values, details=details).returning(t.audit.c.id))


def end_audit(t: Tables) -> Statement:
    """Writes the result of an entry that has none."""
    c = t.audit.c
    ended = update(t.audit).where(c.id == _ID, c.result.is_(None)).values(result=bindparam("p_result", type_=Text))
    return Statement("end_audit", ended.returning(c.id))


def list_audit(t: Tables) -> Statement:
    """Returns entries, the latest first, from before one on if its id is given."""
    c = t.audit.c
    details = cast(c.details, Text).label("details")
    found = select(c.id, within(c.at), c.who, c.action, c.target, details, c.result)
    return Statement(
        "list_audit", found.where(or_(_BEFORE.is_(None), c.id < _BEFORE)).order_by(c.id.desc()).limit(LIMIT)
    )
