"""Checks passwords that an application's callable fetches for each connect, since they expire within minutes."""

import inspect
from collections.abc import Callable
from typing import Any, Final

from fang_core.errors import NotConnected, UsageError
from fang_postgres.urls.address import Address

FETCHED_WITHIN: Final = 10.0
"""Seconds that the callable has to return."""


def check_password(password: Callable[[], Any] | None, address: Address, *, may_be_async: bool) -> None:
    """Raises ``UsageError`` if it cannot fetch a password, or if the URL holds one already."""
    if password is None:
        return
    if not callable(password):
        raise UsageError("password= takes a callable that returns the password; a fixed one belongs in the URL")
    if inspect.iscoroutinefunction(password) and not may_be_async:
        raise UsageError("password= of a threaded queue takes a plain function, not an async one")
    if address.password is not None:
        raise UsageError("the database URL holds a password, and password= fetches one: leave one of them out")


def as_password(found: object) -> str:
    """Returns the password that the callable returned. Raises ``NotConnected`` if it is not a usable text."""
    if not isinstance(found, str):
        raise NotConnected(f"no password for the database: its callable returned {type(found).__name__}, not a str")
    if "\0" in found:
        raise NotConnected("no password for the database: its callable returned a text with a NUL character")
    return found


def not_fetched(error: BaseException) -> NotConnected:
    """Returns the typed error for one that the callable raised. It names only the type: the text may quote a secret."""
    if isinstance(error, NotConnected):
        return error
    return NotConnected(f"no password for the database: its callable raised {type(error).__name__}")
