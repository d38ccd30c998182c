"""What a database URL says, read once for both drivers and for the command, so that it means the same to all of them.

Every parameter either holds in each of them, or is refused by its name before anything connects. What the URL does not
say is taken from the service that it names, and then from libpq's environment variables; user, password and database
are left to the drivers there, which both know ``PGUSER``, ``PGPASSWORD``, ``PGDATABASE`` and ``.pgpass``.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from configparser import ConfigParser
from configparser import Error as ConfigError
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import unquote, urlencode

from sqlalchemy import make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError

from fang_core.errors import AccessRefused, UsageError
from fang_postgres.connecting import CONNECT_TIMEOUT, DEFAULT_PORT, SETTINGS, TCP

SSL_MODES: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")

_TLS_FOR_CERTAIN: Final = SSL_MODES[3:]

_BOTH: Final = frozenset(
    {
        *("passfile", "target_session_attrs", "krbsrvname", "gsslib"),
        *("sslmode", "sslrootcert", "sslcert", "sslkey", "sslpassword", "sslcrl", "sslnegotiation"),
        *("ssl_min_protocol_version", "ssl_max_protocol_version"),
    }
)
"""What both drivers read by themselves, under libpq's names."""

_FILES: Final = frozenset({"sslrootcert", "sslcert", "sslkey", "sslcrl"})

_LIBPQ_ALONE: Final = frozenset(
    {
        *("hostaddr", "load_balance_hosts", "requirepeer"),
        *("keepalives", "keepalives_count", "keepalives_idle", "keepalives_interval", "tcp_user_timeout"),
        *("channel_binding", "require_auth", "scram_client_key", "scram_server_key", "gssdelegation", "gssencmode"),
        *("oauth_client_id", "oauth_client_secret", "oauth_issuer", "oauth_scope"),
        *("sslcertmode", "sslcompression", "sslcrldir", "sslkeylogfile", "sslsni"),
        *("max_protocol_version", "min_protocol_version"),
    }
)
"""Parameters of libpq (18) that asyncpg (0.32) does not have: it would send them to the server as settings."""

_AS_ASYNCPG_DOES: Final = {
    "channel_binding": {"disable", "prefer"},
    "gssencmode": {"disable", "prefer"},
    "load_balance_hosts": {"disable"},
    "sslcertmode": {"allow"},
    "sslcompression": {"0"},
    "sslsni": {"1"},
}
"""Values of these that ask for no more than what asyncpg does anyway."""

_READ_HERE: Final = frozenset(
    {
        *("host", "port", "user", "password", "dbname", "service"),
        *("application_name", "fallback_application_name", "client_encoding", "connect_timeout", "options"),
    }
)

_TLS_VERSIONS: Final = frozenset({"TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"})

_VALUES: Final = {
    "sslmode": frozenset(SSL_MODES),
    "sslnegotiation": frozenset({"postgres", "direct"}),
    "ssl_min_protocol_version": _TLS_VERSIONS,
    "ssl_max_protocol_version": _TLS_VERSIONS,
    "target_session_attrs": frozenset(
        {"any", "read-write", "read-only", "primary", "standby", "prefer-standby"},
    ),
}

_WHOLE_NUMBERS: Final = frozenset(
    {"keepalives", "keepalives_count", "keepalives_idle", "keepalives_interval", "tcp_user_timeout"}
)

