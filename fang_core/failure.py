"""Describes an exception by a line and a traceback, cleaned and cut so that storing them can never fail.

The exception itself is not kept: its traceback keeps frames, rows and models alive.
"""

import json
import re
import traceback
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final, NamedTuple

from fang_core.errors import UnreadablePayload
from fang_core.interpreter.places import own_traceback, place

MESSAGE_BYTES: Final = 2_000
TRACEBACK_BYTES: Final = 8_000
ERRORS_KEPT: Final = 10
_CAUSES_NAMED: Final = 3
_NAME: Final = re.compile(r"\w+")


class ErrorReport(NamedTuple):
    """Holds ``message``, which is ``Type: text``, and the traceback; both are valid for Postgres' text and jsonb.

    For an exception group its first three causes follow, each in a line of its own: ``- Type: text``. ``place`` is the
    innermost line of the task's own code, or the field of a payload that cannot be read, like ``.b (missing)``: a log
    may name either, since neither holds a value. It is not stored.
    """

    message: str
    traceback: str | None
    place: str | None = None


def clean(text: str, limit: int) -> str:
    """Replaces characters that Postgres cannot store (NUL, lone surrogates) and cuts to ``limit`` bytes of UTF-8."""
    # A character is at least a byte: cut first, so that an error of 50 MB costs nothing.
    data = text[:limit].replace("\0", "\N{SYMBOL FOR NULL}").encode("utf-8", "replace")
    return data[:limit].decode("utf-8", "ignore")


def describe(error: BaseException, module: str = "") -> ErrorReport:
    """Returns a report of ``error``; never raises, whatever its ``__str__`` does. ``module`` is the task class's."""
    message = _group(error) if isinstance(error, BaseExceptionGroup) else _line(error, MESSAGE_BYTES)
    return ErrorReport(message, _trace(error, module), _place(error, module))


def origin(report: ErrorReport) -> str:
    """Returns type and place, like ``ValueError at /app/tasks.py:12``, for logs: the text may quote a payload."""
    name = _NAME.match(report.message)
    return (name[0] if name else "an exception") + (f" at {report.place}" if report.place else "")


def error_entry(attempt: int, message: str, traceback: str | None) -> str:
    """Returns the entry of one attempt in a task's error history, as JSON; the backend adds the time."""
    # No \u escapes: a database in SQL_ASCII takes any text, but refuses these.
    return json.dumps({"number": attempt, "error": message, "traceback": traceback}, ensure_ascii=False)


def text_of(value: object) -> str:
    """Returns ``str(value)``, cleaned and cut; never raises, whatever its ``__str__`` does."""
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
    """Yields the exceptions of a group and its inner groups, in order, without recursion: both may be of any size."""
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
    # Read through the built-in class, since a subclass may have replaced the attribute.
    return iter(BaseExceptionGroup.exceptions.__get__(group))


def _place(error: BaseException, module: str) -> str | None:
    """Returns the place of an error; for a group, which was raised elsewhere, with that of its first cause."""
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


def _trace(error: BaseException, module: str) -> str | None:
    """Returns only the frames: the message is kept by itself, and formatting it again could raise or cost 50 MB."""
    try:
        frames = traceback.format_tb(own_traceback(error, module), limit=-30)
    except BaseException:  # noqa: BLE001 - a report without frames is better than none
        return None
    # The innermost frames tell most: cut at the front.
    data = clean("".join(frames)[-TRACEBACK_BYTES:], 4 * TRACEBACK_BYTES).encode()
    return data[-TRACEBACK_BYTES:].decode("utf-8", "ignore")
