"""How Fang connects, whatever the driver: the URL's form, and the settings that connections of our own pin."""

from typing import Final

from sqlalchemy import make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError

from fang_core.errors import UsageError

SETTINGS: Final = {
    # A role or a database may have other defaults; each of these would break a promise.
    "default_transaction_isolation": "read committed",
    "default_transaction_read_only": "off",
    "statement_timeout": "60s",
    "lock_timeout": "10s",
    "idle_in_transaction_session_timeout": "60s",
    "client_encoding": "UTF8",
}

CONNECT_TIMEOUT: Final = 4
"""Seconds until a server that does not answer counts as down."""


def database_url(url: str | URL, driver: str | None) -> URL:
    """The URL for a driver: ``postgresql+<driver>``, or plain ``postgresql`` for None.

    Accepts ``postgres://`` and ``postgresql://``, with any driver named. Raises ``UsageError``, which never repeats the
    URL: it may hold a password.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # a port that is no number quotes what stands there: perhaps half a password
        raise UsageError("the database URL cannot be read; write postgresql://user@host/database") from None
    if parsed.get_backend_name() not in {"postgresql", "postgres"}:
        raise UsageError(f"the database URL must begin with postgresql://, not {parsed.drivername}://")
    return parsed.set(drivername="postgresql" if driver is None else f"postgresql+{driver}")
