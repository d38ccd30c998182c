"""Writes counts and shares, and texts of rows, which any client may have written."""

from math import isfinite


def printable(line: str) -> str:
    """Returns a line without terminal codes."""
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in line)


def cut(text: object, most: int = 200) -> str:
    """Returns a text on one line, of at most this many characters."""
    line = " ".join(str(text).split())
    return line if len(line) <= most else line[: most - 1] + "…"


def counted(count: int, noun: str, nouns: str = "") -> str:
    """Returns a count with its noun, like ``1 task`` or ``1,000 tasks``."""
    return f"{count:,} {noun if count == 1 else nouns or noun + 's'}"


def percent(share: float | None) -> str:
    """Returns a share of 0 to 1 in percent; a share that is not zero is never shown as 0 %."""
    if share is None or not isfinite(share):
        return "–"
    value = share * 100
    if 0 < value < 0.1:
        return "< 0.1 %"
    return f"{value:.0f} %" if value >= 9.95 or not value else f"{value:.2g} %"


def is_storable(text: str) -> bool:
    """Returns whether every backend can hold the text: it has no NUL and no lone surrogate.

    Python makes such surrogates of bytes on a command line that are no UTF-8.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text
