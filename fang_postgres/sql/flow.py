"""Builds the claim of tasks of one managed type: one that is paused, or has limits, rates or fairness.

What runs is counted from the rows in progress, so a slot is free at the moment at which its row leaves that state,
whatever moves it: nothing can drift or leak. Rules that this form follows, each learned from a race or a plan:

- A count by the statement's own snapshot exceeds a limit: another claim may have committed since. So the statement
  first takes a lock, and then counts by a VOLATILE function, whose queries take snapshots of their own.
- The locks are advisory, for the transaction, tried and never waited for: one for a type that has a limit or a rate of
  its own, else one for the key, which is a stripe: see ``_STRIPES``. No row is hot, nothing deadlocks, a dead pool
  leaves no lock behind. A lock for each key, or stripes of each type, could fill the server's lock table: then others
  fail, too.
- Keys are found by a skip scan that begins behind the key served last: rows that cannot start are never walked, and
  keys take turns.
- The rows of a key are found by equality, and by their time: before Postgres 18 any other condition on the key also
  reads its rows that are not due yet. With an equality the planner goes by another index when the statistics are out of
  date, and reads the rows of all keys, if it knows that one to have them: hence ``WAITS_IN_LANE``.
- All parameters of a function have one collation. A key, whose own is "C", gives it to the task type as well, and then
  the functions cannot go by the type in their indexes: they scanned what all types run, for each key. So the key takes
  the default collation on its way.

The parts are texts, since a recursive search inside of a LATERAL is hard to follow in SQLAlchemy's form.
"""

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import (
    CTE,
    Boolean,
    Double,
    Integer,
    Text,
    any_,
    bindparam,
    cast,
    column,
    delete,
    func,
    literal_column,
    select,
    text,
    tuple_,
)
from sqlalchemy.dialects.postgresql import ARRAY, UUID
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.types import TypeEngine

from fang_core.crashes import MOST_GROUP, SUSPECT_AFTER
from fang_core.liveness import DECLARED_DEAD
from fang_core.record import PRIORITIES
from fang_postgres.schema import WAITS_IN_LANE, Tables
from fang_postgres.sql.fragments import (
    IS_COUNTED,
    IS_MANAGED,
    IS_STOPPED,
    aliased,
    array_of,
    claimed_columns,
    holding_at,
    is_registered,
    nulls,
    task_columns,
)
from fang_postgres.statement import Statement

_FEWEST_STRIPES: Final = 1_024
"""As many even if the server's lock table is small; with 20 connections and the default settings it holds some 4,700.
"""

_STRIPES: Final = f"""greatest({_FEWEST_STRIPES}, CAST(current_setting('max_locks_per_transaction') AS bigint)
    * (CAST(current_setting('max_connections') AS integer)
      + CAST(current_setting('max_prepared_transactions') AS integer)) / 2)"""
"""How many stripes there are: half of the locks that the server has room for, by its settings, which only a restart
changes, so that all claims go by the same number. All types share them: a pool claims from one at a time, so that types
add no locks. Each schema has its own: 3,200 by default, where the table took 12,850 locks. Eight pools that claim a
hundred tasks each hold the locks of some 300 keys. Of 1,024 stripes these are so many that a claim finds a quarter of
the other keys locked as well, and the pools drain a tenth less than with 9,600.
"""

_LOCK_OF_TYPE: Final = 1_718_513_255
"""The seed of the hash that names a type's lock; those of the stripes follow. The hash is over the schema's name, and
that of a type's lock over the type: without the name two schemas in one database would starve each other."""

_LONGEST: Final = 3_000_000_000_000_000
"""The microseconds that a rate looks ahead at most, some 95 years: larger sums could overflow."""

_BINDS: Final[dict[str, TypeEngine[Any]]] = {
    "p_pool_id": UUID(),
    "p_task_type": Text(),
    "p_kinds": ARRAY(Text),
    "p_limit": Integer(),
    "p_after_lane": Text(),
    "p_most_lanes": Integer(),
    "p_quantum": Integer(),
    "p_looks_closely": Boolean(),
    "p_group_size": Integer(),
    "p_isolated_kinds": ARRAY(Text),
}


