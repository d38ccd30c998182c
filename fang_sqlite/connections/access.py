"""Passes the calls of a mode to the file: directly in threads, through a thread of the file's in asyncio."""

from collections.abc import Callable
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from fang_sqlite.connections.file import File
from fang_sqlite.connections.transaction import Transaction

P = ParamSpec("P")
T = TypeVar("T")


class Access(Protocol):
    """Runs plain functions that may block."""

    async def run(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs a function that may write, to its end, even if the caller is cancelled meanwhile."""
        ...

    async def look(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs a function that only reads; it does not wait for those that write."""
        ...

    async def finish(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs a function that gives things back, even if the caller is cancelled before its turn comes."""
        ...

    def close(self) -> None:
        """Ends what it has, after the calls that were made; a later call makes it again."""
        ...


class DirectAccess:
    """Runs them on the calling thread, and never suspends."""

    async def run(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """See ``Access.run``."""
        return function(*args, **kwargs)

    async def look(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """See ``Access.look``."""
        return function(*args, **kwargs)

    async def finish(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """See ``Access.finish``."""
        return function(*args, **kwargs)

    def close(self) -> None:
        """See ``Access.close``."""


def written(file: File, verb: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Runs a verb in a transaction that writes."""
    with file.writing() as tx:
        return verb(tx, *args, **kwargs)


def noted(file: File, verb: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Runs a verb in a transaction that writes what only concerns processes that live: a power cut may undo it."""
    with file.writing(durable=False) as tx:
        return verb(tx, *args, **kwargs)


def read(file: File, verb: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Runs a verb in a transaction that only reads."""
    with file.reading() as tx:
        return verb(tx, *args, **kwargs)
