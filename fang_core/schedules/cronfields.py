"""Reads the text of cron patterns into the numbers that each field allows.

An accepted pattern means the same as in cronsim, the closest copy of Debian's cron for Python; tests compare the two.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple, Self

from fang_core.errors import UsageError

LAST_DAY: Final = -1  # in days: L
LAST_WEEKDAY: Final = -2  # in days: LW, the last one from Monday to Friday
LAST: Final = -1  # in nth: 5L


class _Field(NamedTuple):
    """Describes a field: its name in messages, its range, and the words for its numbers from ``low`` on."""

    name: str
    low: int
    high: int
    words: tuple[str, ...] = ()


_SECOND: Final = _Field("second", 0, 59)
_MINUTE: Final = _Field("minute", 0, 59)
_HOUR: Final = _Field("hour", 0, 23)
_DAY: Final = _Field("day of month", 1, 31)
_MONTHS: Final = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_MONTH: Final = _Field("month", 1, 12, _MONTHS)
_WEEKDAY: Final = _Field("day of week", 0, 7, ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"))
_YEAR: Final = _Field("year", 1970, 2100)  # as in the crate that Rust's Fang uses

_NICKNAMES: Final = {
    "@YEARLY": "0 0 1 1 *",
    "@ANNUALLY": "0 0 1 1 *",
    "@MONTHLY": "0 0 1 * *",
    "@WEEKLY": "0 0 * * 0",
    "@DAILY": "0 0 * * *",
    "@MIDNIGHT": "0 0 * * *",
    "@HOURLY": "0 * * * *",
}
_DAY_MARKS: Final = {"L": LAST_DAY, "LW": LAST_WEEKDAY}
_TERM: Final = re.compile(r"(?:\*|(?P<low>\w+)(?:-(?P<high>\w+))?)(?:/(?P<step>\d{1,4}))?", re.ASCII)
_NTH: Final = re.compile(r"(?P<day>\w+)#(?P<nth>[1-5])|(?P<last>[0-7])L", re.ASCII)


@dataclass(frozen=True, slots=True)
class CronFields:
    """Holds the numbers that each field allows; tuples are sorted.

    Attributes:
        years: None if every year matches.
        days: 1 to 31, ``LAST_DAY``, ``LAST_WEEKDAY``.
        weekdays: 0 (Sunday) to 6.
        nth: (weekday, 1 to 5 or ``LAST``): the nth such day of a month.
        either: whether one of the two day fields suffices; both must match if one of them starts with ``*``.
        elapsed: whether minute or hour starts with ``*``, so that the pattern means "every so often".
    """

    seconds: tuple[int, ...]
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    months: tuple[int, ...]
    years: tuple[int, ...] | None
    days: frozenset[int]
    weekdays: frozenset[int]
    nth: frozenset[tuple[int, int]]
    either: bool
    elapsed: bool

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads 5 fields, 6 (seconds first) or 7 (years last). Raises ``UsageError`` that names the field at fault."""
        fields = _split(text)
        second = fields.pop(0) if len(fields) > 5 else "0"
        year = fields.pop() if len(fields) > 5 else "*"
        minute, hour, day, month, weekday = fields
        day_terms, weekday_terms = day.split(","), weekday.split(",")
        return cls(
            seconds=_numbers(_SECOND, second.split(",")),
            minutes=_numbers(_MINUTE, minute.split(",")),
            hours=_numbers(_HOUR, hour.split(",")),
            months=_numbers(_MONTH, month.split(",")),
            years=None if year == "*" else _numbers(_YEAR, year.split(",")),
            days=frozenset(_DAY_MARKS[term] for term in day_terms if term in _DAY_MARKS)
            | frozenset(_numbers(_DAY, (term for term in day_terms if term not in _DAY_MARKS))),
            weekdays=frozenset(
                number % 7
                for number in _numbers(_WEEKDAY, (term for term in weekday_terms if not _NTH.fullmatch(term)))
            ),
            nth=frozenset(_nth(match) for match in map(_NTH.fullmatch, weekday_terms) if match),
            either=not day.startswith("*") and not weekday.startswith("*"),
            elapsed=minute.startswith("*") or hour.startswith("*"),
        )


def _split(text: str) -> list[str]:
    if not text.isascii():
        raise UsageError("a pattern is plain ASCII")
    upper = text.strip().upper()
    fields = _NICKNAMES.get(upper, upper).split()
    if len(fields) not in (5, 6, 7):
        raise UsageError(
            f"expected 5 fields (minute hour day month weekday), 6 (seconds first) or 7 (years last), not {len(fields)}"
        )
    return fields


def _numbers(field: _Field, terms: Iterable[str]) -> tuple[int, ...]:
    return tuple(sorted({number for term in terms for number in _range(field, term)}))


def _range(field: _Field, term: str) -> range:
    match = _TERM.fullmatch(term)
    if match is None:
        raise UsageError(f"{field.name} {term!r:.40} is not understood")
    low, high, step = field.low, field.high, int(match["step"] or 1)
    if match["low"]:
        low = _number(field, match["low"])
        high = _number(field, match["high"]) if match["high"] else low
        if match["step"] and low == high:
            high = field.high  # 5/15 is every fifteenth from 5 on
    if high < low:
        raise UsageError(f"{field.name} {term!r:.40} runs backward; write two ranges with a comma")
    if step == 0:
        raise UsageError(f"{field.name} {term!r:.40} has a step of 0")
    return range(low, high + 1, step)


def _number(field: _Field, word: str) -> int:
    if word in field.words:
        return field.words.index(word) + field.low
    if not word.isdigit() or len(word) > 4 or not field.low <= int(word) <= field.high:
        raise UsageError(f"{field.name} {word!r:.40} is not in {field.low}-{field.high}")
    return int(word)


def _nth(match: re.Match[str]) -> tuple[int, int]:
    if match["last"]:
        return int(match["last"]) % 7, LAST
    return _number(_WEEKDAY, match["day"]) % 7, int(match["nth"])