def claim_lanes(t: Tables, *, rated: bool) -> Statement:
    """Locks and marks due rows of a managed type, as far as its settings allow; see ``store.LaneClaim``.

    Its first row holds what it has found out, and no task, as that of the plain claim does.

    Unless ``rated`` it knows nothing of rates, which takes a quarter of a millisecond less, and claims nothing of a
    type that has one.
    """
    task = aliased(t.tasks, "t")
    claim = _claim(t, task, claimed_columns(task.c), of_kinds=True, rated=rated)
    return Statement("claim_rated_lanes" if rated else "claim_lanes", claim)


def touch_lane(t: Tables) -> Statement:
    """Claims one due row of any kind of a managed type.

    The transaction may be the caller's. Unless its ``isolation`` is ``read committed`` it takes no new snapshots, and
    limits could be exceeded: then the statement claims nothing.
    """
    task = aliased(t.tasks, "t")
    return Statement("touch_lane", _claim(t, task, task_columns(t, task.c), of_kinds=False, rated=True))


def prune_lanes(t: Tables) -> Statement:
    """Deletes what the rates of keys have left behind: a key whose row is gone may start as many tasks as one whose
    bucket is full. It keeps the row for an hour longer, in case the clock is set back.

    It leaves rows that a claim has written: one that waited for these, and was waited for, would be a deadlock.
    """
    c, old = t.lanes.c, aliased(t.lanes, "old")
    types = array_of(select(func.unnest(bindparam("p_task_types", type_=ARRAY(Text)))))
    hour: ColumnElement[Any] = literal_column("interval '1 hour'")
    past = (
        select(old.c.task_type, old.c.lane)
        .where(old.c.task_type == any_(types), old.c.tat < func.clock_timestamp() - hour)
        .with_for_update(skip_locked=True)
    )
    pruned = delete(t.lanes).where(tuple_(c.task_type, c.lane).in_(past)).returning(c.lane)
    return Statement("prune_lanes", pruned)


def _claim(t: Tables, task: Any, columns: list[ColumnElement[Any]], *, of_kinds: bool, rated: bool) -> Any:
    forms = _RATED if rated else _UNRATED
    wanted, is_unwanted = (_WANTED, _IS_UNWANTED) if of_kinds else ("", "")
    parts = {
        "setting": _SETTING,
        "held": _HELD,
        **({"clocked": _CLOCKED} if rated else {}),
        "room": _ROOM,
        "looked": _LOOKED,
        "usable": _USABLE,
        "counted": _COUNTED,
        "fair": _FAIR,
        "due": _DUE,
        "picked": _PICKED,
    }
    # In this order, since what replaces the first places has some of the last ones.
    forms = {
        "<IS_UNWANTED>": is_unwanted,
        **forms,
        "<WANTED>": wanted,
        "<WAITS>": WAITS_IN_LANE.format("t.state"),
        "<SCHEMA>": t.schema,
    }
    ctes = {name: _cte(name, part, forms).prefix_with("MATERIALIZED") for name, part in parts.items()}
    lane = task.c.lane.label("of_lane")
    claimed = holding_at(task, select(ctes["picked"].c.ctid)).returning(*columns, lane).cte("claimed")
    charges = [_cte("spent", _SPENT, forms), _cte("paid", _PAID, forms)] if rated else []
    head: list[ColumnElement[Any]] = [
        is_registered(t).label("registered"),
        literal_column("coalesce((SELECT setting.is_managed FROM setting), false)", Boolean).label("is_managed"),
        literal_column(_TOLD_ROOM, Integer).label("room"),
        literal_column(_AFTER_LANE, Text).label("after_lane"),
    ]
    if of_kinds:
        head += [
            cast(func.pg_current_snapshot(), Text).label("snapshot"),
            func.now().label("now"),
            literal_column("coalesce((SELECT setting.is_counted FROM setting), false)", Boolean).label("is_counted"),
            literal_column("coalesce((SELECT setting.is_rated FROM setting), false)", Boolean).label("is_rated"),
            literal_column(forms["<LOOK_IN>"], Double).label("look_in"),
            literal_column(_IS_SHORT, Boolean).label("is_short"),
            literal_column(_LOCKED, Integer).label("locked"),
            literal_column(_CUT_AT, Text).label("cut_at"),
        ]
    else:
        head.append(literal_column(_ISOLATION, Text).label("isolation"))
    told = [each for each in claimed.c if each.name != lane.name]
    without_task = select(*head, *nulls(told))
    return without_task.union_all(select(*nulls(head), *told)).add_cte(*ctes.values(), claimed, *charges)


