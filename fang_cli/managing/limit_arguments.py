"""Reads what people write as limits: rates, keys and weights. Everything raises ``UsageError``, in one line."""

import re
from datetime import timedelta
from typing import Final

from fang_core.errors import UsageError

_PERIODS: Final = {
    **dict.fromkeys(("s", "sec", "second"), timedelta(seconds=1)),
    **dict.fromkeys(("m", "min", "minute"), timedelta(minutes=1)),
    **dict.fromkeys(("h", "hour"), timedelta(hours=1)),
    **dict.fromkeys(("d", "day"), timedelta(days=1)),
}


def rate(name: str, value: str) -> tuple[int, timedelta, int | None]:
    """Returns how many starts in how long, and how many of them at once if that is said, of a rate like 10/s.

    ``100/min`` and ``5/30s`` are rates, too; ``10/s,20`` lets 20 start at once.
    """
    found = re.fullmatch(r"(\d{1,18})/(\d{0,18})([a-z]+)(?:,(\d{1,18}))?", value.strip().lower(), re.ASCII)
    if found is None or found[3] not in _PERIODS:
        raise UsageError(f"{name} must be a rate such as 10/s, 100/min or 5/30s, not {value!r:.40}")
    try:
        per = int(found[2] or 1) * _PERIODS[found[3]]
    except OverflowError:
        raise UsageError(f"{name}: the period of {value!r:.40} is too long") from None
    return int(found[1]), per, None if found[4] is None else int(found[4])


def key(value: str) -> str | tuple[str, ...]:
    """Returns the field that makes the key of tasks, or the fields in a list with commas."""
    names = tuple(name.strip() for name in value.split(","))
    return names[0] if len(names) == 1 else names


def weight(value: str) -> tuple[str, int]:
    """Returns a key and its weight, as in ``acme=3``."""
    found = re.fullmatch(r"(.*)=(\d{1,18})", value, re.DOTALL | re.ASCII)
    if found is None:
        raise UsageError(f"--weight must be a key and a whole number, as in acme=3, not {value!r:.40}")
    return found[1], int(found[2])
