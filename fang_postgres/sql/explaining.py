"""Builds the statement that reads all that decides why a task is not running, in one snapshot.

Each fact is a subquery of its own on the one row of the task, with its condition in its own WHERE: what does not
concern the task is not read. As joins, with the conditions in ON, they were computed in any case, and it took 75 to
100 ms. The only value in the statement is the task's id.

What pools count with fresh snapshots behind locks (see ``flow``) is read here as the statement's snapshot has it.
"""

from typing import Any, Final

from sqlalchemy import DateTime, Integer, Text, bindparam, cast, func, literal_column, select
from sqlalchemy import text as raw
from sqlalchemy.dialects.postgresql import UUID
from sqlalchemy.sql.elements import ColumnElement

from fang_core.monitoring.facts import MOST_AHEAD, MOST_HOLDERS
from fang_core.record import HIGHEST_PRIORITY
from fang_postgres.schema import EARLIEST, WAITS_IN_LANE, Tables
from fang_postgres.sql.fragments import IS_MANAGED, aliased, task_columns
from fang_postgres.sql.managing import type_columns
from fang_postgres.statement import Statement

MOST_POOLS: Final = 100
"""How many of the pools that serve a type are looked at; those that know the kind come first."""

_COUNTED: Final = 1_000
"""Of how many tasks that fill a limit the oldest are named."""


def explain(t: Tables) -> Statement:
    """Reads the task, and what stands in its way."""
    task, s = aliased(t.tasks, "t"), t.types.alias("s")
    one = select(literal_column("1").label("one")).subquery("one")
    rows = one.outerjoin(task, task.c.id == bindparam("p_id", type_=UUID)).outerjoin(
        s, s.c.task_type == task.c.task_type
    )
    managed = [column.label(f"s_{column.name}") for column in type_columns(s.c)]
    found = select(
        cast(func.clock_timestamp(), DateTime(timezone=True)).label("now"),
        *(_fact(t, name, Text) for name in _TEXTS),
        *(_fact(t, name, Integer) for name in _COUNTS),
        *(_fact(t, name, DateTime(timezone=True)) for name in _TIMES),
        *managed,
        *task_columns(t, task.c),
    ).select_from(rows)
    parts = [raw(sql).columns().cte(name).prefix_with("MATERIALIZED") for name, sql in _PARTS.items()]
    return Statement("explain", found.add_cte(*parts))


def _fact(t: Tables, name: str, type_: Any) -> ColumnElement[Any]:
    parts: dict[str, str] = _TEXTS | _COUNTS | _TIMES
    return literal_column(parts[name].replace("<SCHEMA>", t.schema), type_).label(name)


_HERE: Final = "(SELECT d.oid FROM pg_database d WHERE d.datname = current_database())"

_PARTS: Final = {
    # Once for the statement, as each call looks at all of them.
    "locks": """
  SELECT k.locktype, k.database, k.relation, k.transactionid, k.classid, k.objid, k.objsubid, k.mode, k.pid
  FROM pg_locks k WHERE k.granted AND k.pid <> pg_backend_pid()""",
    # The function behind pg_stat_activity, which needs no rights on that view. It hides what the role may not see.
    "sessions": """
  SELECT a.pid, a.xact_start, a.application_name, a.state, a.state_change FROM pg_stat_get_activity(NULL) a""",
    # Which hearts hold their locks, by the first half of the pools' ids, and for how long these sessions are quiet.
    "hearts": f"""
  SELECT lpad(to_hex(CAST(k.classid AS bigint)), 8, '0') || lpad(to_hex(CAST(k.objid AS bigint)), 8, '0') AS key,
    extract(epoch FROM clock_timestamp() - a.state_change) AS quiet
  FROM locks k LEFT JOIN sessions a ON a.pid = k.pid
  WHERE k.locktype = 'advisory' AND k.objsubid = 1 AND k.database = {_HERE}""",
}

_WAITS: Final = "t.state IN ('new', 'retried')"
_IS_DUE: Final = f"{_WAITS} AND t.scheduled_at <= now()"

