"""Builds the statements of ``fang doctor``. They read catalogs and statistics, never rows of tasks.

Every role may run them. A role that is not a member of ``pg_read_all_stats`` sees less of other roles' sessions.
"""

from sqlalchemy import Executable, Text, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY

from fang_postgres.schema import Tables
from fang_postgres.statement import Statement

SETTINGS = (
    "autovacuum",
    "default_transaction_isolation",
    "default_transaction_read_only",
    "idle_in_transaction_session_timeout",
    "max_connections",
    "statement_timeout",
    "superuser_reserved_connections",
    "track_counts",
)
"""The settings that are read, as a session of the role begins with them."""

_SERVER = """
SELECT clock_timestamp(), CAST(current_user AS text), pg_is_in_recovery(),
       CAST((SELECT coalesce(sum(numbackends), 0) FROM pg_stat_database) AS integer),
       pg_has_role(current_user, 'pg_read_all_stats', 'USAGE')
"""
_SETTINGS_READ = f"""
SELECT name, CASE WHEN name IN ('autovacuum', 'track_counts') THEN setting ELSE reset_val END FROM pg_settings
WHERE name = ANY(ARRAY[{", ".join(f"'{name}'" for name in SETTINGS)}])
"""
_PRIVILEGES = """
SELECT w.name, w.privilege,
       n.oid IS NOT NULL AND has_schema_privilege(n.oid, 'USAGE') AND c.oid IS NOT NULL
           AND has_table_privilege(c.oid, w.privilege),
       c.relkind = 'r' AND row_security_active(c.oid)
FROM unnest(:p_tables, :p_privileges) AS w (name, privilege)
LEFT JOIN pg_namespace AS n ON n.nspname = '{schema}'
LEFT JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relname = w.name
"""
# VACUUM holds nothing back, whatever its row says; sessions of other databases do not either. A walsender has none.
_HOLDERS = """
SELECT 'session', CAST(a.pid AS text), CAST(a.usename AS text), coalesce(a.application_name, ''), a.state,
       CAST(extract(epoch FROM clock_timestamp() - a.xact_start) AS double precision),
       greatest(age(a.backend_xmin), age(a.backend_xid))
FROM pg_stat_activity AS a
WHERE a.pid <> pg_backend_pid() AND a.usename IS NOT NULL
  AND (a.datname = current_database() OR a.datname IS NULL)
  AND (a.backend_xmin IS NOT NULL OR a.backend_xid IS NOT NULL OR a.xact_start IS NOT NULL)
  AND NOT EXISTS (SELECT FROM pg_stat_progress_vacuum AS v WHERE v.pid = a.pid)
UNION ALL
SELECT 'prepared', gid, CAST(owner AS text), '', NULL,
       CAST(extract(epoch FROM clock_timestamp() - prepared) AS double precision), age(transaction)
FROM pg_prepared_xacts WHERE database = current_database()
UNION ALL
SELECT 'slot', CAST(slot_name AS text), '', '', CASE WHEN active THEN 'active' ELSE 'inactive' END, NULL, age(xmin)
FROM pg_replication_slots WHERE xmin IS NOT NULL
"""
_TABLE = """
SELECT coalesce(array_to_string(c.reloptions, ','), ''), pg_relation_size(c.oid), CAST(c.reltuples AS double precision),
       coalesce(s.n_live_tup, 0), coalesce(s.n_dead_tup, 0), greatest(s.last_vacuum, s.last_autovacuum),
       (SELECT CAST(sum((1 - null_frac) * avg_width) AS double precision) FROM pg_stats
        WHERE schemaname = '{schema}' AND tablename = 'fang_tasks')
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace LEFT JOIN pg_stat_all_tables AS s ON s.relid = c.oid
WHERE n.nspname = '{schema}' AND c.relname = 'fang_tasks'
"""
_BROKEN_INDEXES = """
SELECT CAST(i.relname AS text) FROM pg_index AS x
JOIN pg_class AS i ON i.oid = x.indexrelid JOIN pg_namespace AS n ON n.oid = i.relnamespace
WHERE n.nspname = '{schema}' AND starts_with(CAST(i.relname AS text), 'fang_') AND NOT (x.indisvalid AND x.indisready)
ORDER BY 1
"""


def server() -> Statement:
    """Reads the clock, who asks, whether it is a standby, its connections, and whether the role sees all sessions."""
    return Statement("server", text(_SERVER))


def settings() -> Statement:
    """Reads each of ``SETTINGS``."""
    return Statement("settings", text(_SETTINGS_READ))


def privileges(t: Tables) -> Statement:
    """Reads whether the role has each of ``p_privileges`` on the table or view of the same place in ``p_tables``, and
    whether policies decide which of its rows the role sees and writes.
    """
    texts = ARRAY(Text)
    core: Executable = text(_PRIVILEGES.format(schema=t.schema)).bindparams(
        bindparam("p_tables", type_=texts), bindparam("p_privileges", type_=texts)
    )
    return Statement("privileges", core)


def holders() -> Statement:
    """Reads what may hold back VACUUM in this database, with the age of each in seconds and in transactions."""
    return Statement("holders", text(_HOLDERS))


def table(t: Tables) -> Statement:
    """Reads the size and the statistics of the task table; no row if there is none."""
    return Statement("table", text(_TABLE.format(schema=t.schema)))


def broken_indexes(t: Tables) -> Statement:
    """Reads the names of our indexes that the server does not use."""
    return Statement("broken indexes", text(_BROKEN_INDEXES.format(schema=t.schema)))
