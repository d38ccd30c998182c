"""Reads libpq's password file for asyncpg, whose own reader takes a line of another form for an error."""

import os
import re
import stat
import warnings
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from fang_postgres.connections.connecting import DEFAULT_PORT
from fang_postgres.urls.address import Address, Host

_NONE: Final = str(Path(os.devnull) / "none")
"""A path at which no file can be: asyncpg reads a file of its own choice unless it is given one."""

_FIELD: Final = re.compile(r"(?:^|:)((?:\\.|[^:])*)")
_ESCAPED: Final = re.compile(r"\\(.)")


def from_passfile(address: Address, hosts: Sequence[Host], environ: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Returns the arguments of ``asyncpg.connect`` that say which password the file has for the first of the hosts.

    They are empty if the URL or ``PGPASSWORD`` has the password. ``hosts`` is empty for the driver's default host.
    """
    environ = os.environ if environ is None else environ
    if address.password is not None or environ.get("PGPASSWORD") is not None:
        return {}
    user = address.login(environ)
    database = address.database or environ.get("PGDATABASE") or user
    path = address.others.get("passfile") or environ.get("PGPASSFILE") or os.path.expanduser("~/.pgpass")
    lines = _lines(Path(path))
    for host in hosts or [Host("localhost", address.port or DEFAULT_PORT)]:
        names = {host.name, "localhost"} if host.name.startswith("/") else {host.name}
        for line in lines:
            found = _password(line, [names, {str(host.port)}, {database}, {user}])
            if found:
                return {"password": found, "passfile": _NONE}
    return {"passfile": _NONE}


def _lines(path: Path) -> list[str]:
    """Returns the lines of the file; none if others may read it, as for libpq."""
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            return []
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            warnings.warn(f"the password file {path} is ignored: make it readable by you alone (0600)", stacklevel=2)
            return []
        text = path.read_bytes().decode(errors="replace")
    except OSError:
        return []
    return [line.rstrip("\r") for line in text.split("\n") if not line.startswith("#")]


def _password(line: str, wanted: Sequence[Container[str]]) -> str | None:
    """Returns the password of a line if its other fields match; None if they do not, or the line has another form."""
    fields = _FIELD.findall(line)
    if len(fields) <= len(wanted):
        return None
    if all(field == "*" or _meant(field) in allowed for field, allowed in zip(fields, wanted, strict=False)):
        return _meant(fields[len(wanted)])
    return None


def _meant(field: str) -> str:
    return _ESCAPED.sub(r"\1", field)
