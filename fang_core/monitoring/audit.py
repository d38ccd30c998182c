"""Writes and lists who has changed what on the page: ``queue.audit``, in both modes."""

from __future__ import annotations

import builtins
import json
from collections.abc import Awaitable, Mapping
from datetime import datetime
from math import isfinite
from typing import Any, Final, Generic, Literal, NamedTuple, Protocol, TypeAlias, TypeVar

from fang_core.errors import UsageError
from fang_core.failure import clean

T = TypeVar("T")

Verb: TypeAlias = Literal["list_audit", "begin_audit", "end_audit"]

TEXT_BYTES: Final = 500
"""Bytes of ``who``, ``action``, ``target`` and ``result``, which are cut."""
DETAILS_BYTES: Final = 8_000
"""The most bytes of ``details``, as JSON."""
KEPT: Final = 10_000
"""How many entries are kept on backends other than Postgres, which keeps all; older ones are removed."""
MOST_LISTED: Final = 500
"""The most entries of one list."""


class AuditEntry(NamedTuple):
    """Describes one change.

    Attributes:
        id: grows with each entry.
        at: when the change began, by the backend's clock.
        who: the name of the user.
        action: what was done, in a word or two.
        target: to what.
        details: what else was said, such as a reason.
        result: what came of it; None as long as it goes on, or for good if the process died meanwhile.
    """

    id: int
    at: datetime
    who: str
    action: str
    target: str
    details: Mapping[str, Any] | None
    result: str | None


class Beginning(NamedTuple):
    """Holds what is written of a change before it is made; ``details`` is JSON text."""

    who: str
    action: str
    target: str
    details: str | None

    def in_ascii(self) -> Beginning:
        """Returns a copy for a database that lacks a character."""
        return Beginning(_escaped(self.who), _escaped(self.action), _escaped(self.target), _escaped_json(self.details))


class AuditCall(NamedTuple, Generic[T]):
    """Names an operation of a backend on the audit, with its checked arguments."""

    verb: Verb
    args: tuple[Any, ...]


def listing(limit: int, before: int | None) -> AuditCall[list[AuditEntry]]:
    """Returns the call of ``list``. Raises ``UsageError``."""
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= MOST_LISTED:
        raise UsageError(f"limit must be a number between 1 and {MOST_LISTED}")
    if before is not None:
        _checked_entry(before, "before")
    return AuditCall("list_audit", (limit, before))


def beginning(who: str, action: str, target: str, details: Mapping[str, Any] | None) -> AuditCall[int]:
    """Returns the call of ``begin``. Raises ``UsageError``."""
    said = Beginning(
        _checked_text(who, "who"), _checked_text(action, "action"), _checked_text(target, "target"), _as_json(details)
    )
    return AuditCall("begin_audit", (said,))


def ending(entry: int, result: str) -> AuditCall[bool]:
    """Returns the call of ``end``. Raises ``UsageError``."""
    return AuditCall("end_audit", (_checked_entry(entry, "id"), _checked_text(result, "result")))


# What a queue has -----------------------------------------------------------------------------------------------------


class DoesCalls(Protocol):
    """Has the backend of a queue carry out a call."""

    def __call__(self, call: AuditCall[T], /) -> T: ...


class DoesCallsAsync(Protocol):
    """Does the same in asyncio code."""

    def __call__(self, call: AuditCall[T], /) -> Awaitable[T]: ...


class Audit:
    """Writes and lists who has changed what on the page: ``queue.audit``."""

    def __init__(self, do: DoesCalls) -> None:
        self._do = do

    def list(self, *, limit: int = 50, before: int | None = None) -> builtins.list[AuditEntry]:
        """Returns entries, the latest first.

        Args:
            limit: how many at most, 1 to 500.
            before: the id of an entry; only those before it are returned, which is the next page.

        Raises ``UsageError``.
        """
        return self._do(listing(limit, before))

    def begin(self, who: str, action: str, target: str, details: Mapping[str, Any] | None = None) -> int:
        """Writes that a change begins, and returns the id of the entry. Call it before the change.

        Args:
            who: the name of the user.
            action: what is done, in a word or two.
            target: to what.
            details: what else was said; 8,000 bytes at most, as JSON. All users of the page can see it.

        Texts are cut to 500 bytes. Raises ``UsageError``, and ``BackendError`` if it cannot be written: then do not
        make the change.
        """
        return self._do(beginning(who, action, target, details))

    def end(self, id: int, result: str) -> bool:
        """Writes what came of a change; returns False if its entry is gone, or has a result already."""
        return self._do(ending(id, result))


