"""Compiles SQLAlchemy objects to SQL for a raw driver."""

from typing import Any, Final

from sqlalchemy import Executable
from sqlalchemy.dialects.postgresql import asyncpg, psycopg
from sqlalchemy.sql.compiler import SQLCompiler

ASYNCPG: Final = asyncpg.dialect()  # type: ignore[no-untyped-call]
PSYCOPG: Final = psycopg.dialect()  # type: ignore[no-untyped-call]


def compiled(core: Executable, dialect: Any) -> SQLCompiler:
    """Returns the compiled statement, with its text and the order of its parameters."""
    compiler = core.compile(dialect=dialect)  # type: ignore[attr-defined]
    assert isinstance(compiler, SQLCompiler)
    return compiler
