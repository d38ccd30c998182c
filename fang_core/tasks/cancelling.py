"""Says why a task is to be cancelled, and who asked for it: a request to cancel leaves that in the task's row."""

from typing import NamedTuple

from fang_core.errors import UsageError
from fang_core.failure import MESSAGE_BYTES, clean
from fang_core.messages import this_process


class Cancellation(NamedTuple):
    """Says why tasks are to be cancelled, and who says so.

    Of a task that waits, ``reason`` becomes the error message. A task that is in progress keeps the first request: its
    run may have been interrupted for that already.
    """

    reason: str
    by: str

    def in_ascii(self) -> "Cancellation":
        """Returns a copy for a database that lacks a character: with Python's escapes for all that are not ASCII."""
        return Cancellation(*(text.encode("ascii", "backslashreplace").decode() for text in self))


def cancellation(reason: str, by: str | None) -> Cancellation:
    """Returns what to write; who did not say who they are is named by their process. Raises ``UsageError``."""
    for name, text in (("reason", reason), ("by", by)):
        if not (isinstance(text, str) or (name == "by" and text is None)):
            raise UsageError(f"{name} is a str, not {type(text).__name__}")
    return Cancellation(clean(reason, MESSAGE_BYTES), clean(this_process() if by is None else by, MESSAGE_BYTES))
