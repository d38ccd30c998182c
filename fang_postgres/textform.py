"""Makes the statements for connections that an application has set up in its own way.

Codecs, loaders, dumpers and type casters of such a connection can turn any value into anything. So nothing is left to
them: each parameter is sent as a text that is written here and cast in SQL, each column is cast to text in SQL and read
here. No setting of the session, such as ``DateStyle`` or ``IntervalStyle``, changes these texts.

The texts cross as ``refcursor``: every driver takes that for a plain string, and an application that gives ``text`` or
``varchar`` a codec of its own has no reason to give ``refcursor`` one. They are in ASCII, which every
``client_encoding`` has: texts of ours cross as Postgres writes bytes, and are decoded at the other end.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import (
    BindParameter,
    ClauseElement,
    ColumnElement,
    DateTime,
    Executable,
    Interval,
    LargeBinary,
    Text,
    bindparam,
    case,
    cast,
    func,
    literal_column,
    select,
)
from sqlalchemy import types as sqltypes
from sqlalchemy.dialects.postgresql.dml import OnConflictDoUpdate
from sqlalchemy.sql import visitors
from sqlalchemy.sql.dml import UpdateBase
from sqlalchemy.sql.expression import Alias, ColumnClause, TableClause
from sqlalchemy.types import UserDefinedType

from fang_core.interpreter.kept import kept
from fang_postgres.compiling import ASYNCPG, PSYCOPG, compiled
from fang_postgres.shapes import as_text
from fang_postgres.sql.fragments import array_of, microseconds

Reader = Callable[[str], Any]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_UTF8: Final[ColumnElement[str]] = literal_column("'UTF8'")
_ESCAPE: Final[ColumnElement[str]] = literal_column("'escape'")


class TextForm:
    """A statement whose parameters and columns are all texts.

    Attributes:
        core: the SQLAlchemy object.
        returns_rows: whether the statement returns rows.
    """

    def __init__(self, core: Executable) -> None:
        with_texts: Any = visitors.replacement_traverse(core, {}, _sent_as_text)  # type: ignore[call-overload]
        columns = list(core.exported_columns)  # type: ignore[attr-defined]
        self.returns_rows = bool(columns)
        self._readers = [_reader(column.type) for column in columns]
        self.core: Executable = _columns_as_text(with_texts) if columns else with_texts

    @kept
    def _for_asyncpg(self) -> tuple[str, tuple[str, ...]]:
        it = compiled(self.core, ASYNCPG)
        return str(it), tuple(it.positiontup or ())

    @property
    def text(self) -> str:
        """Returns the text for asyncpg, with ``$1``; see ``arguments``."""
        return self._for_asyncpg[0]

    @kept
    def psycopg_text(self) -> str:
        """Returns the text for psycopg 3 or psycopg2, with ``%(name)s``; see ``parameters``."""
        return str(compiled(self.core, PSYCOPG))

    def parameters(self, params: Mapping[str, Any]) -> dict[str, str | None]:
        """Returns the parameters to send, by name."""
        return {name: _in_ascii(as_text(value)) for name, value in params.items()}

    def arguments(self, params: Mapping[str, Any]) -> list[str | None]:
        """Returns the parameters to send, in the order of ``text``."""
        sent = self.parameters(params)
        return [sent[name] for name in self._for_asyncpg[1]]

    def read(self, rows: Sequence[Sequence[Any]]) -> list[tuple[Any, ...]]:
        """Returns the rows as the statement itself returns them on a connection of our own."""
        return [
            tuple(
                None if value is None else read(value if isinstance(value, str) else bytes(value).decode())
                for read, value in zip(self._readers, row, strict=True)
            )
            for row in rows
        ]


class _Carried(UserDefinedType[str]):
    """The type as which the texts cross; see the module."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "refcursor"