class AsyncAudit:
    """Writes and lists who has changed what on the page: ``queue.audit``."""

    def __init__(self, do: DoesCallsAsync) -> None:
        self._do = do

    async def list(self, *, limit: int = 50, before: int | None = None) -> builtins.list[AuditEntry]:
        """Returns entries, the latest first.

        Args:
            limit: how many at most, 1 to 500.
            before: the id of an entry; only those before it are returned, which is the next page.

        Raises ``UsageError``.
        """
        return await self._do(listing(limit, before))

    async def begin(self, who: str, action: str, target: str, details: Mapping[str, Any] | None = None) -> int:
        """Writes that a change begins, and returns the id of the entry. Call it before the change.

        Args:
            who: the name of the user.
            action: what is done, in a word or two.
            target: to what.
            details: what else was said; 8,000 bytes at most, as JSON. All users of the page can see it.

        Texts are cut to 500 bytes. Raises ``UsageError``, and ``BackendError`` if it cannot be written: then do not
        make the change.
        """
        return await self._do(beginning(who, action, target, details))

    async def end(self, id: int, result: str) -> bool:
        """Writes what came of a change; returns False if its entry is gone, or has a result already."""
        return await self._do(ending(id, result))


# Checks ---------------------------------------------------------------------------------------------------------------


def _checked_entry(value: int, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 63:
        raise UsageError(f"{name} must be the id of an entry of the audit")
    return value


def _checked_text(value: str, name: str) -> str:
    if not isinstance(value, str):
        raise UsageError(f"{name} must be a str, not {type(value).__name__}")
    return clean(value, TEXT_BYTES)


def _as_json(details: Mapping[str, Any] | None) -> str | None:
    """Returns the text of details that any backend can store. Raises ``UsageError``."""
    if details is None:
        return None
    if not isinstance(details, Mapping):
        raise UsageError(f"details must be a dict, not {type(details).__name__}")
    # No \u escapes: a database in SQL_ASCII takes any text, but refuses these.
    text = json.dumps(_plain(details), ensure_ascii=False)
    if len(text.encode()) > DETAILS_BYTES:
        raise UsageError(f"details must have {DETAILS_BYTES} bytes at most, as JSON")
    return text


def _plain(value: Any) -> Any:
    match value:
        case None | bool() | int():
            return value
        case float() if isfinite(value):
            return value
        case Mapping():
            return {clean(str(key), TEXT_BYTES): _plain(each) for key, each in value.items()}
        case builtins.list() | tuple() | set() | frozenset():
            return [_plain(each) for each in value]
        case _:
            return clean(str(value), DETAILS_BYTES)


def in_ascii(arg: Any) -> Any:
    """Returns an argument of a call in ASCII, for a database that lacks one of its characters."""
    if isinstance(arg, Beginning):
        return arg.in_ascii()
    return _escaped(arg) if isinstance(arg, str) else arg


def _escaped(text: str) -> str:
    return text.encode("ascii", "backslashreplace").decode()


def _escaped_json(text: str | None) -> str | None:
    return None if text is None else json.dumps(_all_escaped(json.loads(text)), ensure_ascii=False)


def _all_escaped(value: Any) -> Any:
    if isinstance(value, dict):
        return {_escaped(key): _all_escaped(each) for key, each in value.items()}
    if isinstance(value, builtins.list):
        return [_all_escaped(each) for each in value]
    return _escaped(value) if isinstance(value, str) else value
