"""Builds a statement when it is first used: a process uses a dozen of a hundred, and each takes milliseconds."""

from collections.abc import Callable
from typing import Protocol

from fang_postgres.schema import Tables
from fang_postgres.statement import Statement


class OnTables(Protocol):
    """What holds the statements of one schema name."""

    @property
    def tables(self) -> Tables:
        """The tables under that name."""
        ...


class once:  # noqa: N801 - reads like a decorator of what builds the statement
    """An attribute that is built from the tables when it is first read. Two threads may both build it, to the same."""

    def __init__(self, build: Callable[[Tables], Statement]) -> None:
        self._build = build

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: OnTables, owner: type) -> Statement:
        statement = instance.__dict__[self._name] = self._build(instance.tables)
        return statement


def names_of(owner: type) -> tuple[str, ...]:
    """Returns the names of all statements that a class builds."""
    return tuple(name for name, value in vars(owner).items() if isinstance(value, once))
