"""Writes lengths of time for people, and reads those that people write."""

import re
from datetime import timedelta
from math import isfinite
from typing import Final

_UNITS: Final = {"s": "seconds", "m": "minutes", "min": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_WRITTEN: Final = re.compile(rf"([0-9]+(?:\.[0-9]+)?)\s*({'|'.join(_UNITS)})", re.ASCII | re.IGNORECASE)

_EXACT: Final = (("d", timedelta(days=1)), ("h", timedelta(hours=1)), ("m", timedelta(minutes=1)))

_LONGEST: Final = timedelta(days=36_525)


def span(length: float | timedelta) -> str:
    """Returns a length of time, in seconds or as a ``timedelta``, as people say it.

    ``12 ms``, ``3.2 s``, ``4 min 10 s``, ``2 d 3 h``.
    """
    value = length.total_seconds() if isinstance(length, timedelta) else float(length)
    if not isfinite(value):
        return "–"
    if value < 0:
        return "–" + span(-value)
    if value < 0.9995:
        return f"{value * 1000:.3g} ms" if value else "0 s"
    if value < 59.95:
        return f"{value:.3g} s"
    for unit, size, part, smaller in (("d", 86_400, "h", 3_600), ("h", 3_600, "min", 60), ("min", 60, "s", 1)):
        if value >= size:
            whole, rest = divmod(int(value), size)
            return f"{whole:,} {unit}" + (f" {rest // smaller} {part}" if rest // smaller else "")
    return f"{value:.0f} s"


def exact_span(length: timedelta) -> str:
    """Returns a length of time without rounding, as ``length_of`` reads it: ``90s``, ``15m``, ``6h``, ``2d``."""
    for unit, size in _EXACT:
        if length and not length % size:
            return f"{length // size}{unit}"
    return f"{length.total_seconds():.6f}".rstrip("0").rstrip(".") + "s"


def length_of(text: str) -> timedelta | None:
    """Returns the length of time that a text says, like 90s, 1.5h or 2d; None if it says none, or over 100 years."""
    found = _WRITTEN.fullmatch(text.strip())
    try:
        length = timedelta.max if found is None else timedelta(**{_UNITS[found[2].lower()]: float(found[1])})
    except OverflowError:
        return None
    return length if length <= _LONGEST else None