def _cte(name: str, part: str, forms: Mapping[str, str]) -> CTE:
    sql = part
    for place, form in forms.items():
        sql = sql.replace(place, form)
    used = [bindparam(each, type_=type_) for each, type_ in _BINDS.items() if f":{each}" in sql]
    return text(sql).bindparams(*used).columns(column("ctid")).cte(name)


def _microseconds(interval: str) -> str:
    return f"CAST(extract(epoch FROM {interval}) * 1000000 AS bigint)"


def _conforming(tat: str, at: str, full: str, every: str) -> str:
    """Returns the time at which the bucket of a rate is full again, as it counts ``at`` that time.

    If it is further ahead than starts can move it, the clock was set back: then one start is allowed now.
    """
    return f"""CASE WHEN {tat} > {at} + {full} * {_US} THEN {at} + ({full} - {every}) * {_US}
             ELSE greatest({tat}, {at}) END"""


def _starts(tat: str, at: str, burst: str, every: str) -> str:
    """Returns how many starts a rate allows: ``tat`` may lie less than ``burst`` intervals ahead."""
    return f"{burst} - ({_microseconds(f'{tat} - {at}')} + {every} - 1) / {every}"


_US: Final = "interval '1 us'"
_ISOLATION: Final = "current_setting('transaction_isolation')"

# The settings, by the statement's snapshot: who changes which locks a type needs first stops its claims for a while.
_SETTING: Final = f"""
  SELECT s.max_running, s.max_running_per_key AS per_key, s.weights,<RATES>
    s.max_running IS NOT NULL OR s.rate_interval IS NOT NULL AS whole,
    s.max_running_per_key IS NOT NULL OR s.key_rate_interval IS NOT NULL AS keyed,
    s.rate_interval IS NOT NULL OR s.key_rate_interval IS NOT NULL AS is_rated,
    {IS_COUNTED} AS is_counted, {IS_STOPPED} AS is_stopped, {IS_MANAGED} AS is_managed, {_STRIPES} AS stripes,
    CASE WHEN s.paused AND s.paused_until IS NULL THEN NULL
      ELSE nullif(greatest(CASE WHEN s.paused THEN s.paused_until END, s.settling_until), 'infinity')
      END AS stopped_until
  FROM "<SCHEMA>".fang_types s<INTERVALS>
  WHERE s.task_type = :p_task_type"""

_RATES: Final = f"""
    u.every, s.rate_burst AS burst,
    CAST(least(CAST(u.every AS numeric) * s.rate_burst, {_LONGEST}) AS bigint) AS "full",
    u.key_every, s.key_rate_burst AS key_burst,
    CAST(least(CAST(u.key_every AS numeric) * s.key_rate_burst, {_LONGEST}) AS bigint) AS key_full,"""

_INTERVALS: Final = f""" CROSS JOIN LATERAL (
    SELECT {_microseconds("s.rate_interval")} AS every, {_microseconds("s.key_rate_interval")} AS key_every) u"""

_HELD: Final = f"""
  SELECT s.*, CASE
    WHEN {_ISOLATION} <> 'read committed' THEN false
    WHEN s.whole THEN pg_try_advisory_xact_lock(hashtextextended('<SCHEMA>.' || :p_task_type, {_LOCK_OF_TYPE}))
    ELSE true END AS has_turn
  FROM setting s WHERE s.is_managed AND NOT s.is_stopped AND <OF_FORM>EXISTS (
    SELECT 1 FROM "<SCHEMA>".fang_pools p WHERE p.id = :p_pool_id AND p.beats > {DECLARED_DEAD})"""