_POOL: Final = """p.id, p.mode, p.host, p.pid, p.workers, p.stopping,
      CASE WHEN p.locks AND NOT pg_is_in_recovery() THEN h.key IS NOT NULL END, h.quiet,
      extract(epoch FROM clock_timestamp() - v.at), p.beats, v.busy, v.waiting,
      t.kind = ANY (p.kinds), t.kind = ANY (p.isolated_kinds)"""

_POOLS: Final = """"<SCHEMA>".fang_pools p LEFT JOIN "<SCHEMA>".fang_live v ON v.pool_id = p.id
    LEFT JOIN LATERAL (SELECT hearts.key, hearts.quiet FROM hearts
      WHERE hearts.key = left(replace(CAST(p.id AS text), '-', ''), 16) LIMIT 1) h ON true"""

_SESSION: Final = "json_build_array(k.pid, a.xact_start, a.application_name, a.state)"
_LOCKS: Final = "locks k LEFT JOIN sessions a ON a.pid = k.pid"


def _holders(which: str, limit: str) -> str:
    return f"""(
    SELECT CAST(json_agg(json_build_array(o.id, o.kind, o.pool_id, p.host || ':' || p.pid, o.claimed_at)
      ORDER BY o.claimed_at, o.id) AS text)
    FROM (
      SELECT x.* FROM (
        SELECT r.id, r.kind, r.pool_id, r.claimed_at FROM "<SCHEMA>".fang_tasks r
        WHERE {_IS_DUE} AND s.{limit} IS NOT NULL AND r.task_type = t.task_type AND r.state = 'in_progress' AND {which}
        ORDER BY r.lane LIMIT {_COUNTED}) x
      ORDER BY x.claimed_at, x.id LIMIT {MOST_HOLDERS}) o
    LEFT JOIN "<SCHEMA>".fang_pools p ON p.id = o.pool_id)"""


def _running(which: str, limit: str) -> str:
    # In the order of its index, as ``fang_running_1`` counts them, and no further than needed.
    return f"""(
    SELECT count(*) FROM (
      SELECT 1 FROM "<SCHEMA>".fang_tasks r
      WHERE {_IS_DUE} AND s.{limit} IS NOT NULL AND r.task_type = t.task_type AND r.state = 'in_progress' AND {which}
      ORDER BY r.lane LIMIT (SELECT greatest(s.{limit}, 0))) held)"""


_ANY_LANE: Final = "r.lane >= ''"
_OF_LANE: Final = "r.lane >= t.lane AND r.lane <= t.lane"

_ROW: Final = "b.task_type = t.task_type AND b.scheduled_at <= now()"
_ANY_WAITING: Final = "b.state IN ('new', 'retried')"
_SAME_LANE: Final = f"b.lane = t.lane AND {WAITS_IN_LANE.format('b.state')}"
_BEFORE: Final = "(b.scheduled_at, b.id) < (t.scheduled_at, t.id)"


def _ahead(rows: str, when: str) -> str:
    """Returns a search for rows before the task, level by level. At its own level its place bounds the walk."""
    return f"""
      (SELECT 1 FROM generate_series({HIGHEST_PRIORITY}, CAST(t.priority AS integer) - 1) g(level)
       CROSS JOIN LATERAL (
         SELECT 1 FROM "<SCHEMA>".fang_tasks b
         WHERE {when} AND {_ROW} AND {rows} AND b.priority = CAST(g.level AS smallint)
         ORDER BY b.scheduled_at, b.id LIMIT {MOST_AHEAD}) x LIMIT {MOST_AHEAD})
      UNION ALL
      (SELECT 1 FROM "<SCHEMA>".fang_tasks b
       WHERE {when} AND {_ROW} AND {rows} AND b.priority = t.priority AND {_BEFORE}
       ORDER BY b.scheduled_at, b.id LIMIT {MOST_AHEAD})"""


_HAS_LANES: Final = f"coalesce({IS_MANAGED}, false) AND t.lane IS NOT NULL"

_LIVE: Final = "CASE WHEN jsonb_typeof(v.runs) = 'array' THEN v.runs END"
"""The live runs of a pool; the table does not check that they are a list."""

