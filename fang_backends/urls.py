"""Says which backend a URL names. It reads the scheme alone: the rest is for the backend, and may hold a password."""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs

from fang_core.errors import UsageError


class Engine(StrEnum):
    """A kind of backend that has URLs."""

    POSTGRES = "Postgres"
    SQLITE = "SQLite"
    REDIS = "Redis"


SCHEMES: Final[Mapping[str, Engine]] = {
    "postgresql": Engine.POSTGRES,
    "postgres": Engine.POSTGRES,
    "sqlite": Engine.SQLITE,
    "redis": Engine.REDIS,
    "rediss": Engine.REDIS,
    "unix": Engine.REDIS,
    "valkey": Engine.REDIS,
    "valkeys": Engine.REDIS,
}
"""The backend of each scheme."""

FORMS: Final = "postgresql://user@host/database, sqlite:///path/tasks.db or redis://host"
"""What URLs look like, for errors and the help of options."""


def engine_of(url: Any, /) -> Engine:
    """Returns the backend that a URL names, a text or SQLAlchemy's ``URL``. Raises ``UsageError`` if there is none."""
    scheme, separator, _ = text_of(url).partition("://")
    if not separator:
        raise UsageError(f"this is no URL of a database: write {FORMS}")
    engine = SCHEMES.get(scheme.partition("+")[0].lower())
    if engine is None:
        raise UsageError(f"there is no backend for {scheme:.40}://; there are {', '.join(f'{s}://' for s in SCHEMES)}")
    return engine


def text_of(url: Any, /) -> str:
    """Returns a URL as a text, with its password. Raises ``UsageError`` for anything but a URL."""
    if hasattr(url, "render_as_string"):  # SQLAlchemy's, which not everybody has imported
        return str(url.render_as_string(hide_password=False))
    if not isinstance(url, str):
        raise UsageError(f"a database URL is a text, not {type(url).__name__}: write {FORMS}")
    return url.strip()  # one that is read from a file ends in a line break


_SAME: Final = {"postgres": "postgresql", "valkey": "redis", "valkeys": "rediss"}
"""Other words for the same scheme."""


def shown_url(url: Any, /) -> str:
    """Returns a URL for people to see: without user, password and parameters, and with the whole path of a file.

    Two URLs of one database look alike, unless they name its host in different ways.
    """
    engine = engine_of(url)
    scheme, _, rest = text_of(url).partition("://")
    before, _, after = rest.rpartition("@")  # an @ of a password is written %40, but a ? and a / may stand as they are
    place, _, parameters = (after if before else rest).partition("?")
    authority, slash, path = place.partition("/")
    if engine is Engine.SQLITE:
        return f"sqlite:///{Path(path).absolute()}"
    scheme = _SAME.get(scheme.partition("+")[0].lower(), scheme.partition("+")[0].lower())
    database = "".join(f"?db={number}" for number in parse_qs(parameters).get("db", ())[:1])
    return f"{scheme}://{authority}{slash}{path}{database}"


def redis_url(url: Any, /) -> str:
    """Returns the URL of a Redis or a Valkey as clients of Redis read it."""
    scheme, separator, rest = text_of(url).partition("://")
    return f"{_SAME.get(scheme.lower(), scheme.lower())}{separator}{rest}"