_ENVIRONMENT: Final = {
    "host": "PGHOST",
    "port": "PGPORT",
    "service": "PGSERVICE",
    "options": "PGOPTIONS",
    "application_name": "PGAPPNAME",
    "client_encoding": "PGCLIENTENCODING",
    "gssencmode": "PGGSSENCMODE",
    "load_balance_hosts": "PGLOADBALANCEHOSTS",
    "max_protocol_version": "PGMAXPROTOCOLVERSION",
    "min_protocol_version": "PGMINPROTOCOLVERSION",
    "require_auth": "PGREQUIREAUTH",
    "sslcertmode": "PGSSLCERTMODE",
    "sslcompression": "PGSSLCOMPRESSION",
    "sslnegotiation": "PGSSLNEGOTIATION",
    "ssl_min_protocol_version": "PGSSLMINPROTOCOLVERSION",
    "ssl_max_protocol_version": "PGSSLMAXPROTOCOLVERSION",
    **{
        name: f"PG{name.replace('_', '').upper()}"
        for name in ("channel_binding", "gssdelegation", "gsslib", "hostaddr", "krbsrvname", "requirepeer", "sslcert")
    },
    **{name: f"PG{name.upper()}" for name in ("sslcrl", "sslcrldir", "sslkey", "sslmode", "sslrootcert", "sslsni")},
    "connect_timeout": "PGCONNECT_TIMEOUT",
    "target_session_attrs": "PGTARGETSESSIONATTRS",
}
"""libpq's variables. Each is read here, since asyncpg knows some of them only."""

_POOLED: Final = "make the queue with behind_pooler=True"
_SIZE: Final = "give the queue max_pool_size="
_SCHEMA: Final = "the schema of Fang's tables is schema= of the queue, and --schema of the command"
_HINTS: Final = {
    "pgbouncer": _POOLED,
    "prepareThreshold": _POOLED,
    "prepare_threshold": _POOLED,
    "prepared_statement_cache_size": _POOLED,
    "prepared_statements": _POOLED,
    "statement_cache_size": _POOLED,
    "connection_limit": _SIZE,
    "max_pool_size": _SIZE,
    "maxPoolSize": _SIZE,
    "maximumPoolSize": _SIZE,
    "pool_max_conns": _SIZE,
    "pool_size": _SIZE,
    "schema": _SCHEMA,
    "currentSchema": _SCHEMA,
    "search_path": _SCHEMA,
    "database": "write dbname=, or /database behind the host",
    "statement_timeout": "Fang's connections have one of their own",
}
"""What to do instead of a parameter that other libraries read."""
_NO_HINT: Final = "leave it out; a setting of the server is written options=-c name=value"

_OURS: Final = {name.lower(): value.lower() for name, value in SETTINGS.items()} | {"transaction_timeout": "0"}

_READ_AS: Final = "the database URL cannot be read; write postgresql://user@host/database"
_WRITE_HOSTS: Final = "several hosts in the database URL are written host:port,host:port"
_MOST_SECONDS: Final = 600
# SQLAlchemy 2.0 leaves the name of the database as it stands in the URL.
_UNQUOTES_DATABASE: Final = make_url("postgresql:///%3A").database == ":"
# libpq's form of several hosts, with the ports of which make_url cannot do anything.
_SEVERAL_HOSTS: Final = re.compile(
    r"(?P<before>[\w+]+://(?:[^:/?#@]*(?::[^@]*)?@|(?!.*@)))(?P<hosts>[^/?#@,]*,[^/?#@]*)(?:/|(?=[?#]|$))(?P<after>.*)"
)
_HOST: Final = re.compile(r"([^:\[\]]*|\[[^\]]*\])(?::(\d+))?")
_OPTION: Final = re.compile(r"(?:\\.|\S)+")
_SETTING: Final = re.compile(r"(?:-c|--)\s*([\w.-]+)=(.*)", re.DOTALL)


