"""Reads what a browser sends: every parameter has a type and bounds; what does not fit is refused in one line."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import timedelta
from typing import Final, TypeVar
from urllib.parse import parse_qsl
from uuid import UUID

from starlette.requests import Request

from fang_web.errors import BadRequest, NotAForm, TooLarge

T = TypeVar("T")

MOST_QUERY: Final = 8_192
"""Bytes of a query string."""
MOST_FORM: Final = 2 << 20
"""Bytes of a form."""
MOST_FIELDS: Final = 2_000
"""Fields of a query string or a form."""

SPANS: Final[Mapping[str, timedelta]] = {
    "15m": timedelta(minutes=15),
    "1h": timedelta(hours=1),
    "6h": timedelta(hours=6),
    "1d": timedelta(days=1),
    "7d": timedelta(days=7),
    "30d": timedelta(days=30),
}
"""The lengths of time that a page looks back, by their names."""


class Parameters:
    """Holds the parameters of a query string or of a form.

    Each method returns the value of one of them, or what stands for a missing one. They raise ``BadRequest``.
    """

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        self._values: dict[str, list[str]] = {}
        for name, value in pairs:
            self._values.setdefault(name, []).append(value)

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def text(self, name: str, *, most: int = 200, default: str = "") -> str:
        """Returns a text of at most this many characters, without spaces around it."""
        value = self._one(name)
        if value is None:
            return default
        if len(value) > most:
            raise BadRequest(f"{name} has {most} characters at most")
        return value.strip()

    def raw(self, name: str, *, most: int) -> str | None:
        """Returns a text as it was sent, or None if it was not sent."""
        value = self._one(name)
        if value is not None and len(value) > most:
            raise BadRequest(f"{name} has {most} characters at most")
        return value

    def required(self, name: str, *, most: int = 500) -> str:
        """Returns a text that must be there."""
        value = self.raw(name, most=most)
        if not value:
            raise BadRequest(f"{name} is missing")
        return value

    def texts(self, name: str, *, most: int = 200, many: int = 100) -> tuple[str, ...]:
        """Returns all values of a parameter that may be given several times."""
        values = self._values.get(name, [])
        if len(values) > many:
            raise BadRequest(f"{name} is given {many} times at most")
        if any(len(value) > most for value in values):
            raise BadRequest(f"{name} has {most} characters at most")
        return tuple(value.strip() for value in values)

    def choice(self, name: str, choices: Collection[str], *, default: str) -> str:
        """Returns one of some words."""
        value = self._one(name)
        if value is None or value == "":
            return default
        if value not in choices:
            raise BadRequest(f"{name} is one of {', '.join(choices)}")
        return value

    def whole(self, name: str, *, least: int, most: int, default: int) -> int:
        """Returns a whole number within bounds."""
        value = self._one(name)
        if value is None or value == "":
            return default
        if not re.fullmatch(r"-?[0-9]{1,18}", value, re.ASCII) or not least <= int(value) <= most:
            raise BadRequest(f"{name} is a whole number between {least} and {most}")
        return int(value)

    def number(self, name: str, *, least: float, most: float, default: float) -> float:
        """Returns a number within bounds, written with at most 18 characters."""
        value = self._one(name)
        if value is None or value == "":
            return default
        if not re.fullmatch(r"-?[0-9]{1,12}(\.[0-9]{1,6})?", value, re.ASCII) or not least <= float(value) <= most:
            raise BadRequest(f"{name} is a number between {least:g} and {most:g}")
        return float(value)

    def flag(self, name: str) -> bool:
        """Returns whether a box was ticked."""
        return self.choice(name, ("1", "0"), default="0") == "1"

    def id(self, name: str) -> UUID | None:
        """Returns the id of a task or pool."""
        value = self._one(name)
        return None if value is None or value == "" else checked_uuid(value, name)

    def since(self, name: str = "since", *, default: str = "1h") -> tuple[str, timedelta]:
        """Returns how far to look back: one of ``SPANS``, with its name."""
        chosen = self.choice(name, SPANS, default=default)
        return chosen, SPANS[chosen]

    def items(self) -> list[tuple[str, str]]:
        """Returns all of them, in the order in which they were sent by name."""
        return [(name, value) for name, values in self._values.items() for value in values]

    def _one(self, name: str) -> str | None:
        values = self._values.get(name)
        if values is None:
            return None
        if len(values) > 1:
            raise BadRequest(f"{name} is given once")
        return values[0]


def checked_uuid(value: str, name: str) -> UUID:
    """Returns the id that a text spells in the usual way. Raises ``BadRequest``."""
    if not re.fullmatch(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", value, re.ASCII):
        raise BadRequest(f"{name} is an id such as 01890a5d-ac96-774b-bcce-b302099a8057")
    return UUID(value)


def checked_name(value: str, name: str, *, most: int = 500) -> str:
    """Returns a name that is part of a path. Raises ``BadRequest``."""
    if not 0 < len(value) <= most or "\0" in value or not _is_unicode(value):
        raise BadRequest(f"{name} has 1 to {most} characters")
    return value


def of_query(request: Request) -> Parameters:
    """Returns the parameters of the query string. Raises ``BadRequest``."""
    query: bytes = request.scope.get("query_string", b"")
    if len(query) > MOST_QUERY:
        raise BadRequest(f"the address has more than {MOST_QUERY} bytes after its question mark")
    return _parsed(query)


async def of_form(request: Request) -> Parameters:
    """Returns the fields of a form; reads no more than it takes. Raises ``NotAForm``, ``TooLarge``, ``BadRequest``."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise NotAForm("a change is posted as a form: application/x-www-form-urlencoded")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_FORM:
            raise TooLarge(f"the form has more than {MOST_FORM >> 20} MiB")
    return _parsed(bytes(body))


def _parsed(text: bytes) -> Parameters:
    try:
        pairs = parse_qsl(
            text.decode("ascii"), keep_blank_values=True, encoding="utf-8", errors="strict", max_num_fields=MOST_FIELDS
        )
    except UnicodeDecodeError:
        raise BadRequest("parameters are written in UTF-8, with percent signs") from None
    except ValueError:
        raise BadRequest(f"there are more than {MOST_FIELDS} parameters") from None
    if any("\0" in name or "\0" in value for name, value in pairs):
        raise BadRequest("parameters have no NUL characters")
    return Parameters(pairs)


def _is_unicode(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
