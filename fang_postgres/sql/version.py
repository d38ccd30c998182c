"""Builds the statements that read which revision the tables are at, and the clock."""

from sqlalchemy import DateTime, Text, cast, column, func, literal_column, select, table
from sqlalchemy.dialects.postgresql import REGCLASS

from fang_postgres.names import VERSION_TABLE
from fang_postgres.schema import Tables
from fang_postgres.statement import Statement


def version(t: Tables) -> Statement:
    """Reads the revision, and the comment on its table, which says which older code may use the tables."""
    versions = table(VERSION_TABLE, column("version_num", Text), schema=t.schema)
    name = cast(literal_column(f"'{t.schema}.{VERSION_TABLE}'"), REGCLASS)
    comment = func.obj_description(name, literal_column("'pg_class'"), type_=Text)
    return Statement("version", select(versions.c.version_num, comment.label("comment")))


def clock(_: Tables) -> Statement:
    """Reads the time by the database's clock."""
    return Statement("clock", select(func.clock_timestamp(type_=DateTime(timezone=True)).label("now")))
