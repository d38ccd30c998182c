"""How Fang connects, whatever the driver: the URL's form, and the settings that connections of our own pin."""

import re
from collections.abc import Mapping
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
    # A pool's heart and its LISTEN connection are idle most of the time, and queues keep connections.
    "idle_session_timeout": "0",
    "client_encoding": "UTF8",
    # psycopg reads no other styles, and writes a null in a list as NULL.
    "DateStyle": "ISO",
    "IntervalStyle": "postgres",
    "array_nulls": "on",
    # A plan that looks expensive would be compiled each time it runs, which takes longer than any statement of ours.
    "jit": "off",
}

_OF_A_TRANSACTION: Final = {
    name: value
    for name, value in SETTINGS.items()
    if not name.startswith("default_transaction_") and name not in {"client_encoding", "idle_session_timeout"}
}
"""Those that count within one. The encoding is a parameter of the connection, which poolers know."""

BEGIN_PINNED: Final = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE" + "".join(
    f"; SET LOCAL {name} = '{value}'" for name, value in _OF_A_TRANSACTION.items()
)
"""Behind a transaction pooler, where a session is everybody's: the same for one transaction, in one message."""

SET_FOR_TRANSACTION: Final = "SELECT " + ", ".join(
    f"set_config('{name}', '{value}', true)" for name, value in _OF_A_TRANSACTION.items()
)
"""``SET LOCAL`` of the same as one statement, for connections that may go through a pooler."""

TRANSACTION_TIMEOUT_SINCE: Final = 17
"""The first version of Postgres that has one. Older ones would refuse a connection that names it among its settings."""

NO_TRANSACTION_TIMEOUT: Final = "SET transaction_timeout = 0"
"""It would end the session, so that nobody knows what became of a COMMIT. Single statements have a timeout anyway."""

GUARD: Final = {
    "enable_sort": "off",
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "plan_cache_mode": "force_custom_plan",
}
"""Settings that bring the right plans back where statistics lie too much for any form of a statement.

To be set with SET LOCAL, in the transaction of a claim, a completion or a prune. The case that needs them: a burst of
tasks is worked off, VACUUM leaves a few rows in many pages, and the next burst comes before the next ANALYZE. The
planner then takes a million waiting rows for ten, and scans them all: 1.1 s instead of 7 ms for a claim of 500. The
last setting is needed because the others do not replace a plan that is cached already.
"""

SET_GUARD: Final = "SELECT " + ", ".join(f"set_config('{name}', '{value}', true)" for name, value in GUARD.items())
"""``SET LOCAL`` of them all, as one statement: psycopg prepares what it sends often, and cannot prepare several."""

SLOW_STATEMENT: Final = (
    "a claim or a completion took %.3f s, perhaps by a wrong plan: for %.0f s plans are guarded; "
    "ANALYZE the task table if this is logged again"
)
"""What is then logged, with the seconds that it took and those that the guard holds."""

DEFAULT_PORT: Final = 5432

CONNECT_TIMEOUT: Final = 4
"""Seconds until a server that does not answer counts as down."""

ANSWER_WITHIN: Final = 75.0
"""Seconds that a server has to answer one statement; after that the connection is taken for dead and replaced.

For a failover, a load balancer or a NAT that drops a connection without telling us: the system would notice after a
quarter of an hour, or never. It is a server's ``statement_timeout`` and a margin, so that a statement which the server
still works on is ended by the server, and what a claim or a completion did is decided before it is repeated. (But for a
COMMIT that waits for a synchronous standby: nothing ends that. What it did is then found by the next reconcile, and a
completion is written once its rows are free.)
"""

