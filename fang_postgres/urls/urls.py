"""Reads a database URL once, for both drivers and the command, so that it means the same to all of them.

Every parameter either holds in each of them, or is refused by its name before anything connects. A parameter that the
URL does not set is taken from the service that it names, and then from libpq's environment variables. User, password
and database are left to the drivers, which both know ``PGUSER``, ``PGPASSWORD`` and ``PGDATABASE``.
"""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import parse_qs, unquote

from fang_core.errors import UsageError
from fang_core.interpreter.imported import is_of
from fang_core.words.naming import class_and_library
from fang_core.words.texts import is_storable
from fang_postgres.connections.connecting import DEFAULT_PORT
from fang_postgres.urls.address import Address, Host
from fang_postgres.urls.parameters import BOTH, ENVIRONMENT, LIBPQ_ALONE, SSL_MODES, check_values, named, refuse_unknown
from fang_postgres.urls.services import of_service

if TYPE_CHECKING:
    from sqlalchemy import URL

_FORM: Final = "postgresql://user@host/database"

_READ_AS: Final = f"the database URL cannot be read; write {_FORM}"

_WRITE_HOSTS: Final = "several hosts in the database URL are written host:port,host:port"

_MOST_SECONDS: Final = 600

# Like SQLAlchemy's, which takes ten times as long to import as all that is done here: a password may hold a / and a ?.
_URL: Final = re.compile(
    r"(?P<scheme>[\w+]+)://(?:(?P<user>[^:/]*)(?::(?P<password>[^@]*))?@)?"
    r"(?:\[(?P<ipv6>[^/?]+)\]|(?P<host>[^/:?]+))?(?::(?P<port>[^/?]*))?(?:/(?P<database>[^?]*))?(?:\?(?P<query>.*))?"
)

# libpq's form of several hosts, whose ports the expression above cannot read.
_SEVERAL_HOSTS: Final = re.compile(
    r"(?P<before>[\w+]+://(?:[^:/?#@]*(?::[^@]*)?@|(?!.*@)))(?P<hosts>[^/?#@,]*,[^/?#@]*)(?:/|(?=[?#]|$))(?P<after>.*)"
)

_HOST: Final = re.compile(r"([^:\[\]]*|\[[^\]]*\])(?::(\d+))?")


def address(
    url: "str | URL",
    environ: Mapping[str, str] | None = None,
    *,
    read_text: Callable[[Path], str] = Path.read_text,
) -> Address:
    """Returns the address that a URL describes; ``environ`` is the process's own if it is not given.

    Accepts ``postgres://`` and ``postgresql://``, with any driver named; ``?ssl=`` as another word for ``?sslmode=``;
    several hosts in libpq's form or in SQLAlchemy's. ``read_text`` reads the file of a service, if the URL names one.
    Raises ``UsageError``, which never repeats what may be a password.
    """
    environ = os.environ if environ is None else environ
    parsed, hosts = _parsed(url)
    said = _said(parsed)
    refuse_unknown(said)
    variables = {name: environ[key] for name, key in ENVIRONMENT.items() if environ.get(key)}
    service = said.pop("service", None) or variables.pop("service", None)
    from_service = of_service(service, environ, read_text) if service else {}
    if hosts or "host" in said:  # its ports are those of other hosts
        for other in (from_service, variables):
            other.pop("host", None)
            other.pop("port", None)
    elif "host" in from_service:
        variables.pop("port", None)
    known = {**variables, **from_service, **said}
    if not all(map(is_storable, (*hosts, *known.values()))):  # libpq would stop reading at a NUL
        raise UsageError("the database URL holds a NUL character (%00), or bytes that are not UTF-8: leave them out")
    check_values(known, environ)
    port = known.pop("port", None)
    listed = known.pop("host", "")
    where = _hosts(hosts or (listed.split(",") if listed else []), port)
    return Address(
        hosts=where,
        port=None if where or port is None else _port(port),
        user=known.pop("user", None),
        password=known.pop("password", None),
        database=known.pop("dbname", None),
        application_name=known.pop("application_name", None) or known.pop("fallback_application_name", None),
        connect_timeout=_seconds(known.pop("connect_timeout", None)),
        options=known.pop("options", ""),
        others={name: value for name, value in known.items() if name in BOTH | LIBPQ_ALONE},
    )


class _Url(NamedTuple):
    """The parts of a URL, decoded."""

    scheme: str
    user: str | None
    password: str | None
    host: str | None
    port: int | None
    database: str | None
    query: Mapping[str, Sequence[str]]


