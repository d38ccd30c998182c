"""Defines the tables, and makes them. Their names begin with ``fang_``, as the file may be the application's own.

An id is a blob of 16 bytes, a time or a span an integer of microseconds (times since 1970, UTC), a flag 0 or 1, and
what has parts is JSON. The columns have the names and the meaning of those on Postgres.
"""

import sqlite3
from typing import Final

from fang_core.errors import SchemaError

OLDEST_SQLITE: Final = (3, 38, 0)
"""From this version on JSON is always there, and so are ``RETURNING`` and ``STRICT``."""

POOL_ID: Final = "length(id) = 16"
"""Whether the id of a pool is one. Other programs may write rows with other ids: no process beats for them."""

DUE: Final = "state IN ('new', 'retried')"
ENDED: Final = "state IN ('failed', 'finished', 'cancelled')"
"""The conditions of indexes: a statement must have the same text, or SQLite does not use them."""

_FIRST: Final = (
    # A rowid table: with payloads of 2 kB it took a fifth to a half less time than one WITHOUT ROWID.
    """CREATE TABLE fang_tasks (
  id BLOB NOT NULL PRIMARY KEY,
  metadata TEXT NOT NULL,
  kind TEXT NOT NULL,
  task_type TEXT NOT NULL,
  state TEXT NOT NULL DEFAULT 'new'
    CHECK (state IN ('new', 'in_progress', 'retried', 'failed', 'finished', 'cancelled')),
  priority INTEGER NOT NULL DEFAULT 0 CHECK (priority BETWEEN -2 AND 2),
  retries INTEGER NOT NULL DEFAULT 0,
  max_retries INTEGER,
  crashes INTEGER NOT NULL DEFAULT 0,
  attempt INTEGER NOT NULL DEFAULT 0,
  scheduled_at INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL,
  error_message TEXT,
  errors TEXT NOT NULL DEFAULT '[]',
  pool_id BLOB,
  claimed_at INTEGER,
  uniq_hash TEXT,
  headers TEXT,
  timeout INTEGER,
  expires_at INTEGER,
  cancel_request TEXT,
  group_limit INTEGER,
  lane TEXT,
  uniq_waiting TEXT
) STRICT""",
    # For claims: the due tasks of a type, by priority and time, with all that decides whether a claim takes one. The
    # state is in it although all its entries have one of two: without it each entry costs a look at the row.
    f"""CREATE INDEX fang_tasks_due ON fang_tasks
  (task_type, priority, scheduled_at, id, kind, crashes, group_limit, state) WHERE {DUE}""",
    # For pools that claim retries first.
    """CREATE INDEX fang_tasks_retried ON fang_tasks
  (task_type, priority, scheduled_at, id, kind, crashes, group_limit, state) WHERE state = 'retried'""",
    # Uniqueness, decided by the engine: among tasks that have not ended, and among those that were never claimed.
    f"""CREATE UNIQUE INDEX fang_tasks_uniq ON fang_tasks (uniq_hash)
  WHERE uniq_hash IS NOT NULL AND NOT ({ENDED})""",
    f"""CREATE UNIQUE INDEX fang_tasks_uniq_waiting ON fang_tasks (uniq_waiting)
  WHERE uniq_waiting IS NOT NULL AND attempt = 0 AND NOT ({ENDED})""",
    # What a pool holds.
    "CREATE INDEX fang_tasks_held ON fang_tasks (pool_id) WHERE pool_id IS NOT NULL",
    # For the pruner, and for lists of what has ended.
    f"CREATE INDEX fang_tasks_ended ON fang_tasks (state, task_type, updated_at, id) WHERE {ENDED}",
    # For people who look at the failures of a kind.
    "CREATE INDEX fang_tasks_failed_kinds ON fang_tasks (kind, updated_at, id) WHERE state = 'failed'",
    # For claims of managed types: due tasks key by key, and what runs. Tasks of other types have no lane.
    f"""CREATE INDEX fang_tasks_lanes ON fang_tasks
  (task_type, priority, lane, scheduled_at, id, kind, crashes, group_limit, state) WHERE lane IS NOT NULL AND {DUE}""",
    """CREATE INDEX fang_tasks_running ON fang_tasks (task_type, lane)
  WHERE lane IS NOT NULL AND state = 'in_progress'""",
    # The periods of unique tasks; ``until`` is null for no end.
    """CREATE TABLE fang_uniques (
  hash TEXT NOT NULL PRIMARY KEY,
  task_id BLOB NOT NULL,
  inserted_at INTEGER NOT NULL,
  until INTEGER
) STRICT, WITHOUT ROWID""",
    "CREATE INDEX fang_uniques_task ON fang_uniques (task_id)",
    "CREATE INDEX fang_uniques_until ON fang_uniques (until) WHERE until IS NOT NULL",
    # Counters of the pools, and marks of waiting ones, change each second: they are in files next to the database.
    """CREATE TABLE fang_pools (
  id BLOB NOT NULL PRIMARY KEY,
  mode TEXT NOT NULL,
  host TEXT NOT NULL,
  pid INTEGER NOT NULL,
  task_types TEXT NOT NULL,
  kinds TEXT NOT NULL,
  workers INTEGER NOT NULL,
  started_at INTEGER NOT NULL,
  stopping INTEGER NOT NULL DEFAULT 0,
  lease INTEGER NOT NULL,
  max_crashes INTEGER NOT NULL,
  isolated_kinds TEXT NOT NULL DEFAULT '[]',
  runs TEXT
) STRICT, WITHOUT ROWID""",
    """CREATE TABLE fang_live (
  pool_id BLOB NOT NULL PRIMARY KEY,
  at INTEGER NOT NULL,
  busy INTEGER NOT NULL DEFAULT 0,
  waiting INTEGER NOT NULL DEFAULT 0,
  runs TEXT NOT NULL DEFAULT '[]'
) STRICT, WITHOUT ROWID""",
    """CREATE TABLE fang_messages (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  pool_id BLOB NOT NULL,
  sent_at INTEGER NOT NULL,
  sender TEXT,
  kind TEXT NOT NULL,
  body TEXT NOT NULL DEFAULT '{}'
) STRICT""",
    "CREATE INDEX fang_messages_pool ON fang_messages (pool_id)",
    # Managed types, ``managed`` as JSON. Plain claims leave a type alone until ``managed_until``. Waiting tasks of the
    # type may lack a lane behind the place ``adopt_from``: a priority, a due time and an id; null when all have one.
    """CREATE TABLE fang_types (
  task_type TEXT NOT NULL PRIMARY KEY,
  managed TEXT NOT NULL,
  managed_until INTEGER NOT NULL,
  adopt_from TEXT
) STRICT, WITHOUT ROWID""",
    # The rates of single keys.
    """CREATE TABLE fang_lanes (
  task_type TEXT NOT NULL,
  lane TEXT NOT NULL,
  tat INTEGER NOT NULL,
  PRIMARY KEY (task_type, lane)
) STRICT, WITHOUT ROWID""",
    # Schedules, ``info`` as JSON; ``task_type`` is null unless it is stored here what it inserts, and when.
    """CREATE TABLE fang_schedules (
  name TEXT NOT NULL PRIMARY KEY,
  task_type TEXT,
  info TEXT NOT NULL
) STRICT""",
    "CREATE INDEX fang_schedules_type ON fang_schedules (task_type) WHERE task_type IS NOT NULL",
    # History: the counts of a minute or an hour, ``row`` as JSON, overwritten by their writer alone.
    """CREATE TABLE fang_stats (
  span INTEGER NOT NULL,
  at INTEGER NOT NULL,
  writer BLOB NOT NULL,
  task_type TEXT NOT NULL,
  kind TEXT NOT NULL,
  row TEXT NOT NULL,
  PRIMARY KEY (span, at, writer, task_type, kind)
) STRICT, WITHOUT ROWID""",
    # For adding up minutes: those that pools have written, and that were not added up yet.
    "CREATE INDEX fang_stats_written ON fang_stats (at) WHERE span = 60 AND writer <> zeroblob(16)",
    """CREATE TABLE fang_audit (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  at INTEGER NOT NULL,
  who TEXT NOT NULL,
  action TEXT NOT NULL,
  target TEXT NOT NULL,
  details TEXT,
  result TEXT
) STRICT""",
    "CREATE TABLE fang_version (version INTEGER NOT NULL) STRICT",
)

STEPS: Final = (_FIRST,)
"""What leads from each version to the next one."""

VERSION: Final = len(STEPS)
"""The version of the tables that this library was made for."""


def version_of(connection: sqlite3.Connection) -> int:
    """Returns the version of the tables in a file; 0 if there are none.

    It is in a table, as ``PRAGMA user_version`` belongs to the application whose file it may be.
    """
    if not connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'fang_version'").fetchone():
        return 0
    found = connection.execute("SELECT max(version) FROM fang_version").fetchone()[0]
    return int(found or 0)


def check_version(version: int) -> bool:
    """Returns whether the tables are as this library needs them. Raises ``SchemaError`` if they are of a later one."""
    if version > VERSION:
        raise SchemaError(f"the tables are of version {version}, and this library knows {VERSION}: install a later one")
    return version == VERSION


def migrate(connection: sqlite3.Connection) -> None:
    """Makes the tables, or brings them up to date, inside of the transaction that the connection is in."""
    version = version_of(connection)
    if check_version(version):
        return
    for step in STEPS[version:]:
        for statement in step:
            connection.execute(statement)
    connection.execute("DELETE FROM fang_version")
    connection.execute("INSERT INTO fang_version VALUES (?)", (VERSION,))