TCP: Final = {
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
"""For libpq, where the URL does not say otherwise: a peer that is gone is noticed after 30 s to 60 s, where TCP can
tell, and a NAT sees traffic. What accepts data and does not answer is alive to TCP; for that there is
``ANSWER_WITHIN``. asyncpg has no public way to an option of its socket.
"""

UNANSWERED: Final = "no answer to a statement for {:g} s; the connection is given up"
"""What is then raised, with the seconds."""

UNUSED_FOR: Final = 60.0
"""Seconds after which a connection that nobody used is not used any more: what stands between forgets idle ones, some
within minutes, and the next statement would wait for ``ANSWER_WITHIN``."""

WAIT_FOR_ONE: Final = 30.0
"""Seconds for a connection to become free; see ``Patience``."""

NONE_FREE: Final = "no connection became free in time: raise max_pool_size"
"""What is then raised."""

RESCUE_WAITS: Final = "SET LOCAL lock_timeout = '1s'"
"""For a rescue, which a heart does between two beats: rows, or the whole table, that somebody else has locked must not
keep it from beating until it looks dead itself. It is tried again after the next beat."""

_SSL_MODES: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
# libpq's form of several hosts, with the ports of which make_url cannot do anything.
_SEVERAL_HOSTS: Final = re.compile(
    r"(?P<before>[\w+]+://(?:[^:/?#@]*(?::[^@]*)?@|(?!.*@)))(?P<hosts>[^/?#@,]*,[^/?#@]*)(?:/|(?=[?#]|$))(?P<after>.*)"
)
_HOST: Final = re.compile(r"([^:\[\]]*|\[[^\]]*\])(?::(\d+))?")
_WRITE_HOSTS: Final = "several hosts in the database URL are written host:port,host:port"
# Parameters of libpq (18) that asyncpg (0.32) does not know: it would send them to the server as settings.
_LIBPQ_ALONE: Final = frozenset(
    {
        *("hostaddr", "load_balance_hosts", "requirepeer", "fallback_application_name"),
        *("keepalives", "keepalives_count", "keepalives_idle", "keepalives_interval"),
        *("channel_binding", "require_auth", "scram_client_key", "scram_server_key", "gssdelegation", "gssencmode"),
        *("oauth_client_id", "oauth_client_secret", "oauth_issuer", "oauth_scope"),
        *("sslcertmode", "sslcompression", "sslcrldir", "sslkeylogfile", "sslsni"),
        *("max_protocol_version", "min_protocol_version"),
    }
)


def database_url(url: str | URL, driver: str | None) -> URL:
    """The URL for a driver: ``postgresql+<driver>``, or plain ``postgresql`` for None, which is asyncpg by itself.

    Accepts ``postgres://`` and ``postgresql://``, with any driver named, and ``?ssl=`` as another word for
    ``?sslmode=``. Several hosts, in libpq's form or in SQLAlchemy's, become ``?host=h1,h2&port=p1,p2``, which both
    drivers read. Raises ``UsageError``, also for a parameter that the driver cannot honour; it never repeats the URL,
    which may hold a password.
    """
    hosts: list[str] = []
    try:
        if isinstance(url, str) and (several := _SEVERAL_HOSTS.match(url)):
            url, hosts = f"{several['before']}/{several['after']}", several["hosts"].split(",")
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # a port that is no number quotes what stands there: perhaps half a password
        raise UsageError("the database URL cannot be read; write postgresql://user@host/database") from None
    if parsed.get_backend_name() not in {"postgresql", "postgres"}:
        raise UsageError(f"the database URL must begin with postgresql://, not {parsed.drivername}://")
    parsed = _with_hosts(_with_sslmode(parsed), hosts)
    if driver is None:
        return _for_asyncpg(parsed).set(drivername="postgresql")
    return parsed.set(drivername=f"postgresql+{driver}")


def as_options(settings: Mapping[str, str]) -> str:
    """Settings as libpq's ``options``, by which a connection has them from its start, whatever its role's are."""
    return " ".join(f"-c {name}={value.replace(' ', chr(92) + ' ')}" for name, value in settings.items())


def hosts_of(url: URL) -> list[tuple[str, str]]:
    """Host and port of each server that a URL of ``database_url`` names, where it names several; else nothing."""
    hosts = str(url.query.get("host", "")).split(",")
    ports = str(url.query.get("port", "")).split(",")
    if len(hosts) == 1:
        return []
    return list(zip(hosts, ports * len(hosts) if len(ports) == 1 else ports, strict=True))


def connect_seconds(url: URL) -> float:
    """Seconds within which one of its servers has answered a connect, if any does."""
    return CONNECT_TIMEOUT * max(1, len(hosts_of(url)))


def _with_hosts(url: URL, hosts: list[str]) -> URL:
    """In the one form of several hosts that both drivers read; as it is, where it names one."""
    if url.host and "," in url.host:  # as make_url has read it: the port is the last one's
        hosts = url.host.split(",")
        hosts[-1] += f":{url.port}" if url.port else ""
    elif not hosts:
        hosts = list(url.normalized_query.get("host", ()))
    if len(hosts) < 2:
        try:
            hosts_of(url)
        except ValueError:
            raise UsageError(_WRITE_HOSTS) from None
        return url
    pairs = [_HOST.fullmatch(host) for host in hosts]
    if not all(pairs) or "port" in url.query:
        raise UsageError(_WRITE_HOSTS)
    names = ",".join(pair[1].strip("[]") for pair in pairs if pair)
    ports = ",".join(pair[2] or str(DEFAULT_PORT) for pair in pairs if pair)
    return url._replace(host=None, port=None).update_query_dict({"host": names, "port": ports})


def _with_sslmode(url: URL) -> URL:
    """SQLAlchemy's asyncpg dialect says ``ssl``; ``sslmode``, with the same values, is known to both drivers."""
    modes = {mode for name in ("ssl", "sslmode") for mode in url.normalized_query.get(name, ())}
    if not modes:
        return url
    if len(modes) > 1 or modes.isdisjoint(_SSL_MODES):
        raise UsageError(f"the database URL must name one SSL mode: write sslmode= with one of {', '.join(_SSL_MODES)}")
    return url.difference_update_query(["ssl"]).update_query_dict({"sslmode": modes.pop()})


def _for_asyncpg(url: URL) -> URL:
    unknown = sorted(_LIBPQ_ALONE.intersection(url.query))
    if unknown:
        raise UsageError(f"asyncpg cannot honour {', '.join(unknown)}: leave that out of the database URL")
    return url.difference_update_query(["connect_timeout"])  # ours holds in both modes
