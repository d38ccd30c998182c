"""Says who has changed something by hand, and why: the database keeps that with a pause or a limit."""

from typing import Final, NamedTuple

from fang_core.errors import UsageError
from fang_core.failure import MESSAGE_BYTES, clean
from fang_core.messages import this_process


class Remark(NamedTuple):
    """Says who made a change, and why, if they said so."""

    by: str | None
    reason: str | None

    def in_ascii(self) -> "Remark":
        """Returns a copy for a database that lacks a character: with Python's escapes for all that are not ASCII."""
        return Remark(*(None if text is None else _escaped(text) for text in self))


NOTHING_SAID: Final = Remark(None, None)


def remark(reason: str | None, by: str | None) -> Remark:
    """Returns what to write; who did not say who they are is named by their process. Raises ``UsageError``."""
    for name, text in (("reason", reason), ("by", by)):
        if text is not None and not isinstance(text, str):
            raise UsageError(f"{name} is a str, not {type(text).__name__}")
    who = clean(this_process() if by is None else by, MESSAGE_BYTES)
    return Remark(who, None if reason is None else clean(reason, MESSAGE_BYTES))


def _escaped(text: str) -> str:
    return text.encode("ascii", "backslashreplace").decode()