# Behind the lock, and so fresh. A type whose turn has no row starts nothing.
_CLOCKED: Final = f"""
  SELECT h.*, c.at, {_conforming("c.tat", "c.at", 'h."full"', "h.every")} AS tat, c.tat IS NOT NULL AS has_tat
  FROM held h CROSS JOIN LATERAL (
    SELECT CASE WHEN h.has_turn AND h.every IS NOT NULL THEN "<SCHEMA>".fang_tat_1(:p_task_type) END AS tat,
      clock_timestamp() AS at OFFSET 0) c"""

# n is -1 if another pool has the turn.
_ROOM: Final = """
  SELECT c.*, CASE WHEN NOT c.has_turn THEN -1 ELSE CAST(greatest(0, least(:p_limit,
      CASE WHEN c.max_running IS NOT NULL THEN c.max_running - "<SCHEMA>".fang_running_1(:p_task_type, NULL) END
      <STARTS>)) AS integer) END AS n
  FROM <CLOCKED> c"""

_STARTS: Final = f""", CASE WHEN c.has_tat THEN {_starts("c.tat", "c.at", "c.burst", "c.every")}
        WHEN c.every IS NOT NULL THEN 0 END"""

# The keys of each priority, beginning behind the one served last. It is read as far as needed. Keys that are full are
# found out without a lock. "until": when the rate of a key allows its next start; "free": how many tasks may start, if
# no more of them run than at the beginning of the statement, and -1 if another claim has the lock.
_LOOKED: Final = f"""
  SELECT level.priority, walk.lane, walk.before, walk.wrapped, walk.n, walk.n = :p_most_lanes AS is_last,<WALK_UNTIL>
    CASE
      WHEN walk.head_at > now() THEN 0<IS_UNWANTED>
      WHEN NOT room.keyed THEN :p_limit<IS_TOO_SOON>
      WHEN walk.free <= 0 THEN 0
      WHEN room.whole OR pg_try_advisory_xact_lock(hashtextextended(
        '<SCHEMA>', {_LOCK_OF_TYPE + 1} + mod(hashtextextended(walk.lane, hashtext(:p_task_type)) & {2**63 - 1},
          room.stripes)))
        THEN least(walk.free, <STARTS_OF_KEY>)
      ELSE -1 END AS free
  FROM room CROSS JOIN unnest(CAST(ARRAY[{", ".join(map(str, PRIORITIES))}] AS smallint[])) AS level(priority)
  CROSS JOIN LATERAL (
    WITH RECURSIVE lane(lane, before, head_at, wrapped, n) AS (
      SELECT :p_after_lane COLLATE "C", CAST(NULL AS text) COLLATE "C", CAST(NULL AS timestamptz), false, 0
      UNION ALL
      SELECT nx.lane, l.lane, nx.scheduled_at, nx.wrapped, l.n + 1 FROM lane l CROSS JOIN LATERAL (
        (SELECT t.lane, t.scheduled_at, l.wrapped AS wrapped FROM "<SCHEMA>".fang_tasks t
         WHERE t.task_type = :p_task_type AND t.priority = level.priority AND <WAITS>
           AND t.lane > l.lane
         ORDER BY t.lane, t.scheduled_at, t.id LIMIT 1)
        UNION ALL
        (SELECT t.lane, t.scheduled_at, true FROM "<SCHEMA>".fang_tasks t
         WHERE t.task_type = :p_task_type AND t.priority = level.priority AND <WAITS>
           AND t.lane >= '' AND NOT l.wrapped
         ORDER BY t.lane, t.scheduled_at, t.id LIMIT 1)
        LIMIT 1) nx
      WHERE NOT (nx.wrapped AND nx.lane > :p_after_lane) AND l.n < :p_most_lanes)
    SELECT lane.*<UNTIL>, CASE WHEN room.per_key IS NOT NULL AND lane.head_at <= now() THEN room.per_key - (
      SELECT count(*) FROM (
        SELECT 1 FROM "<SCHEMA>".fang_tasks r
        WHERE r.task_type = :p_task_type AND r.lane >= lane.lane AND r.lane <= lane.lane AND r.state = 'in_progress'
        ORDER BY r.lane LIMIT room.per_key) held) END AS free
    FROM lane WHERE lane.n > 0 OFFSET 0) walk
  WHERE room.n > 0"""