def _sent_as_text(element: Any, **_: Any) -> Any:
    """Returns the replacement of a parameter, for ``replacement_traverse``; returns an element itself to skip it."""
    if isinstance(element, BindParameter):
        sent = cast(cast(bindparam(element.key, type_=_Carried()), _Carried()), Text)
        if isinstance(element.type, Text):
            return _out_of_ascii(sent)
        if isinstance(element.type, sqltypes.ARRAY):
            return _list_of(sent, element.type)
        return cast(sent, element.type)
    if isinstance(element, OnConflictDoUpdate) and not hasattr(element, "_traverse_internals"):
        return _update_sent_as_text(element)  # SQLAlchemy 2.0 does not look into it
    owner = element.table if isinstance(element, ColumnClause) else element
    # A copy of a table would no longer be the one whose columns an UPDATE names.
    is_table = isinstance(owner.element if isinstance(owner, Alias) else owner, TableClause)
    return element if is_table else None


def _update_sent_as_text(clause: Any) -> Any:
    """Returns the clause with its parameters replaced."""

    def replaced(part: Any) -> Any:
        return visitors.replacement_traverse(part, {}, _sent_as_text) if isinstance(part, ClauseElement) else part

    changed = copy(clause)
    changed.update_values_to_set = [(name, replaced(value)) for name, value in clause.update_values_to_set]
    changed.update_whereclause = replaced(clause.update_whereclause)
    return changed


def _in_ascii(text: str | None) -> str | None:
    r"""Returns a parameter in ASCII: one that is not, or has a backslash, as ``\x`` and hexadecimal digits."""
    if text is None or (text.isascii() and "\\" not in text):
        return text
    return "\\x" + text.encode().hex()


def _out_of_ascii(sent: ColumnElement[str]) -> ColumnElement[str]:
    """Returns the text of a parameter that is in ASCII."""
    return func.convert_from(cast(sent, LargeBinary), _UTF8)


def _list_of(sent: ColumnElement[str], type_: sqltypes.ARRAY[Any]) -> ColumnElement[Any]:
    """Returns the list that ``as_text`` wrote as text; it is read once, not once for each row compared with it."""
    written = _out_of_ascii(sent) if _is_text(type_) else sent
    items = func.json_array_elements_text(cast(written, sqltypes.JSON)).table_valued("value")
    listed = cast(array_of(select(cast(items.c.value, type_.item_type))), type_)
    # ARRAY(SELECT ..) would make an empty list of null.
    return case((sent.is_not(None), listed))


def _columns_as_text(core: Any) -> Executable:
    told = core.cte("told") if isinstance(core, UpdateBase) else core.subquery("told")
    return select(*(cast(_text_of(column), _Carried()).label(f"c{n}") for n, column in enumerate(told.c)))


def _text_of(column: ColumnElement[Any]) -> ColumnElement[str]:
    if isinstance(column.type, DateTime | Interval):
        return cast(microseconds(column), Text)
    # Not as Postgres writes arrays: see ``as_text``.
    text = cast(func.array_to_json(column) if isinstance(column.type, sqltypes.ARRAY) else column, Text)
    return func.encode(func.convert_to(text, _UTF8), _ESCAPE) if _is_text(column.type) else text


def _is_text(type_: Any) -> bool:
    """Returns whether it is the type of texts that may have any character, or of lists of such texts."""
    return isinstance(type_.item_type if isinstance(type_, sqltypes.ARRAY) else type_, Text)


def _unescaped(text: str) -> str:
    """Returns the text of a column that is in ASCII: a byte that is not, is a backslash and three octal digits."""
    if "\\" not in text:
        return text
    return text.encode("ascii").decode("unicode_escape").encode("latin-1").decode()


def _reader(type_: Any) -> Reader:
    """Returns the function that reads the text of a column of this type."""
    if isinstance(type_, sqltypes.ARRAY):
        read_item = str if _is_text(type_) else _reader(type_.item_type)
        return lambda text: [None if item is None else read_item(item) for item in json.loads(_unescaped(text))]
    for known, read in _READERS.items():
        if isinstance(type_, known):
            return read
    raise TypeError(f"columns of type {type_!r} are not read from text")


_READERS: Final[dict[type[Any], Reader]] = {
    sqltypes.Text: _unescaped,
    sqltypes.Uuid: UUID,
    sqltypes.DateTime: lambda text: _EPOCH + timedelta(microseconds=int(text)),
    sqltypes.Interval: lambda text: timedelta(microseconds=int(text)),
    sqltypes.Boolean: "true".__eq__,
    sqltypes.Integer: int,
    sqltypes.Double: float,
}
