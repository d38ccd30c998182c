"""A statement, written once in SQLAlchemy Core and compiled once for raw drivers; and an operation, ready to be run.

The threaded mode sends ``Statement.psycopg_text`` through raw psycopg, the async mode ``Statement.text`` with
``arguments()`` through raw asyncpg. An application's engine, and a connection that a caller hands in, get
``Statement.text_form``; our own engine, that of ``fang status``, executes ``Statement.core``. What breaks silently in
one of these ways is refused where a statement is made:

- bind names start with ``p_``: plain column names are reserved inside UPDATE;
- no text that depends on values (``.in_()`` with a list): it could not be compiled once;
- no JSON and no enum binds: they cross as text and are cast in SQL, so that both drivers send the same.

The order of arguments comes from the compiler, never from how the statement was written.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final, Generic, TypeVar

from sqlalchemy import BindParameter, Executable
from sqlalchemy.sql import visitors
from sqlalchemy.types import ARRAY, JSON, Enum

from fang_postgres.compiling import ASYNCPG, PSYCOPG, compiled
from fang_postgres.textform import TextForm

T = TypeVar("T")
Rows = Sequence[Sequence[Any]]

ALL_AT_ONCE: Final[Mapping[str, Any]] = {"stream_results": False, "yield_per": None}
"""What is said to SQLAlchemy with each statement of ours: an application may have its engine, connection or session
stream all results, for which it would declare a cursor, and that cannot be done for a statement that writes."""


class Statement:
    """One statement under one schema name.

    Attributes:
        name: for logs, golden files and errors.
        core: the SQLAlchemy object.
        text: compiled for asyncpg, with ``$1``.
        order: the parameter that each ``$n`` stands for.
    """

    def __init__(self, name: str, core: Executable) -> None:
        _refuse_what_breaks(name, core)
        self.name = name
        self.core = core
        for_asyncpg = compiled(core, ASYNCPG)
        self.text = str(for_asyncpg)
        self.order: tuple[str, ...] = tuple(for_asyncpg.positiontup or ())
        if "POSTCOMPILE" in self.text:
            raise ValueError(f"{name}: the text depends on values; use = ANY(array) instead of .in_()")

    @cached_property
    def psycopg_text(self) -> str:
        """Compiled for a raw psycopg connection, with ``%(name)s``."""
        return str(compiled(self.core, PSYCOPG))

    @cached_property
    def text_form(self) -> TextForm:
        """The same for a connection that is not our own."""
        return TextForm(self.core)

    def arguments(self, params: Mapping[str, Any]) -> list[Any]:
        """The parameters in the order of ``text``."""
        return [params[name] for name in self.order]

    def __repr__(self) -> str:
        return f"<Statement {self.name}>"


@dataclass(frozen=True, slots=True)
class Operation(Generic[T]):
    """A statement, its parameters, and what its rows mean."""

    statement: Statement
    params: Mapping[str, Any]
    decode: Callable[[Rows], T]

    def quiet(self) -> "Operation[T]":
        """The same, which wakes nobody."""
        return replace(self, params={**self.params, "p_notify": False}) if "p_notify" in self.params else self


Conversation = Generator[Operation[Any], Any, T]
"""What takes more than one statement: yields operations, is sent what each returned, and returns its own result.

Pure, so that both modes hold the same one: see their ``converse``.
"""

Pipeline = Generator[Operation[Any] | None, Any, T]
"""A conversation that goes on while its last operation is in flight: it is sent what the one before has returned.

It begins with None, and where it has nothing more to ask it yields None, to be sent what is still missing. See the
modes' ``pipeline``.
"""


def _refuse_what_breaks(name: str, core: Executable) -> None:
    for element in visitors.iterate(core):  # type: ignore[arg-type]
        if not isinstance(element, BindParameter):
            continue
        if not element.key.startswith("p_"):
            raise ValueError(f"{name}: {element.key} is a value in the text; write a literal, or a bind named p_...")
        kind = element.type.item_type if isinstance(element.type, ARRAY) else element.type
        if isinstance(kind, JSON | Enum):
            raise ValueError(f"{name}: {element.key} must cross as text, CAST in SQL")
