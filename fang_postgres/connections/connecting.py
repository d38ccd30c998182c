"""Sets how Fang's own connections behave with either driver: the settings that they pin, and how long they wait."""

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
    # psycopg reads only these styles, and writes a null in a list as NULL.
    "DateStyle": "ISO",
    "IntervalStyle": "postgres",
    "array_nulls": "on",
    # The drivers send spans in days, which have 23 or 25 hours when a zone moves its clocks.
    "TimeZone": "UTC",
    # A plan that looks expensive would be compiled each time it runs, which takes longer than any of Fang's statements.
    "jit": "off",
    # Statistics of a time at which few tasks waited make it look cheap to read the whole table, or all waiting tasks of
    # a type by a bitmap, and to sort them. In the next burst a claim of 500 tasks among 200,000 took 790 ms in place of
    # 30. One of limited tasks did it for each key. All statements of pools have an index that they can go by.
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
}

_OF_A_TRANSACTION: Final = {
    name: value
    for name, value in SETTINGS.items()
    if not name.startswith("default_transaction_") and name not in {"client_encoding", "idle_session_timeout"}
}
"""The settings that apply within a transaction. The encoding is a connection parameter that poolers know."""

BEGIN_PINNED: Final = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE" + "".join(
    f"; SET LOCAL {name} = '{value}'" for name, value in _OF_A_TRANSACTION.items()
)
"""Begins a transaction and pins its settings, in one message; for use behind a transaction pooler, whose clients share
sessions."""

SET_FOR_SESSION: Final = "SELECT " + ", ".join(
    f"set_config('{name}', '{value}', false)" for name, value in SETTINGS.items()
)
"""Sets them all for the session, in one statement without parameters: an application's connection might encode
parameters in its own way."""

SET_FOR_TRANSACTION: Final = "SELECT " + ", ".join(
    f"set_config('{name}', '{value}', true)" for name, value in _OF_A_TRANSACTION.items()
)
"""Sets them for one transaction, in one statement; for connections that may go through a pooler."""

TRANSACTION_TIMEOUT_SINCE: Final = 17
"""The first version of Postgres with ``transaction_timeout``. Older versions refuse a connection that sets it."""

NO_TRANSACTION_TIMEOUT: Final = "SET transaction_timeout = 0"
"""Switches it off, since it ends the session and so leaves the result of a COMMIT unknown. Each statement has a timeout
anyway."""

GUARD: Final = {
    "enable_sort": "off",
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "plan_cache_mode": "force_custom_plan",
    "jit": "off",
}
"""Settings that bring the right plans back when the statistics are too wrong for any form of a statement.

Set them with SET LOCAL, in the transaction of a claim, a completion or a prune. The case that needs them: a burst of
tasks is done, VACUUM leaves a few rows in many pages, and the next burst comes before the next ANALYZE. The planner
then takes a million waiting rows for ten, and scans them all: 1.1 s instead of 7 ms for a claim of 500.
``plan_cache_mode`` is needed because the others do not replace a plan that is cached already, and ``jit`` in a session
of an application's engine: before Postgres 18, plans with what is off look so expensive that they were compiled. Each
batch of a removal took a second of CPU then.
"""


def set_for_transaction(settings: Mapping[str, str]) -> str:
    """Returns one statement that sets them all for one transaction: psycopg prepares statements that it sends often,
    and cannot prepare several at once."""
    return "SELECT " + ", ".join(f"set_config('{name}', '{value}', true)" for name, value in settings.items())


SET_GUARD: Final = set_for_transaction(GUARD)

READING: Final = GUARD | {"statement_timeout": "500ms"}
"""Settings of the statements of lists and counts. Behind a million rows that were just removed a statement finds
nothing in this time; but it marks their entries in the index as dead, so that the next one gets further.
"""

SET_READING: Final = set_for_transaction(READING)

SET_SUMMING: Final = set_for_transaction(READING | {"statement_timeout": "5s"})
"""The same for those that add up the history: the histograms of 500 kinds in two hours of minutes are a million cells.
"""

SET_MONITORING: Final = set_for_transaction({"lock_timeout": "100ms"})
"""Limits how long a pool waits to write its history and what it does now, on connections that claims and outcomes need.
Its rows are its own: it only waits if a session has locked the table, which may last for an hour."""

SLOW_STATEMENT: Final = (
    "a claim or a completion took %.3f s, perhaps because of a wrong plan: plans are guarded for up to %.0f s; "
    "ANALYZE the task table if this is logged again"
)
"""The log line of that case, with the seconds that the statement took and the most that the guard lasts."""

DEFAULT_PORT: Final = 5432

CONNECT_TIMEOUT: Final = 4
"""Seconds until a server that does not answer counts as down."""

ANSWER_WITHIN: Final = 75.0
"""Seconds that a server has to answer one statement; after that the connection is taken for dead and replaced.

A failover, a load balancer or a NAT may drop a connection without notice: the operating system would see it after a
quarter of an hour, or never. This is the ``statement_timeout`` above plus a margin, so that the server ends a statement
that it still works on, and a claim or a completion has succeeded or failed before it is repeated. (Nothing ends a
COMMIT that waits for a synchronous standby. The next reconcile then finds what a claim did, and a completion is written
once its rows are free.)
"""

TCP: Final = {
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
"""Defaults for libpq, unless the URL says otherwise: a dead peer is noticed after 30 s to 60 s, if TCP can tell, and a
NAT sees traffic. A peer that accepts data but does not answer is alive to TCP; ``ANSWER_WITHIN`` covers that. asyncpg
has no public way to set options of its socket.
"""

UNANSWERED: Final = "no answer to a statement for {:g} s; the connection is given up"
"""The text of the error that is then raised, with the seconds."""

ENDED_WHILE_IDLE: Final = "the server ended the connection while it was idle; nothing was sent"
"""The text of the error that is raised if that happens twice in a row."""

UNUSED_FOR: Final = 60.0
"""Seconds after which an unused connection is not used again: proxies and NATs forget idle connections, some within
minutes, and the next statement would wait for ``ANSWER_WITHIN``."""

WAIT_FOR_ONE: Final = 30.0
"""Seconds to wait for a connection to become free; see ``AcquireTimeout``."""

NONE_FREE: Final = "no connection became free in time: raise max_pool_size"
"""The text of the error that is raised when they are over."""

NO_ROOM: Final = "no connection became free in time, and the server has no room for more: raise its max_connections"
"""The text that is used instead if the server had no room for another connection of the queue."""

ASK_AFTER: Final = 0.5
"""Seconds after which an unused connection is pinged before one of the application's calls uses it.

A NAT or a proxy may have forgotten it silently. The first packet then meets a reset or silence, and if that packet is
an INSERT, its result stays unknown. A busy queue's connections are never pinged."""

LIVES_WITHIN: Final = 5.0
"""Seconds that it has to answer the ping."""

RESCUE_WAITS: Final = "SET LOCAL lock_timeout = '1s'"
"""Limits how long a rescue, which a heart does between two beats, waits for locks. If another session has locked rows
or the whole table, the heart must not miss beats until it looks dead itself. It tries again after the next beat."""


ASKING_WAITS: Final = "SELECT set_config('lock_timeout', '100ms', true), set_config('statement_timeout', '2s', true)"
"""Limits, in a transaction, how long a heart asks about the tasks of its pool's runs; see ``RESCUE_WAITS``."""


def as_options(settings: Mapping[str, str]) -> str:
    """Returns settings as libpq's ``options``, so that a connection starts with them, whatever its role's are."""
    return " ".join(f"-c {name}={value.replace(' ', chr(92) + ' ')}" for name, value in settings.items())
