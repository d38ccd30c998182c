"""Reads the statements as they are compiled, from the files in ``texts``.

To import SQLAlchemy, and to build and compile statements, takes a process longer than all else that it does until its
pools run, or that ``fang status`` does. They are written in ``fang_postgres.sql``; tests compare the files, and can
rewrite them. SQLAlchemy is needed for ``Statement.text_form`` alone.

A file is read when the class is made that names its statement. A pool may need that statement weeks later, when the
files are those of another version, or gone.
"""

import re
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fang_core.interpreter.kept import kept
from fang_postgres.names import DEFAULT_SCHEMA, channel
from fang_postgres.statement import Statement

if TYPE_CHECKING:
    from fang_postgres.schema import Tables
    from fang_postgres.textform import TextForm

FOLDER: Final = Path(__file__).with_suffix("")

# Before a number it is in the key of a lock; a literal of its own is the name of who has changed something.
_IN_LITERAL: Final = re.compile(rf"(?<='){DEFAULT_SCHEMA}(?=\.|', \d)")
_AS_NAME: Final = re.compile(rf'(?<![\w."\']){DEFAULT_SCHEMA}(?=\.fang_)|"{DEFAULT_SCHEMA}"(?=\.fang_)')


@cache
def _content(name: str) -> str:
    return (FOLDER / f"{name}.sql").read_text("utf-8")


def read_ahead(name: str) -> None:
    """Reads the file of a statement, for all schemas. If it is missing, the statement says so when it is used."""
    with suppress(FileNotFoundError):
        _content(name)


class StatementOfFile(Statement):
    """A statement whose text is in a file of a folder, by its name."""

    def __init__(self, name: str, schema: str, build: "Callable[[Tables], Statement]", folder: str = "") -> None:
        self.name = name
        self._schema = schema
        self._build = build
        self._folder = folder

    @kept
    def _read(self) -> tuple[str, str]:
        parameters, _, text = _content(f"{self._folder}{self.name}").partition("\n")
        return parameters, text.rstrip("\n")

    @kept
    def text(self) -> str:
        """See ``Statement.text``."""
        return under(self._read[1], self._schema)

    @kept
    def order(self) -> tuple[str, ...]:
        """See ``Statement.order``."""
        return tuple(place.partition("=")[2] for place in self._read[0].split()[1:])

    @kept
    def text_form(self) -> "TextForm":
        """See ``Statement.text_form``."""
        from fang_postgres.schema import tables

        return self._build(tables(self._schema)).text_form


def under(text: str, schema: str) -> str:
    """Returns the text for the tables of a schema; in quotes, as a schema may be called like a word of SQL."""
    if schema == DEFAULT_SCHEMA:
        return text
    text = text.replace(f"'{channel(DEFAULT_SCHEMA)}'", f"'{channel(schema)}'")
    return _AS_NAME.sub(f'"{schema}"', _IN_LITERAL.sub(schema, text))


def as_file(statement: Statement) -> str:
    """Returns what the file of a statement holds: which parameter each ``$n`` stands for, and the text."""
    numbered = " ".join(f"${place}={bind}" for place, bind in enumerate(statement.order, 1))
    lines = [line.rstrip() for line in statement.text.splitlines()]
    return f"-- {numbered}".rstrip() + "\n" + "\n".join(lines) + "\n"