_TEXTS: Final[dict[str, str]] = {
    "holder": f"""(
    SELECT CAST(json_build_array({_POOL},
      CAST(p.runs -> CAST(t.id AS text) AS text), jsonb_array_length({_LIVE}),
      (SELECT CAST(r AS text) FROM jsonb_array_elements({_LIVE}) r WHERE r ->> 0 = CAST(t.id AS text) LIMIT 1),
      v.at >= t.claimed_at) AS text)
    FROM {_POOLS}
    WHERE t.state = 'in_progress' AND p.id = t.pool_id)""",
    "pools": f"""(
    SELECT CAST(json_agg(x.told) AS text) FROM (
      SELECT json_build_array({_POOL}) AS told
      FROM {_POOLS}
      WHERE {_IS_DUE} AND t.task_type = ANY (p.task_types)
      ORDER BY t.kind = ANY (p.kinds) DESC, p.started_at, p.id LIMIT {MOST_POOLS}) x)""",
    "holders": _holders(_ANY_LANE, "max_running"),
    "key_holders": _holders(_OF_LANE, "max_running_per_key"),
    "locked_by": f"""(
    SELECT CAST({_SESSION} AS text)
    FROM {_LOCKS}
    WHERE {_WAITS} AND k.locktype = 'transactionid' AND k.mode = 'ExclusiveLock' AND k.transactionid = t.xmax
    LIMIT 1)""",
    "table_locked_by": f"""(
    SELECT CAST({_SESSION} AS text)
    FROM {_LOCKS}
    WHERE {_WAITS} AND k.locktype = 'relation' AND k.relation = CAST('"<SCHEMA>".fang_tasks' AS regclass)
      AND k.database = {_HERE} AND k.mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock') LIMIT 1)""",
    # The lock that each transaction has on its own number is shown to every role.
    "writer": f"""(
    SELECT CAST({_SESSION} AS text)
    FROM {_LOCKS}
    WHERE {_IS_DUE} AND k.locktype = 'transactionid' AND k.mode = 'ExclusiveLock'
    ORDER BY age(k.transactionid) DESC LIMIT 1)""",
}
"""Facts as JSON texts."""

_COUNTS: Final[dict[str, str]] = {
    "registered": "(SELECT count(*) FROM \"<SCHEMA>\".fang_pools p WHERE p.mode <> 'manual')",
    "running": _running(_ANY_LANE, "max_running"),
    "key_running": _running(_OF_LANE, "max_running_per_key"),
    "ahead": f"""(
    SELECT least(count(*), {MOST_AHEAD}) FROM ({_ahead(_ANY_WAITING, f"{_IS_DUE} AND NOT ({_HAS_LANES})")}
      UNION ALL {_ahead(_SAME_LANE, f"{_IS_DUE} AND {_HAS_LANES}")}) before)""",
}


def _served(kind: str, knows: str) -> str:
    """Returns when such a task was run last, if no pool could run one now: from the minutes of two hours, or else from
    the hours of a week."""

    def last(span: int, since: str) -> str:
        return f"""(SELECT h.at FROM "<SCHEMA>".fang_stats h
        WHERE {_IS_DUE} AND h.span = {span} AND h.at > now() - interval '{since}' AND h.task_type = t.task_type{kind}
          AND h.started > 0 AND NOT EXISTS (
            SELECT 1 FROM "<SCHEMA>".fang_pools p WHERE t.task_type = ANY (p.task_types){knows})
        ORDER BY h.at DESC LIMIT 1)"""

    return f"(SELECT greatest({last(60, '2 hours')}, {last(3_600, '7 days')}))"


_TIMES: Final[dict[str, str]] = {
    "tat": f"""(
    SELECT greatest(u.tat, {EARLIEST}) FROM "<SCHEMA>".fang_turns u
    WHERE s.rate_interval IS NOT NULL AND u.task_type = t.task_type)""",
    "key_tat": f"""(
    SELECT greatest(l.tat, {EARLIEST}) FROM "<SCHEMA>".fang_lanes l
    WHERE s.key_rate_interval IS NOT NULL AND l.task_type = t.task_type AND l.lane = t.lane)""",
    "served_at": _served(" AND h.kind = t.kind", " AND t.kind = ANY (p.kinds)"),
    "type_served_at": _served("", ""),
}