_UNTIL: Final = f""", CASE WHEN room.key_every IS NOT NULL AND lane.head_at <= now() THEN (
      SELECT {_conforming("k.tat", "room.at", "room.key_full", "room.key_every")}
        - (room.key_full - room.key_every) * {_US}
      FROM "<SCHEMA>".fang_lanes k WHERE k.task_type = :p_task_type AND k.lane = lane.lane) END AS until"""

_IS_TOO_SOON: Final = """
      WHEN walk.until > room.at THEN 0"""

# No EXISTS, which could be answered from a table of all keys that have such tasks. A plan that sees that a claim does
# not look closely seems so much cheaper that each claim would be planned anew, which takes half as long as the claim.
_IS_UNWANTED: Final = f"""
      WHEN (SELECT :p_looks_closely) AND (
        SELECT 1 FROM "<SCHEMA>".fang_tasks t
        WHERE t.task_type = :p_task_type AND t.priority = level.priority
          AND t.lane = walk.lane AND t.scheduled_at <= now()
          AND <WAITS> AND t.attempt < {2**63 - 1}<WANTED>
        ORDER BY t.scheduled_at, t.id LIMIT 1) IS NULL THEN 0"""

# Another claim may have used up the rate of the key since the statement began: -1 then, as if it had the lock. The
# clock is read after what that claim has written, which would seem to be of a clock that was set back.
_STARTS_OF_KEY: Final = f"""CAST(least(:p_limit,
          CASE WHEN room.key_every IS NOT NULL THEN (
            SELECT coalesce(nullif({_starts("c.tat", "c.at", "room.key_burst", "room.key_every")}, 0), -1) FROM (
              SELECT k.at, {_conforming("k.tat", "k.at", "room.key_full", "room.key_every")} AS tat FROM (
                SELECT coalesce(
                  "<SCHEMA>".fang_lane_tat_1(:p_task_type, walk.lane COLLATE "default"), '-infinity') AS tat,
                  clock_timestamp() AS at OFFSET 0
              ) k OFFSET 0) c) END) AS integer)"""

# As many keys as it takes to fill the claim, if each has some tasks: one row for each task, then one for each key, so
# that no key is read, and locked, that is not needed.
_USABLE: Final = """
  SELECT each.*, row_number() OVER () AS place FROM (
    SELECT looked.*, generate_series(1, least(looked.free, :p_quantum)) AS nth FROM looked
    WHERE looked.free > 0 LIMIT (SELECT greatest(room.n, 0) FROM room)) each
  WHERE each.nth = 1"""

# How many tasks of each of these keys run, by one new snapshot, which is taken when all their locks are held.
# "ran_out": all keys were looked at, or as many as the claim may.
_COUNTED: Final = """
  SELECT room.n AS room, room.per_key, room.weights, :p_quantum AS quantum,
    (SELECT coalesce(sum(least(usable.free, :p_quantum)), 0) FROM usable) < room.n AS ran_out,
    CASE WHEN room.per_key IS NOT NULL THEN "<SCHEMA>".fang_running_each_1(
      :p_task_type, ARRAY(SELECT usable.lane COLLATE "default" FROM usable ORDER BY usable.place)) END AS running
  FROM room"""

# Floating-point numbers, as 50 divisions of numeric took 60 microseconds. Shares that are whole numbers come out whole.
_FAIR: Final = """
  SELECT f.priority, f.lane, f.before, f.n, f.free, f.weight, count(*) OVER level AS keys,
    CAST(least(f.free, ceil(f.room * f.weight / sum(f.weight) OVER level)) AS integer) AS quota
  FROM (
    SELECT usable.priority, usable.lane, usable.before, usable.n, counted.room,
      least(usable.free, counted.per_key - counted.running[usable.place]) AS free,
      CASE WHEN jsonb_typeof(counted.weights -> usable.lane) = 'number'
        THEN CAST(least(greatest(CAST(counted.weights ->> usable.lane AS numeric), 1), 1000) AS double precision)
        ELSE 1 END AS weight
    FROM counted CROSS JOIN usable) f
  WHERE f.free > 0
  WINDOW level AS (PARTITION BY f.priority)
  ORDER BY f.priority, f.n"""

