"""Defines a statement, written once in SQLAlchemy Core and compiled once for a raw driver, and an operation to run.

The async mode sends ``Statement.text`` with ``arguments()`` through raw asyncpg, the threaded mode the same text, with
named parameters, through raw psycopg. An application's engine, and a connection that a caller passes, get
``Statement.text_form``. Whatever would break silently in one of these ways is refused when the statement is made, or
its text:

- bind names start with ``p_``: plain column names are reserved inside UPDATE;
- no text that depends on values (``.in_()`` with a list): it could not be compiled once;
- no JSON and no enum binds: they cross as text and are cast in SQL, so that both drivers send the same.

The compiler gives the order of arguments, not the way the statement is written.

SQLAlchemy is imported where a statement is made or compiled: callers that send a compiled text do not need it.
"""

import re
from collections.abc import Awaitable, Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from fang_core.errors import FangError
from fang_core.interpreter.kept import kept

if TYPE_CHECKING:
    from sqlalchemy import BindParameter, Executable
    from sqlalchemy.sql.compiler import SQLCompiler

    from fang_postgres.textform import TextForm

T = TypeVar("T")
Rows = Sequence[Sequence[Any]]

_PLACE: Final = re.compile(r"\$(\d+)")

OWN_OPTIONS: Final[Mapping[str, Any]] = {"stream_results": False, "yield_per": None, "schema_translate_map": None}
"""The execution options of each of our statements, whatever an application has set on its engine, connection or
session. To stream all results, SQLAlchemy would declare a cursor, which is impossible for a statement that writes; a
map of schemas is for the application's tables."""


class Statement:
    """One statement under one schema name.

    Attributes:
        name: for logs, files and errors.
        core: the SQLAlchemy object.
    """

    def __init__(self, name: str, core: "Executable") -> None:
        _refuse_what_breaks(name, core)
        self.name = name
        self.core = core

    @kept
    def _for_asyncpg(self) -> "SQLCompiler":
        """The statement as asyncpg takes it. Raises ``ValueError`` if its text depends on values."""
        from fang_postgres.compiling import ASYNCPG, compiled

        made = compiled(self.core, ASYNCPG)
        if "POSTCOMPILE" in str(made):
            raise ValueError(f"{self.name}: the text depends on values; use = ANY(array) instead of .in_()")
        return made

    @kept
    def text(self) -> str:
        """Returns the text for asyncpg, with ``$1``."""
        return str(self._for_asyncpg)

    @kept
    def order(self) -> tuple[str, ...]:
        """Returns the parameter that each ``$n`` stands for."""
        return tuple(self._for_asyncpg.positiontup or ())

    @kept
    def psycopg_text(self) -> str:
        """Returns the text for a raw psycopg connection, with ``%(name)s``."""
        return _PLACE.sub(lambda place: f"%({self.order[int(place[1]) - 1]})s", self.text.replace("%", "%%"))

    @kept
    def text_form(self) -> "TextForm":
        """Returns the statement for a connection that is not our own."""
        from fang_postgres.textform import TextForm

        return TextForm(self.core)

    def arguments(self, params: Mapping[str, Any]) -> list[Any]:
        """Returns the parameters in the order of ``text``."""
        return [params[name] for name in self.order]

    def __repr__(self) -> str:
        return f"<Statement {self.name}>"


@dataclass(frozen=True, slots=True)
class Operation(Generic[T]):
    """A statement, its parameters, and the meaning of its rows."""

    statement: Statement
    params: Mapping[str, Any]
    decode: Callable[[Rows], T]

    def quiet(self) -> "Operation[T]":
        """Returns the same operation, but one that wakes no pool."""
        return replace(self, params={**self.params, "p_notify": False}) if "p_notify" in self.params else self


Script = Generator[Operation[Any], Any, T]
"""A generator for work of several statements: yields operations, is sent their results, and returns its own result.

Pure, so that both modes run the same one; see ``run_script``.
"""

Pipeline = Generator[Operation[Any] | None, Any, T]
"""A script that goes on while its last operation is in flight: it is sent the result of the one before.

It is first sent None, and when it has no further operation it yields None, to be sent the last result. See the modes'
``pipeline``.
"""


async def run_script(run: Callable[[Operation[Any]], Awaitable[Any]], script: Script[T]) -> T:
    """Runs a script with ``run``, which runs one operation. Throws a typed error into the script."""
    proceed: Callable[[], Operation[Any]] = partial(script.send, None)
    while True:
        try:
            operation = proceed()
        except StopIteration as end:  # perhaps before the first operation
            result: T = end.value
            return result
        try:
            proceed = partial(script.send, await run(operation))
        except FangError as error:
            proceed = partial(script.throw, error)


def _refuse_what_breaks(name: str, core: "Executable") -> None:
    from sqlalchemy.types import ARRAY, JSON, Enum

    for element in _binds(core):
        if not element.key.startswith("p_"):
            raise ValueError(f"{name}: {element.key} is a value in the text; write a literal, or a bind named p_...")
        kind = element.type.item_type if isinstance(element.type, ARRAY) else element.type
        if isinstance(kind, JSON | Enum):
            raise ValueError(f"{name}: {element.key} must cross as text, CAST in SQL")


def _binds(core: "Executable") -> "Iterator[BindParameter[Any]]":
    """Yields the binds of a statement. SQLAlchemy's own walk visits what is used twice, such as a CTE, at each use,
    with all that is in it: most elements dozens of times."""
    from sqlalchemy import BindParameter

    seen: dict[int, Any] = {}  # holds the elements, so that no other one gets the id
    left: list[Any] = [core]
    while left:
        element = left.pop()
        if id(element) in seen:
            continue
        seen[id(element)] = element
        if isinstance(element, BindParameter):
            yield element
        left.extend(element.get_children())
