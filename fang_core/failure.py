"""What is kept of an exception: a line and a traceback, cleaned and cut so that storing them can never fail.

The exception itself is not kept: its traceback keeps frames, rows and models alive.
"""

import re
import traceback
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final, NamedTuple

from fang_core.errors import UnreadablePayload
from fang_core.places import place

MESSAGE_BYTES: Final = 2_000
TRACEBACK_BYTES: Final = 8_000
ERRORS_KEPT: Final = 10
_CAUSES_NAMED: Final = 3
_NAME: Final = re.compile(r"\w+")


class ErrorReport(NamedTuple):
    """``message`` is ``Type: text``; both parts are valid for Postgres' text and jsonb.

    Of an exception group the first three causes follow, each in a line of its own: ``- Type: text``. ``place`` is the
    innermost line of the task's own code, or the field of a payload that cannot be read, like ``.b (missing)``: a log
    may name either, since neither holds a value. It is not stored.
    """

    message: str
    traceback: str | None
    place: str | None = None


def clean(text: str, limit: int) -> str:
    """Replaces what Postgres cannot store (NUL, lone surrogates) and cuts to ``limit`` bytes of UTF-8."""
    # A character is at least a byte: cut first, so that an error of 50 MB costs nothing.
    data = text[:limit].replace("\0", "\N{SYMBOL FOR NULL}").encode("utf-8", "replace")
    return data[:limit].decode("utf-8", "ignore")


def describe(error: BaseException, module: str = "") -> ErrorReport:
    """Never raises, whatever ``error`` does in its ``__str__``. ``module`` is that of the task's class."""
    message = _group(error) if isinstance(error, BaseExceptionGroup) else _line(error, MESSAGE_BYTES)
    return ErrorReport(message, _trace(error), _place(error, module))


def origin(report: ErrorReport) -> str:
    """Type and place, like ``ValueError at /app/tasks.py:12``: what a log may say. The text may quote a payload."""
    name = _NAME.match(report.message)
    return (name[0] if name else "an exception") + (f" at {report.place}" if report.place else "")


def text_of(value: object) -> str:
    """``str(value)``, cleaned and cut, whatever its ``__str__`` does."""
    try:
        return clean(str.__str__(str(value)), MESSAGE_BYTES)
    except BaseException as inner:  # noqa: BLE001 - the user's __str__ may raise anything, SystemExit included
        return f"<its __str__ raised {type(inner).__name__}>"


def _line(error: BaseException, limit: int) -> str:
    name = type(error).__name__
    text = text_of(error)
    return clean(f"{name}: {text}" if text else name, limit)


def _group(group: BaseExceptionGroup[Any]) -> str:
    leaves = list(islice(_leaves(group), _CAUSES_NAMED + 1))
    share = MESSAGE_BYTES // (1 + _CAUSES_NAMED) - len("\n- ")
    causes = [_line(leaf, share) for leaf in leaves[:_CAUSES_NAMED]]
    more = ["..."] if len(leaves) > _CAUSES_NAMED else []
    return "\n- ".join([_line(group, share - len("\n- ...")), *causes, *more])


def _leaves(group: BaseExceptionGroup[Any]) -> Iterator[BaseException]:
    """What a group and the groups in it hold, in order; lazily, and without recursion: both may be of any size."""
    open_groups = [_held_by(group)]
    while open_groups:
        held = next(open_groups[-1], None)
        if held is None:
            open_groups.pop()
        elif isinstance(held, BaseExceptionGroup):
            open_groups.append(_held_by(held))
        else:
            yield held


def _held_by(group: BaseExceptionGroup[Any]) -> Iterator[BaseException]:
    # The attribute of the built-in class: a subclass may have put anything in its place.
    return iter(BaseExceptionGroup.exceptions.__get__(group))


def _place(error: BaseException, module: str) -> str | None:
    """Of a group also that of its first cause: its own is where it was gathered."""
    try:
        if isinstance(error, UnreadablePayload) and error.reason:
            return f"{error.path or 'the payload as a whole'} ({error.reason})"
        found = place(error, module)
        first = next(_leaves(error), None) if isinstance(error, BaseExceptionGroup) else None
        if found is None or first is None:
            return found
        return f"{found} ({origin(ErrorReport(type(first).__name__, None, place(first, module)))})"
    except BaseException:  # noqa: BLE001 - a report without a place is better than none
        return None


def _trace(error: BaseException) -> str | None:
    """The frames only: the message stands beside it, and formatting it again could raise or cost 50 MB."""
    try:
        frames = traceback.format_tb(error.__traceback__, limit=-30)
    except BaseException:  # noqa: BLE001 - a report without frames is better than none
        return None
    # The innermost frames tell most: cut at the front.
    data = clean("".join(frames)[-TRACEBACK_BYTES:], 4 * TRACEBACK_BYTES).encode()
    return data[-TRACEBACK_BYTES:].decode("utf-8", "ignore")