def _parsed(url: "str | URL") -> tuple[_Url, list[str]]:
    """Returns the parsed URL, and its hosts if it has any in front of the database."""
    hosts: list[str] = []
    if isinstance(url, str):
        url = url.strip()  # a URL read from a file ends in a line break
        refuse_unknown(_without_value(url))  # which the query is read without
        if several := _SEVERAL_HOSTS.match(url):
            url, hosts = f"{several['before']}/{several['after']}", several["hosts"].split(",")
        parsed = _parts(url)
    elif is_of(url, "sqlalchemy.engine.url", "URL"):
        password = None if url.password is None else str(url.password)
        parsed = _Url(url.drivername, url.username, password, url.host, url.port, url.database, url.normalized_query)
    else:  # a pydantic URL, or an engine where none is taken
        raise UsageError(f"a database URL is a text like {_FORM}, not {class_and_library(url)}")
    if parsed.scheme.partition("+")[0] not in {"postgresql", "postgres"}:
        raise UsageError(f"the database URL must begin with postgresql://, not {parsed.scheme}://")
    if parsed.host and "@" in parsed.host:
        raise UsageError("the database URL has an @ too many: write one that belongs to a password as %40")
    if parsed.host:
        hosts = [unquote(host) for host in parsed.host.split(",")]
        if len(hosts) > 1 and parsed.port:  # it is the last host's, and was taken for the port of all
            hosts[-1] += f":{parsed.port}"
    return parsed, hosts


def _parts(url: str) -> _Url:
    found = _URL.match(url)
    if found is None:
        raise UsageError(_READ_AS)
    user, password, database = (
        None if part is None else unquote(part) for part in found.group("user", "password", "database")
    )
    try:
        port = int(found["port"]) if found["port"] else None
    except ValueError:  # whose text is perhaps half a password
        raise UsageError(_READ_AS) from None
    host = found["host"] or found["ipv6"]
    return _Url(found["scheme"], user, password, host, port, database, parse_qs(found["query"] or ""))


def _without_value(url: str) -> dict[str, str]:
    """Returns the URL's parameters without a value. An @ or a ? in front of the host may belong to a password."""
    query = url.rpartition("@")[2].partition("?")[2]
    return {name: "" for name, _, value in (each.partition("=") for each in query.split("&")) if name and not value}


def _said(url: _Url) -> dict[str, str]:
    """Returns the parameters of the URL, by libpq's names."""
    query = dict(url.query)
    if "host" in query and url.host:
        raise UsageError("the database URL names its host twice: in front of the database, and as host=")
    said = {"host": ",".join(query.pop("host"))} if "host" in query else {}
    # SQLAlchemy's asyncpg dialect says ssl.
    modes = {*query.pop("ssl", ()), *query.pop("sslmode", ())}
    if len(modes) > 1 or modes - set(SSL_MODES):
        raise UsageError(f"the database URL must name one SSL mode: write sslmode= with one of {', '.join(SSL_MODES)}")
    for name, values in query.items():
        if len(set(values)) > 1:
            raise UsageError(f"the database URL says {named(name)} twice")
        said[name] = values[-1]
    if modes:
        said["sslmode"] = modes.pop()
    if url.port and "," not in (url.host or ""):
        if "port" in said:
            raise UsageError(_WRITE_HOSTS)
        said["port"] = str(url.port)
    for name, value in (("user", url.user), ("password", url.password), ("dbname", url.database)):
        if value:
            said.setdefault(name, str(value))
    return said


def _hosts(hosts: list[str], ports: str | None) -> tuple[Host, ...]:
    """Returns the hosts with their ports, which follow each host or are listed apart: one for each, or one for all."""
    apart: list[str | None] = [*ports.split(",")] if ports else [None]
    if len(apart) not in {1, len(hosts)}:
        raise UsageError(_WRITE_HOSTS)
    return tuple(_host(host, apart[place % len(apart)]) for place, host in enumerate(hosts))


def _host(text: str, port: str | None) -> Host:
    if text.startswith("/") or (text.count(":") > 1 and not text.startswith("[")):
        return Host(text, _port(port))  # a directory, or an IPv6 address without brackets
    pair = _HOST.fullmatch(text)
    if pair is None or (pair[2] and port):
        raise UsageError(_WRITE_HOSTS)
    name = pair[1].strip("[]")
    try:
        name.encode("idna")  # as Python does when it looks the host up
    except UnicodeError:
        raise UsageError(
            "the database URL names a host that cannot exist: see its dots, and that no part is long"
        ) from None
    return Host(name, _port(pair[2] or port))


def _port(text: str | None) -> int:
    try:
        port = int(text or DEFAULT_PORT)
    except ValueError:
        raise UsageError(_WRITE_HOSTS) from None
    if not 0 < port < 65536:
        raise UsageError("a port in the database URL must be from 1 to 65535")
    return port


def _seconds(text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isdecimal() or not 0 < int(text) <= _MOST_SECONDS:
        raise UsageError(f"connect_timeout must be whole seconds, from 1 to {_MOST_SECONDS}")
    return int(text)