class Host(NamedTuple):
    """A server: a name, an address or the directory of a Unix socket."""

    name: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """What a URL says, for both drivers.

    Attributes:
        hosts: the servers in the order in which they are tried; none for the driver's default.
        port: of the default host; None for 5432.
        user, password, database: None where the driver finds them, in ``PGUSER`` and so on.
        connect_timeout: seconds in which a host has to answer; None where Fang decides.
        options: settings of the session, as libpq's ``options``.
        others: what the drivers read, under libpq's names.
    """

    hosts: tuple[Host, ...] = ()
    port: int | None = None
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    database: str | None = None
    application_name: str | None = None
    connect_timeout: int | None = None
    options: str = ""
    others: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def connects_within(self) -> float:
        """Seconds within which one of its servers has answered a connect, if any does."""
        return self.host_connects_within * max(1, len(self.hosts))

    @property
    def host_connects_within(self) -> float:
        """Seconds that each of its servers has to answer a connect."""
        return self.connect_timeout or CONNECT_TIMEOUT

    def for_psycopg(self, *, application_name: str = "fang", settings: str = "") -> dict[str, Any]:
        """Arguments of ``psycopg.connect``; these settings, as ``options``, follow those of the URL."""
        arguments: dict[str, Any] = {
            **TCP,
            **self.others,
            "application_name": self.application_name or application_name,
            "client_encoding": SETTINGS["client_encoding"],
            "connect_timeout": self.host_connects_within,
            "options": " ".join(filter(None, (self.options, settings))),
        }
        given: dict[str, Any] = {
            "user": self.user,
            "password": self.password,
            "dbname": self.database,
            "port": self.port,
        }
        if self.hosts:
            given["host"] = ",".join(host.name for host in self.hosts)
            given["port"] = ",".join(str(host.port) for host in self.hosts)
        return arguments | {name: value for name, value in given.items() if value is not None}

    def for_asyncpg(self, hosts: Sequence[Host], settings: Mapping[str, str]) -> dict[str, Any]:
        """Arguments of ``asyncpg.connect`` for some of its hosts, or none where it has none."""
        others = dict(self.others)
        system_roots = others.get("sslrootcert") == "system"
        if system_roots:
            del others["sslrootcert"], others["sslmode"]
        own = {"application_name": self.application_name or "fang"}
        arguments: dict[str, Any] = {
            "dsn": f"postgresql://?{urlencode(others)}" if others else None,
            "host": [host.name for host in hosts] or None,
            "port": [host.port for host in hosts] or self.port,
            "user": self.user,
            "password": self.password,
            "database": self.database,
            "ssl": True if system_roots else None,
            "server_settings": ({"options": self.options} if self.options else {}) | dict(settings) | own,
        }
        return {name: value for name, value in arguments.items() if value is not None}

    def refuse_missing_files(self, exists: Callable[[str], bool] = os.path.exists) -> None:
        """Raises ``AccessRefused`` for a file that is not there: libpq would connect without it, if the server lets it.

        To be asked at each connect: the files of a container's secrets come and go.
        """
        for name in sorted(_FILES & self.others.keys()):
            path = self.others[name]
            if path != "system" and not exists(path):
                raise AccessRefused(f"{name} of the database URL names a file that does not exist: {path}")

    def refuse_beyond_asyncpg(self) -> "Address":
        """The same without what asyncpg does anyway. Raises ``UsageError`` where it cannot do what the URL asks."""
        others = {
            name: value
            for name, value in self.others.items()
            if name not in _AS_ASYNCPG_DOES or value not in _AS_ASYNCPG_DOES[name]
        }
        unknown = sorted(_LIBPQ_ALONE & others.keys())
        if others.get("sslrootcert") == "system":
            unknown += sorted(others.keys() & {"sslcert", "sslkey", "sslcrl"})
        if unknown:
            names = ", ".join(map(_named, unknown))
            raise UsageError(f"asyncpg cannot honour {names}: leave that out of the database URL")
        return replace(self, others=others)


