"""How connections of our own behave, whatever the driver: the settings that they pin, and how long they wait."""

from collections.abc import Mapping
from typing import Final

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

SET_FOR_SESSION: Final = "SELECT " + ", ".join(
    f"set_config('{name}', '{value}', false)" for name, value in SETTINGS.items()
)
"""``SET`` of them all as one statement without parameters, which an application's connection might encode in its own
way."""

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

ENDED_WHILE_IDLE: Final = "the server ended the connection while it was idle; nothing was sent"
"""What is then raised, if that happens twice in a row."""

UNUSED_FOR: Final = 60.0
"""Seconds after which a connection that nobody used is not used any more: what stands between forgets idle ones, some
within minutes, and the next statement would wait for ``ANSWER_WITHIN``."""

WAIT_FOR_ONE: Final = 30.0
"""Seconds for a connection to become free; see ``Patience``."""

NONE_FREE: Final = "no connection became free in time: raise max_pool_size"
"""What is then raised."""

NO_ROOM: Final = "no connection became free in time, and the server has no room for more: raise its max_connections"
"""What is raised instead if it was the server that kept the queue from making another one."""

ASK_AFTER: Final = 0.5
"""Seconds after which an unused connection is asked whether it still lives before a call of the application's uses it.

A NAT or a proxy may have forgotten it without a word. The first packet then meets a reset or silence, and if that is an
INSERT, nobody knows whether it was written. A busy queue's connections are never asked."""

LIVES_WITHIN: Final = 5.0
"""Seconds within which it has to answer."""

RESCUE_WAITS: Final = "SET LOCAL lock_timeout = '1s'"
"""For a rescue, which a heart does between two beats: rows, or the whole table, that somebody else has locked must not
keep it from beating until it looks dead itself. It is tried again after the next beat."""


def as_options(settings: Mapping[str, str]) -> str:
    """Settings as libpq's ``options``, by which a connection has them from its start, whatever its role's are."""
    return " ".join(f"-c {name}={value.replace(' ', chr(92) + ' ')}" for name, value in settings.items())