_DUE: Final = f"""
  SELECT x.ctid, f.priority, f.n, f.lane, f.free, row_number() OVER () AS place
  FROM fair f CROSS JOIN LATERAL (
    SELECT t.ctid FROM "<SCHEMA>".fang_tasks t
    WHERE t.task_type = :p_task_type AND t.priority = f.priority
      AND t.lane = f.lane AND t.scheduled_at <= now()
      AND <WAITS> AND t.attempt < {2**63 - 1}<WANTED>
    ORDER BY t.scheduled_at, t.id LIMIT f.quota FOR NO KEY UPDATE OF t SKIP LOCKED) x
  LIMIT (SELECT greatest(room.n, 0) FROM room)"""

_WANTED: Final = f"""
      AND t.kind = ANY (:p_kinds)
      AND (t.crashes < {SUSPECT_AFTER} OR greatest(coalesce(t.group_limit, {MOST_GROUP}), 1) >= :p_group_size
        OR (t.kind = ANY (:p_isolated_kinds) AND coalesce(t.group_limit, {MOST_GROUP}) > 1))"""

# A key may stand in two priorities; what it may start is one sum.
_PICKED: Final = """
  SELECT d.ctid, d.priority, d.n FROM (
    SELECT due.*, row_number() OVER (PARTITION BY due.lane ORDER BY due.place) AS nth FROM due) d
  WHERE d.nth <= d.free"""

_SPENT: Final = f"""
  UPDATE "<SCHEMA>".fang_turns
  SET tat = (SELECT room.tat + (SELECT count(*) FROM claimed) * room.every * {_US} FROM room)
  WHERE fang_turns.task_type = :p_task_type AND (SELECT room.every FROM room) IS NOT NULL
    AND EXISTS (SELECT 1 FROM claimed)
  RETURNING fang_turns.task_type"""

# By a clock read after the starts, which can only make the rate slower.
_PAID: Final = f"""
  INSERT INTO "<SCHEMA>".fang_lanes (task_type, lane, tat)
  SELECT :p_task_type, started.lane,
    {_conforming("k.tat", "k.at", "room.key_full", "room.key_every")} + started.n * room.key_every * {_US}
  FROM room CROSS JOIN (
    SELECT claimed.of_lane AS lane, count(*) AS n FROM claimed
    WHERE (SELECT room.key_every FROM room) IS NOT NULL GROUP BY claimed.of_lane) started
  CROSS JOIN LATERAL (
    SELECT coalesce("<SCHEMA>".fang_lane_tat_1(:p_task_type, started.lane COLLATE "default"), '-infinity') AS tat,
      clock_timestamp() AS at OFFSET 0) k
  ON CONFLICT (task_type, lane) DO UPDATE SET tat = excluded.tat
  RETURNING fang_lanes.lane"""

# If a claim came to the end of the keys and took nothing, and another one had the lock of a key, the pool looks again
# soon: the other claim may leave a slot of that key free, or have the lock because of another key. So it does if other
# claims have filled a key meanwhile, in place of which this one would have looked at the next.
_TOLD_ROOM: Final = """(
    SELECT CASE WHEN room.n > 0 AND NOT EXISTS (SELECT 1 FROM claimed) AND (
        (SELECT count(*) FROM usable) > (SELECT count(*) FROM fair)
        OR ((SELECT counted.ran_out FROM counted) AND EXISTS (SELECT 1 FROM looked WHERE looked.free < 0)))
      THEN -1 ELSE room.n END FROM room WHERE room.max_running IS DISTINCT FROM 0)"""

# The key to begin behind the next time: the last one that was looked at if there may be more keys and there is room for
# them, and the first such key of several priorities, or those of the others up to there would be passed over; else the
# last one that was served, not only usable: other keys would never get their turn. A key with a weight keeps its turn
# in claims that are too small for it, as often as it should on the average. If nothing was served: a key that could
# have been.
_AFTER_LANE: Final = """coalesce(
    CASE WHEN (SELECT counted.ran_out AND (SELECT count(*) FROM picked) < counted.room FROM counted) THEN (
      SELECT looked.lane FROM looked WHERE looked.is_last
      ORDER BY looked.wrapped, looked.lane LIMIT 1) END,
    (SELECT CASE WHEN p.count < f.quota OR random() * f.weight < CASE WHEN f.keys > 1 THEN p.count ELSE 1 END
       THEN f.lane ELSE f.before END
     FROM (SELECT priority, n, count(*) FROM picked GROUP BY priority, n ORDER BY priority DESC, n DESC LIMIT 1) p
     JOIN fair f ON f.priority = p.priority AND f.n = p.n),
    (SELECT usable.lane FROM usable ORDER BY usable.priority DESC, usable.n DESC LIMIT 1))"""

