"""Makes a statement of its file when it is first used: a process uses a dozen of a hundred."""

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, Self, overload

from fang_postgres.names import checked_schema
from fang_postgres.statement import Statement
from fang_postgres.texts import StatementOfFile, read_ahead

if TYPE_CHECKING:
    from fang_postgres.schema import Tables


class OfSchema:
    """Holds statements, under one schema name, whose texts are in one folder."""

    folder: ClassVar = ""

    def __init__(self, schema: str) -> None:
        self.schema = checked_schema(schema)


class once:  # noqa: N801 - reads like a decorator of what builds the statement
    """An attribute that is the statement of its name. It names what builds it; see ``builder``."""

    def __init__(self, name: str, *arguments: Any, **options: Any) -> None:
        self.build = builder(name, *arguments, **options)

    def __set_name__(self, owner: type[OfSchema], name: str) -> None:
        self._name = name
        read_ahead(f"{owner.folder}{name}")

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...

    @overload
    def __get__(self, instance: OfSchema, owner: type) -> Statement: ...

    def __get__(self, instance: OfSchema | None, owner: type) -> Self | Statement:
        if instance is None:
            return self
        made = StatementOfFile(self._name, instance.schema, self.build, instance.folder)
        instance.__dict__[self._name] = made
        return made


def builder(name: str, *arguments: Any, **options: Any) -> "Callable[[Tables], Statement]":
    """Returns what builds a statement: it calls a function of ``fang_postgres.sql``, given by name, whose module is
    imported only then."""

    def build(t: "Tables") -> Statement:
        module, _, function = name.partition(".")
        made: Statement = getattr(import_module(f"fang_postgres.sql.{module}"), function)(t, *arguments, **options)
        return made

    return build


def builders_of(owner: type) -> "dict[str, Callable[[Tables], Statement]]":
    """Returns what builds each statement of a class, by its name."""
    return {name: value.build for name, value in vars(owner).items() if isinstance(value, once)}
