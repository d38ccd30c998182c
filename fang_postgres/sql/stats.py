"""Builds the statements for the history: the flush of a pool, and what adds up and removes rows.

A flush overwrites the rows of its own pool, so no two pools meet at a row, and it may be repeated. Its commit is not
waited for: a server that dies loses as little as a pool that is killed.

The parts are texts, since arrays with subscripts of their own have no other form.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import (
    CTE,
    BigInteger,
    Boolean,
    DateTime,
    Double,
    Integer,
    Interval,
    SmallInteger,
    Text,
    TextClause,
    and_,
    any_,
    bindparam,
    cast,
    delete,
    func,
    literal_column,
    or_,
    select,
    text,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import ARRAY, UUID
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.types import TypeEngine

from fang_core.monitoring.history import HOUR
from fang_postgres.names import COUNTERS, HISTOGRAMS, SUMS
from fang_postgres.schema import Tables
from fang_postgres.statement import Statement

_MOMENT: Final = DateTime(timezone=True)
_BINDS: Final[dict[str, TypeEngine[Any]]] = {
    "p_at": DateTime(timezone=True),
    "p_since": DateTime(timezone=True),
    "p_writer": UUID(as_uuid=True),
    "p_rows": Text(),
    "p_latest": Interval(),
    "p_after": Interval(),
    "p_keep": Interval(),
    "p_keep_minutes": Interval(),
    "p_hours": Boolean(),
    "p_lasts": Interval(),
    "p_task_types": ARRAY(Text),
    "p_kinds": ARRAY(Text),
}
_DIALECT: Final = postgresql.dialect()  # type: ignore[no-untyped-call]
_NUMBERS: Final = (*COUNTERS, *SUMS)
_COLUMNS: Final = (*_NUMBERS, *HISTOGRAMS)
_KEY: Final = "span, at, writer, task_type, kind"
_MERGED: Final = "'00000000-0000-0000-0000-000000000000'::uuid"
_LOCK: Final = 1_718_514_000
"""The seed of the hash that names the lock of those who add up the history of a schema."""


def flush_stats(t: Tables) -> Statement:
    """Writes the rows of a pool under a minute, unless that is too long ago; returns the time, and whether it did."""
    typed = ", ".join(
        [
            "task_type text",
            "kind text",
            *(f"{name} bigint" for name in COUNTERS),
            *(f"{name} double precision" for name in SUMS),
            *(f"{name} text" for name in HISTOGRAMS),
        ]
    )
    values = ", ".join([*(f"n.{name}" for name in _NUMBERS), *(f"CAST(n.{name} AS integer[])" for name in HISTOGRAMS)])
    overwritten = ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS)
    parts = {
        "allowed": """SELECT :p_at >= now() - :p_latest AS is_in_time
  FROM (SELECT set_config('synchronous_commit', 'off', true) AS is_set) s WHERE is_set IS NOT NULL""",
        "written": f"""INSERT INTO <SCHEMA>.fang_stats AS s (at, writer, task_type, kind, {", ".join(_COLUMNS)})
  SELECT :p_at, :p_writer, n.task_type, n.kind, {values}
  FROM jsonb_to_recordset(CAST(:p_rows AS jsonb)) AS n({typed})
  WHERE (SELECT is_in_time FROM allowed)
  ON CONFLICT ({_KEY}) DO UPDATE SET {overwritten}
  RETURNING 1""",
        "told": "SELECT now() AS now, is_in_time FROM allowed",
    }
    return _statement(t, "flush_stats", parts, now=_MOMENT, is_in_time=Boolean())


def unmerged_minute(t: Tables) -> Statement:
    """Takes the lock, for the transaction, and returns the first minute whose rows are to become one; null for none.

    It begins to look at ``p_since``, so that it does not read all that are kept each time.
    """
    first = f"""SELECT CASE WHEN {_TRY_LOCK} THEN (
  SELECT s.at FROM <SCHEMA>.fang_stats s
  WHERE s.span = 60 AND s.at >= coalesce(:p_since, '-infinity') AND s.at < now() - :p_after AND s.writer > {_MERGED}
  ORDER BY s.at LIMIT 1) END AS at"""
    return _statement(t, "unmerged_minute", {"first": first}, at=_MOMENT)


def merge_minute(t: Tables) -> Statement:
    """Makes the rows of a minute one for each task type and kind; returns how many it has made."""
    old = "DELETE FROM <SCHEMA>.fang_stats WHERE span = 60 AND at = :p_at AND at < now() - :p_after RETURNING *"
    parts = {"old": old, **_ADDED_UP, "made": _made(60), "told": _COUNTED}
    return _statement(t, "merge_minute", parts, made=BigInteger())


def unfolded_hour(t: Tables) -> Statement:
    """Takes the lock, and returns the first hour that is over, has minutes, and has not been added up; null for none.

    Its last minute has been merged before: minutes come first.
    """
    first = f"""SELECT CASE WHEN {_TRY_LOCK} THEN (
  SELECT h.at FROM generate_series(
    (SELECT date_trunc('hour', greatest(min(s.at), now() - interval '4 days'), 'UTC')
     FROM <SCHEMA>.fang_stats s WHERE s.span = 60),
    now() - :p_after - interval '1 hour', interval '1 hour') h(at)
  WHERE EXISTS (SELECT FROM <SCHEMA>.fang_stats s
      WHERE s.span = 60 AND s.at >= h.at AND s.at < h.at + interval '1 hour')
    AND NOT EXISTS (SELECT FROM <SCHEMA>.fang_stats d WHERE d.span = 3600 AND d.at = h.at)
  ORDER BY h.at LIMIT 1) END AS at"""
    return _statement(t, "unfolded_hour", {"first": first}, at=_MOMENT)


def fold_hour(t: Tables) -> Statement:
    """Adds up the minutes of the hour that begins at ``p_at``, over what is there."""
    return _statement(t, "fold_hour", _folding(":p_at", ""), made=BigInteger())


def refold_hour(t: Tables) -> Statement:
    """Adds up the minutes of the hour of ``p_at`` again, if that was done before: the minute came late.

    That happens only if the database's clock was set back, since a pool writes to no minute that may be merged.
    """
    hour = "date_trunc('hour', :p_at, 'UTC')"
    condition = f"AND EXISTS (SELECT FROM <SCHEMA>.fang_stats d WHERE d.span = 3600 AND d.at = {hour})"
    return _statement(t, "refold_hour", _folding(hour, condition), made=BigInteger())


def prune_stats(t: Tables) -> Statement:
    """Removes old rows: whole hours of minutes, and hours."""
    c = t.stats.c
    ages = (cast(bindparam(name, type_=Interval), Interval) for name in ("p_keep_minutes", "p_keep"))
    minutes, hours = (func.now() - age for age in ages)
    hour: ColumnElement[str] = literal_column("'hour'")
    zone: ColumnElement[str] = literal_column("'UTC'")
    old = or_(
        and_(c.span == literal_column("60"), c.at < func.date_trunc(hour, minutes, zone)),
        and_(c.span == literal_column("3600"), c.at < hours),
    )
    return Statement("prune_stats", delete(t.stats).where(old).returning(c.at))


def read_stats(t: Tables) -> Statement:
    """Reads the sums of a range: a row for each task type and kind, and one for each time and role.

    The role is 0 for the rows of pools, 1 for rows asked for, 2 for the rest.
    """
    names = ", ".join(
        [*(f"{_counter(name)} AS {name}" for name in COUNTERS), *(f"{_sum(name)} AS {name}" for name in SUMS)]
    )
    summed = f"""SELECT w.at, w.span, w.role, w.task_type, w.kind, {names},
    (SELECT since FROM range) AS since, now() AS until
  FROM (SELECT wanted.*, {_ROLE} AS role FROM wanted) w
  GROUP BY GROUPING SETS ((w.task_type, w.kind), (w.at, w.span, w.role), ())"""
    numbers: dict[str, TypeEngine[Any]] = dict.fromkeys(COUNTERS, BigInteger()) | dict.fromkeys(SUMS, Double(53))
    columns: dict[str, TypeEngine[Any]] = {
        "at": _MOMENT, "span": SmallInteger(), "role": Integer(), "task_type": Text(), "kind": Text(),
        **numbers, "since": _MOMENT, "until": _MOMENT,
    }  # fmt: skip
    return _statement(t, "read_stats", _WANTED | {"summed": summed}, **columns)


def _counter(name: str) -> str:
    """Returns the sum of a counter, even if rows written by hand hold no numbers, or add up to more than a bigint."""
    return f"least(coalesce(sum({name}) FILTER (WHERE {name} >= 0), 0), {2**62})::bigint"


def _sum(name: str) -> str:
    """Returns the sum of seconds, without those that are infinite, or no number."""
    return f"coalesce(sum({name}) FILTER (WHERE {name} BETWEEN 0 AND 1e15), 0)"


def read_histograms(t: Tables) -> Statement:
    """Reads the histograms of a range, of the rows asked for: how many were in each bucket, in the queue (1), or ran
    (2)."""
    summed = f"""SELECT w.task_type, w.kind, x.what, x.b, least(sum(x.n), 1e15)::bigint AS n
  FROM wanted w {_CELLS}
  WHERE {_ROLE.replace("wanted.", "w.")} = 1 AND x.n > 0 GROUP BY 1, 2, 3, 4"""
    return _statement(t, "read_histograms", _WANTED | {"summed": summed}, **_CELL)


def read_heat(t: Tables) -> Statement:
    """Reads the histograms of a range for each time."""
    summed = f"""SELECT w.at, w.task_type, w.kind, x.what, x.b, least(sum(x.n), 1e15)::bigint AS n
  FROM wanted w {_CELLS}
  WHERE {_ROLE.replace("wanted.", "w.")} = 1 AND x.n > 0 GROUP BY 1, 2, 3, 4, 5"""
    return _statement(t, "read_heat", _WANTED | {"summed": summed}, at=_MOMENT, **_CELL)


def read_types(t: Tables) -> Statement:
    """Reads how task types stand now, as autoscalers see it."""
    c = t.scaling.c
    types = bindparam("p_task_types", type_=ARRAY(Text))
    found = select(c.task_type, c.due, c.oldest_due_seconds, c.running, c.workers, c.paused)
    is_wanted = or_(types.is_(None), c.task_type == any_(types))
    # A row of a pool that was edited by hand may name a null.
    return Statement("read_types", found.where(is_wanted, c.task_type.is_not(None)))


_CELL: Final[Mapping[str, TypeEngine[Any]]] = {
    "task_type": Text(),
    "kind": Text(),
    "what": Integer(),
    "b": Integer(),
    "n": BigInteger(),
}

# A long range is read from hours, and from the minutes since the last hour that was added up. Hours to come were added
# up before the database's clock was set back: their minutes are read.
_WANTED: Final[dict[str, str]] = {
    "range": """SELECT greatest(
    date_trunc(CASE WHEN :p_hours THEN 'hour' ELSE 'minute' END, now() - :p_lasts, 'UTC'), to_timestamp(0)) AS since""",
    "edge": """SELECT coalesce(max(d.at) + interval '1 hour', '-infinity') AS at FROM <SCHEMA>.fang_stats d
  WHERE :p_hours AND d.span = 3600 AND d.at <= now()""",
    "wanted": """SELECT s.* FROM <SCHEMA>.fang_stats s
  WHERE :p_hours AND s.span = 3600 AND s.at >= (SELECT since FROM range) AND s.at <= now()
  UNION ALL
  SELECT s.* FROM <SCHEMA>.fang_stats s
  WHERE s.span = 60 AND s.at >= greatest((SELECT since FROM range), (SELECT at FROM edge))
    AND s.at <= now() + interval '1 year'""",
}

_ROLE: Final = """CASE WHEN wanted.kind = '' THEN 0
  WHEN (:p_task_types IS NULL OR wanted.task_type = ANY (:p_task_types))
    AND (:p_kinds IS NULL OR wanted.kind = ANY (:p_kinds)) THEN 1 ELSE 2 END"""

_CELLS: Final = """CROSS JOIN LATERAL (
  SELECT 1 AS what, b, w.queue[b] AS n FROM generate_subscripts(w.queue, 1) b
  UNION ALL SELECT 2, b, w.run[b] FROM generate_subscripts(w.run, 1) b) x"""

# Of rows of `old`: sums, and of each histogram a text like '[17:19]={3,40,91}'. Each array has subscripts of its own,
# so they are taken apart and put together by bucket.
_ADDED_UP: Final[dict[str, str]] = {
    "counts": f"""SELECT at, task_type, kind, {", ".join(f"sum({name}) AS {name}" for name in _NUMBERS)}
  FROM old GROUP BY 1, 2, 3""",
    "cells": """SELECT at, task_type, kind, what, b, sum(n)::bigint AS n FROM old CROSS JOIN LATERAL (
    SELECT 1 AS what, b, queue[b] AS n FROM generate_subscripts(queue, 1) b
    UNION ALL SELECT 2, b, run[b] FROM generate_subscripts(run, 1) b) x
  WHERE n > 0 GROUP BY 1, 2, 3, 4, 5""",
    "ends": "SELECT at, task_type, kind, what, min(b) AS lo, max(b) AS hi FROM cells GROUP BY 1, 2, 3, 4",
    "hist": """SELECT e.at, e.task_type, e.kind, e.what,
    CAST('[' || e.lo || ':' || e.hi || ']={' || string_agg(coalesce(c.n, 0)::text, ',' ORDER BY g.b) || '}'
      AS integer[]) AS h
  FROM ends e CROSS JOIN LATERAL generate_series(e.lo, e.hi) g(b)
  LEFT JOIN cells c ON (c.at, c.task_type, c.kind, c.what, c.b) = (e.at, e.task_type, e.kind, e.what, g.b)
  GROUP BY e.at, e.task_type, e.kind, e.what, e.lo, e.hi""",
}
_COUNTED: Final = "SELECT count(*) AS made FROM made"
_TRY_LOCK: Final = f"pg_try_advisory_xact_lock(hashtextextended('<SCHEMA>.fang_stats', {_LOCK}))"


def _folding(hour: str, condition: str) -> dict[str, str]:
    columns = ", ".join(f"s.{name}" for name in ("task_type", "kind", *_COLUMNS))
    old = f"""SELECT {hour} AS at, {columns} FROM <SCHEMA>.fang_stats s
  WHERE s.span = 60 AND s.at >= {hour} AND s.at < {hour} + interval '1 hour' {condition}"""
    return {"old": old.rstrip(), **_ADDED_UP, "made": _made(3600), "told": _COUNTED}


def _made(span: int) -> str:
    """Inserts what was added up, over what is there: of a minute that is nothing, as its rows were just deleted."""
    numbers = ", ".join(f"k.{name}" for name in _NUMBERS)
    over = ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS)
    return f"""INSERT INTO <SCHEMA>.fang_stats ({_KEY}, {", ".join(_COLUMNS)})
  SELECT {span}, k.at, {_MERGED}, k.task_type, k.kind, {numbers}, coalesce(q.h, '{{}}'), coalesce(r.h, '{{}}')
  FROM counts k
  LEFT JOIN hist q ON (q.at, q.task_type, q.kind, q.what) = (k.at, k.task_type, k.kind, 1)
  LEFT JOIN hist r ON (r.at, r.task_type, r.kind, r.what) = (k.at, k.task_type, k.kind, 2)
  {f"ON CONFLICT ({_KEY}) DO UPDATE SET {over} " if span == HOUR else ""}RETURNING 1"""


def _statement(t: Tables, name: str, parts: Mapping[str, str], **columns: TypeEngine[Any]) -> Statement:
    """Returns a statement of which each part may read those before it; these are the columns of the last one."""
    ctes = [_cte(t, part, query) for part, query in list(parts.items())[:-1]]
    last, query = list(parts.items())[-1]
    told = _text(t, query).columns(**columns).cte(last)
    return Statement(name, select(*told.c).add_cte(*ctes, told))


def _cte(t: Tables, name: str, query: str) -> CTE:
    return _text(t, query).columns().cte(name)


def _text(t: Tables, query: str) -> TextClause:
    query = query.replace("'<SCHEMA>.", f"'{t.schema}.").replace("<SCHEMA>", f'"{t.schema}"')
    used = set(re.findall(r":(p_\w+)", query))
    # Drivers send some values without a type, such as None.
    query = re.sub(r":(p_\w+)", lambda bind: f"CAST(:{bind[1]} AS {_BINDS[bind[1]].compile(_DIALECT)})", query)
    return text(query).bindparams(*(bindparam(bind, type_=_BINDS[bind]) for bind in sorted(used)))
