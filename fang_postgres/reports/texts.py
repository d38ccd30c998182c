"""Reads the statements of reports as they are compiled for psycopg, from the files in ``texts``.

To import SQLAlchemy, and to build and compile a dozen statements, takes ``fang status`` longer than to run them. They
are written in ``fang_postgres.sql``, like all others; a test compares the files, and can rewrite them.
"""

import re
from pathlib import Path
from typing import Final, Protocol

from fang_core.interpreter.kept import kept
from fang_postgres.names import DEFAULT_SCHEMA
from fang_postgres.statement import Statement

FOLDER: Final = Path(__file__).with_suffix("")

_IN_TEXT: Final = re.compile(rf"(?<='){DEFAULT_SCHEMA}(?=\.fang_)")
_AS_NAME: Final = re.compile(rf'(?<![\w."\']){DEFAULT_SCHEMA}(?=\.fang_)|"{DEFAULT_SCHEMA}"(?=\.fang_)')


class TextStatement(Statement):
    """A statement whose text for psycopg is in a file; there is nothing to compile for another driver."""

    def __init__(self, name: str, schema: str) -> None:
        self.name = name
        self._schema = schema

    @kept
    def psycopg_text(self) -> str:
        """See ``Statement.psycopg_text``."""
        return under((FOLDER / f"{self.name}.sql").read_text("utf-8"), self._schema)


class _UnderSchema(Protocol):
    @property
    def schema(self) -> str: ...


class from_file:  # noqa: N801 - reads like what it stands for
    """An attribute that is the statement of its name."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: _UnderSchema, owner: type) -> TextStatement:
        statement = instance.__dict__[self._name] = TextStatement(self._name, instance.schema)
        return statement


def under(text: str, schema: str) -> str:
    """Returns the text for the tables of a schema; in quotes, as a schema may be called like a word of SQL."""
    if schema == DEFAULT_SCHEMA:
        return text
    return _AS_NAME.sub(f'"{schema}"', _IN_TEXT.sub(schema, text))
