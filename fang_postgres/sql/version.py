"""Builds the statement that reads which revision the tables are at."""

from sqlalchemy import Text, cast, column, func, literal_column, select, table
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