def address(
    url: str | URL,
    environ: Mapping[str, str] | None = None,
    *,
    read_text: Callable[[Path], str] = Path.read_text,
) -> Address:
    """What a URL says; ``environ`` is the process's own where it is not given.

    Accepts ``postgres://`` and ``postgresql://``, with any driver named; ``?ssl=`` as another word for ``?sslmode=``;
    several hosts in libpq's form or in SQLAlchemy's. ``read_text`` reads the file of a service, if the URL names one.
    Raises ``UsageError``, which never repeats what may be a password.
    """
    environ = os.environ if environ is None else environ
    parsed, hosts = _parsed(url)
    said = _said(parsed)
    _refuse_unknown(said)
    variables = {name: environ[key] for name, key in _ENVIRONMENT.items() if environ.get(key)}
    service = said.pop("service", None) or variables.pop("service", None)
    of_service = _of_service(service, environ, read_text) if service else {}
    if hosts or "host" in said:  # its ports are those of other hosts
        for other in (of_service, variables):
            other.pop("host", None)
            other.pop("port", None)
    elif "host" in of_service:
        variables.pop("port", None)
    known = {**variables, **of_service, **said}
    if any("\0" in value for value in known.values()):  # for libpq that is the end of all that it is told
        raise UsageError("the database URL holds a NUL character (%00): leave it out")
    _check(known, environ)
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
        others={name: value for name, value in known.items() if name in _BOTH | _LIBPQ_ALONE},
    )


def _parsed(url: str | URL) -> tuple[URL, list[str]]:
    """The URL, and its hosts where it has any in front of the database."""
    hosts: list[str] = []
    if isinstance(url, str):
        url = url.strip()  # what was read from a file ends in a line break
        _refuse_unknown(_without_value(url))  # make_url leaves them out
    try:
        if isinstance(url, str) and (several := _SEVERAL_HOSTS.match(url)):
            url, hosts = f"{several['before']}/{several['after']}", several["hosts"].split(",")
        parsed = make_url(url)
        if parsed is not url and not _UNQUOTES_DATABASE:
            parsed = parsed.set(database=parsed.database and unquote(parsed.database))
    except (ArgumentError, ValueError):  # a port that is no number quotes what stands there: perhaps half a password
        raise UsageError(_READ_AS) from None
    if parsed.get_backend_name() not in {"postgresql", "postgres"}:
        raise UsageError(f"the database URL must begin with postgresql://, not {parsed.drivername}://")
    if parsed.host and "@" in parsed.host:
        raise UsageError("the database URL has an @ too many: write one that belongs to a password as %40")
    if parsed.host:
        hosts = [unquote(host) for host in parsed.host.split(",")]
        if len(hosts) > 1 and parsed.port:  # make_url takes the last host's port for that of all
            hosts[-1] += f":{parsed.port}"
    return parsed, hosts


def _without_value(url: str) -> dict[str, str]:
    """The parameters that stand in it without a value; an @ or a ? in front of the host may belong to a password."""
    query = url.rpartition("@")[2].partition("?")[2]
    return {name: "" for name, _, value in (each.partition("=") for each in query.split("&")) if name and not value}


def _said(url: URL) -> dict[str, str]:
    """Each parameter of the URL, by libpq's name."""
    query = dict(url.normalized_query)
    if "host" in query and url.host:
        raise UsageError("the database URL names its host twice: in front of the database, and as host=")
    said = {"host": ",".join(query.pop("host"))} if "host" in query else {}
    # SQLAlchemy's asyncpg dialect says ssl.
    modes = {*query.pop("ssl", ()), *query.pop("sslmode", ())}
    if len(modes) > 1 or modes - set(SSL_MODES):
        raise UsageError(f"the database URL must name one SSL mode: write sslmode= with one of {', '.join(SSL_MODES)}")
    for name, values in query.items():
        if len(set(values)) > 1:
            raise UsageError(f"the database URL says {_named(name)} twice")
        said[name] = values[-1]
    if modes:
        said["sslmode"] = modes.pop()
    if url.port and "," not in (url.host or ""):
        if "port" in said:
            raise UsageError(_WRITE_HOSTS)
        said["port"] = str(url.port)
    for name, value in (("user", url.username), ("password", url.password), ("dbname", url.database)):
        if value:
            said.setdefault(name, str(value))
    return said