# There were as many keys as it takes if each has some tasks, and the claim is not full.
_IS_SHORT: Final = """coalesce((
    SELECT (SELECT count(*) FROM picked) < counted.room
      AND (SELECT sum(least(fair.free, counted.quantum)) FROM fair) >= counted.room
    FROM counted WHERE counted.room > 0), false)"""

# Counted among the keys that were looked at already, or among the first of these if they have several priorities: no
# further ones are looked at, and locked, for it.
_LOCKED: Final = """(
    SELECT count(*) FROM (
      SELECT looked.free FROM looked LIMIT (
        SELECT CASE WHEN NOT counted.ran_out THEN (SELECT max(usable.n) FROM usable) END FROM counted)) passed
    WHERE passed.free < 0)"""

# It reads up to the key that filled the claim, so that no further ones are looked at, and locked, for it.
_CUT_AT: Final = """(
    SELECT CASE WHEN looked.priority < filled.priority THEN looked.lane END
    FROM (SELECT usable.priority, usable.n FROM usable WHERE NOT (SELECT counted.ran_out FROM counted)
      ORDER BY usable.place DESC LIMIT 1) filled
    CROSS JOIN LATERAL (
      SELECT looked.priority, looked.lane FROM looked
      WHERE looked.is_last OR (looked.priority = filled.priority AND looked.n = filled.n) LIMIT 1) looked)"""

# Seconds until a claim may find more: a stop ends, or the rate of the type, or of a key that waits, allows a start. The
# keys are asked only if the claim has come to the end of them anyway.
_LOOK_IN: Final = f"""(
    SELECT CAST(greatest(extract(epoch FROM known.look_at - clock_timestamp()), 0) AS double precision) FROM (
      SELECT CASE
        WHEN setting.is_stopped THEN setting.stopped_until
        WHEN spent.tat > room.at + (room."full" - room.every) * {_US}
          THEN spent.tat - (room."full" - room.every) * {_US}
        WHEN room.key_every IS NOT NULL AND (SELECT counted.ran_out FROM counted)
          THEN (SELECT min(looked.until) FROM looked WHERE looked.until > room.at) END AS look_at
      FROM setting LEFT JOIN room ON room.n >= 0 LEFT JOIN LATERAL (
        SELECT room.tat + count(*) * room.every * {_US} AS tat FROM claimed) spent ON true) known
    WHERE known.look_at IS NOT NULL)"""

_STOPPED_FOR: Final = """(
    SELECT CAST(greatest(extract(epoch FROM setting.stopped_until - clock_timestamp()), 0) AS double precision)
    FROM setting WHERE setting.is_stopped AND setting.stopped_until IS NOT NULL)"""

_RATED: Final = {
    "<RATES>": _RATES,
    "<INTERVALS>": _INTERVALS,
    "<OF_FORM>": "",
    "<CLOCKED>": "clocked",
    "<STARTS>": _STARTS,
    "<WALK_UNTIL>": " walk.until,",
    "<IS_TOO_SOON>": _IS_TOO_SOON,
    "<STARTS_OF_KEY>": _STARTS_OF_KEY,
    "<UNTIL>": _UNTIL,
    "<LOOK_IN>": _LOOK_IN,
}
_UNRATED: Final = dict.fromkeys(_RATED, "") | {
    "<OF_FORM>": "NOT s.is_rated AND ",
    "<CLOCKED>": "held",
    "<STARTS_OF_KEY>": ":p_limit",
    "<LOOK_IN>": _STOPPED_FOR,
}
"""What the parts have in either form of the claim; see ``claim_lanes``."""
