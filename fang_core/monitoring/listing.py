"""Defines what a list of tasks and a count say, and the cursor that leads from one page to the next. Pure."""

import binascii
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final, NamedTuple
from uuid import UUID

from fang_core.errors import UsageError
from fang_core.record import Task
from fang_core.words.texts import counted

MOST_LISTED: Final = 500
"""The most tasks of a page."""

MOST_COUNTED: Final = 100_000
"""The most tasks that a count can be asked to count exactly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskPage:
    """One page of a list of tasks.

    Attributes:
        tasks: the tasks, as they were when they were read; error messages are cut to 200 characters, and ``errors`` is
            empty: ``find_task_by_id`` reads them whole.
        cursor: give it to the next call, with the same filter; None if there are no more.
        looked_at: how many tasks were looked at for this page.
        stopped: whether the time for a page ran out before it was full. There may be more: go on with ``cursor``.
        looked_to: how far that was, in the order of the list: the time of the last task that was looked at. Which time
            it is depends on the order: see docs/finding-tasks.md. None if none was looked at.
    """

    tasks: tuple[Task, ...]
    cursor: str | None
    looked_at: int
    stopped: bool
    looked_to: datetime | None


class Count(NamedTuple):
    """Says how many tasks match a filter.

    Attributes:
        count: how many.
        is_exact: whether that is all of them. Otherwise ``count`` is how many were found before the bound or the time
            for a count was reached: there are at least this many.
        estimate: how many the database expects, if that is more than were found; it may be wrong many times over.
            None if all were counted, or nothing is known.
    """

    count: int  # type: ignore[assignment]  # a tuple has a method of this name
    is_exact: bool
    estimate: int | None = None


def in_words(count: Count, noun: str = "task", nouns: str = "") -> str:
    """Returns a count with its noun, like ``1 task`` or ``at least 1,000 tasks (the database estimates 3,000)``."""
    told = counted(count.count, noun, nouns)
    if count.is_exact:
        return told
    estimated = "" if count.estimate is None else f" (the database estimates {count.estimate:,})"
    return f"at least {told}{estimated}"


def checked_limit(limit: int) -> int:
    """Returns how many tasks a page may have. Raises ``UsageError``."""
    return _checked_number("limit", limit, MOST_LISTED)


def checked_up_to(up_to: int) -> int:
    """Returns up to how many tasks a count is exact. Raises ``UsageError``."""
    return _checked_number("up_to", up_to, MOST_COUNTED)


def _checked_number(name: str, value: int, most: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise UsageError(f"{name} must be an int, not {type(value).__name__}")
    if not 1 <= value <= most:
        raise UsageError(f"{name} must be between 1 and {most}")
    return value


# The cursor -----------------------------------------------------------------------------------------------------------

Key = tuple[str | int | datetime | UUID, ...]
"""Where a task stands in the order of a list."""


class Place(NamedTuple):
    """Says where a list goes on: behind this key, in the order of this walk."""

    walk: str
    key: Key


MOST_CURSOR: Final = 8_192
"""The most characters of a cursor."""

_VERSION: Final = 1
_CHECKSUM: Final = 8  # bytes
NO_CURSOR: Final = "cursor is not one that list_tasks returned: leave it out for the first page"
"""The text of the error for what is no cursor."""

_READ: Final[dict[str, Callable[[Any], Any]]] = {"s": str, "i": int, "t": datetime.fromisoformat, "u": UUID}


def cursor_of(place: Place, digest: str) -> str:
    """Returns the cursor of a place in the list of the filter with this digest."""
    key = [_written(value) for value in place.key]
    text = json.dumps([_VERSION, digest, place.walk, key], separators=(",", ":")).encode()
    return urlsafe_b64encode(_checksum(text) + text).decode().rstrip("=")


def _written(value: str | int | datetime | UUID) -> list[str | int]:
    match value:
        case UUID():  # or a driver's own class derived from it
            return ["u", value.hex]
        case datetime():
            return ["t", value.astimezone(UTC).isoformat()]
        case int():
            return ["i", value]
    return ["s", value]


def place_of(cursor: str, digest: str) -> Place:
    """Returns the place of a cursor.

    Raises ``UsageError`` if it is no cursor, one of another version, or of a filter with another digest.
    """
    if not isinstance(cursor, str):
        raise UsageError(f"cursor must be a str, not {type(cursor).__name__}")
    try:
        if len(cursor) > MOST_CURSOR:
            raise ValueError
        data = urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4))
        text = data[_CHECKSUM:]
        if data[:_CHECKSUM] != _checksum(text):
            raise ValueError
        version, of_filter, walk, key = json.loads(text)
        if version != _VERSION:
            raise ValueError
        place = Place(walk, tuple(_READ[tag](value) for tag, value in key))
    except (ValueError, TypeError, KeyError, binascii.Error, RecursionError):
        raise UsageError(NO_CURSOR) from None
    if of_filter != digest:
        raise UsageError("cursor is that of another filter: leave it out for the first page")
    return place


def _checksum(text: bytes) -> bytes:
    return sha256(b"fang-cursor" + text).digest()[:_CHECKSUM]