def _refuse_unknown(said: Mapping[str, str]) -> None:
    unknown = sorted(said.keys() - _READ_HERE - _BOTH - _LIBPQ_ALONE)
    if unknown:
        names = ", ".join(f"{_named(name)} ({_HINTS.get(name, _NO_HINT)})" for name in unknown)
        raise UsageError(f"the database URL says what Fang does not understand: {names}")


def _check(known: dict[str, str], environ: Mapping[str, str]) -> None:
    """Refuses values that one of the drivers would not take, or that would undo what Fang sets."""
    for name, values in _VALUES.items():
        if name in known and known[name] not in values:
            raise UsageError(f"{_named(name)} must be one of {', '.join(sorted(values))}")
    for name in sorted(_WHOLE_NUMBERS & known.keys()):
        if not known[name].isdecimal():
            raise UsageError(f"{name} must be a whole number")
    if known.get("sslnegotiation") == "direct" and known.get("sslmode") not in _TLS_FOR_CERTAIN:
        raise UsageError(f"sslnegotiation=direct needs sslmode={' or '.join(_TLS_FOR_CERTAIN)}")
    if known.get("sslrootcert") == "system" and known.setdefault("sslmode", "verify-full") != "verify-full":
        raise UsageError("sslrootcert=system needs sslmode=verify-full")
    encoding = known.pop("client_encoding", "utf8")
    if re.sub(r"\W|_", "", encoding).lower() not in {"utf8", "unicode"}:
        raise UsageError("client_encoding must be UTF8, which Fang reads and writes: leave it out of the database URL")
    style = environ.get("PGDATESTYLE", "ISO")
    if not style.upper().startswith("ISO"):
        raise UsageError("PGDATESTYLE must begin with ISO, which the drivers read: unset it")
    for name, value in _settings(known.get("options", "")):
        if name in _OURS and value.lower() != _OURS[name]:
            raise UsageError(f"options sets {name}, and so does Fang on its connections: leave it out")


def _settings(options: str) -> Iterator[tuple[str, str]]:
    """Name and value of each setting in libpq's ``options``; what else stands there is a server's, or a provider's."""
    words = iter(_OPTION.findall(options))
    for word in words:
        text = f"-c{next(words, '')}" if word == "-c" else word
        setting = _SETTING.fullmatch(re.sub(r"\\(.)", r"\1", text))
        if setting:
            yield setting[1].replace("-", "_").lower(), setting[2]


def _hosts(hosts: list[str], ports: str | None) -> tuple[Host, ...]:
    """Hosts with the ports that stand behind them, or that are listed apart: one for each, or one for all."""
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
    return Host(pair[1].strip("[]"), _port(pair[2] or port))


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


def _of_service(name: str, environ: Mapping[str, str], read_text: Callable[[Path], str]) -> dict[str, str]:
    """What the file of services says of this one."""
    places = [Path(environ["PGSERVICEFILE"])] if environ.get("PGSERVICEFILE") else [Path.home() / ".pg_service.conf"]
    if environ.get("PGSYSCONFDIR"):
        places.append(Path(environ["PGSYSCONFDIR"]) / "pg_service.conf")
    for place in places:
        services = ConfigParser(delimiters="=", comment_prefixes="#", interpolation=None, strict=False)
        try:
            services.read_string(read_text(place))
        except FileNotFoundError:
            continue
        except (OSError, ValueError, ConfigError):
            raise UsageError(f"the file of services {place} cannot be read") from None
        if services.has_section(name):
            of_service = {key: value for key, value in services.items(name) if value}
            _refuse_unknown(of_service)
            return of_service
    raise UsageError(f"service {name!a:.40} stands in none of {', '.join(map(str, places))}")


def _named(name: str) -> str:
    """A parameter's name; never what may be the end of a password."""
    return name if re.fullmatch(r"[A-Za-z_][\w.-]{0,40}", name) else "a parameter"
