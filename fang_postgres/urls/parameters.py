"""Checks the parameters of a database URL: their names and values, and what to write instead of unknown ones."""

import re
from collections.abc import Iterator, Mapping
from typing import Final

from fang_core.errors import UsageError
from fang_postgres.connections.connecting import SETTINGS

SSL_MODES: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")

_TLS_FOR_CERTAIN: Final = SSL_MODES[3:]

BOTH: Final = frozenset(
    {
        *("passfile", "target_session_attrs", "krbsrvname", "gsslib"),
        *("sslmode", "sslrootcert", "sslcert", "sslkey", "sslpassword", "sslcrl", "sslnegotiation"),
        *("ssl_min_protocol_version", "ssl_max_protocol_version"),
    }
)
"""Parameters that both drivers read by themselves, under libpq's names."""

FILES: Final = frozenset({"sslrootcert", "sslcert", "sslkey", "sslcrl"})

LIBPQ_ALONE: Final = frozenset(
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

AS_ASYNCPG_DOES: Final = {
    "channel_binding": {"disable", "prefer"},
    "gssencmode": {"disable", "prefer"},
    "load_balance_hosts": {"disable"},
    "sslcertmode": {"allow"},
    "sslcompression": {"0"},
    "sslsni": {"1"},
}
"""Values of these that ask for asyncpg's only behaviour."""

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

ENVIRONMENT: Final = {
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
"""libpq's environment variables. All are read here, since asyncpg knows only some of them."""

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
"""What to do instead of setting a parameter that other libraries read."""

_NO_HINT: Final = "leave it out; a setting of the server is written options=-c name=value"

_OURS: Final = {name.lower(): value.lower() for name, value in SETTINGS.items() if name != "TimeZone"} | {
    "transaction_timeout": "0"
}
"""Settings that must not be set otherwise. A zone may be, since Fang's own takes its place without any effect."""

_OPTION: Final = re.compile(r"(?:\\.|\S)+")

_SETTING: Final = re.compile(r"(?:-c|--)\s*([\w.-]+)=(.*)", re.DOTALL)


def refuse_unknown(said: Mapping[str, str]) -> None:
    """Raises ``UsageError`` if one of these names is no parameter."""
    unknown = sorted(said.keys() - _READ_HERE - BOTH - LIBPQ_ALONE)
    if unknown:
        names = ", ".join(f"{named(name)} ({_HINTS.get(name, _NO_HINT)})" for name in unknown)
        raise UsageError(f"the database URL has parameters that Fang does not know: {names}")


def check_values(known: dict[str, str], environ: Mapping[str, str]) -> None:
    """Refuses values that one of the drivers would not take, or that would undo settings of Fang."""
    for name, values in _VALUES.items():
        if name in known and known[name] not in values:
            raise UsageError(f"{named(name)} must be one of {', '.join(sorted(values))}")
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
    """Yields the name and value of each setting in libpq's ``options``; anything else there is for a server or a
    provider."""
    words = iter(_OPTION.findall(options))
    for word in words:
        text = f"-c{next(words, '')}" if word == "-c" else word
        setting = _SETTING.fullmatch(re.sub(r"\\(.)", r"\1", text))
        if setting:
            yield setting[1].replace("-", "_").lower(), setting[2]


def named(name: str) -> str:
    """Returns a parameter's name for an error, but never a text that may be the end of a password."""
    return name if re.fullmatch(r"[A-Za-z_][\w.-]{0,40}", name) else "a parameter"
