"""The cursor of a list: it is read back as it was written, and nothing else is taken for one."""

from base64 import urlsafe_b64encode
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from fang_core.errors import UsageError
from fang_core.monitoring.listing import MOST_CURSOR, Place, checked_limit, checked_up_to, cursor_of, place_of

NOW = datetime(2026, 1, 1, 12, 30, 0, 123456, tzinfo=UTC)
PLACE = Place("due", ("común \x7f", -2, NOW, UUID(int=7)))


def test_a_cursor_is_read_back() -> None:
    cursor = cursor_of(PLACE, "digest")
    assert cursor.isascii()
    assert cursor.replace("-", "").replace("_", "").isalnum()  # it goes into an address as it is
    assert place_of(cursor, "digest") == PLACE
    assert place_of(cursor_of(Place("ids", ()), "digest"), "digest") == Place("ids", ())


def test_a_cursor_of_another_filter_is_refused() -> None:
    with pytest.raises(UsageError, match="cursor is that of another filter"):
        place_of(cursor_of(PLACE, "digest"), "other")


GOOD = cursor_of(PLACE, "digest")
GARBAGE: list[Any] = [
    "",
    "x",
    "é",
    "a b",
    None,
    7,
    b"abc",
    GOOD[:-1],
    GOOD[1:],
    GOOD + GOOD,
    *(GOOD[:n] + ("A" if GOOD[n] != "A" else "B") + GOOD[n + 1 :] for n in range(0, len(GOOD) - 1, 7)),
    urlsafe_b64encode(b"[" * 6_000).decode(),
    "A" * (MOST_CURSOR + 1),
]


@pytest.mark.parametrize("cursor", GARBAGE, ids=range(len(GARBAGE)))
def test_what_is_no_cursor_is_refused_in_one_line(cursor: Any) -> None:
    with pytest.raises(UsageError, match=r"^cursor [^\n]{1,80}$"):
        place_of(cursor, "digest")


@pytest.mark.parametrize(("check", "most"), [(checked_limit, 500), (checked_up_to, 100_000)])
def test_numbers_are_bounded(check: Any, most: int) -> None:
    assert (check(1), check(most)) == (1, most)
    for bad in (0, -1, most + 1, True, 1.0, "1", None):
        with pytest.raises(UsageError, match="must be"):
            check(bad)
