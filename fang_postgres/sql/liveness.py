"""Builds the statements for signs of life, and for taking back the tasks of dead pools."""

from string import Formatter
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    DateTime,
    Double,
    Integer,
    Interval,
    Text,
    all_,
    and_,
    any_,
    bindparam,
    case,
    cast,
    column,
    delete,
    exists,
    extract,
    func,
    literal_column,
    not_,
    null,
    or_,
    select,
    table,
    true,
    type_coerce,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, UUID, array
from sqlalchemy.sql.elements import ColumnElement, Grouping

from fang_core.crashes import CRASHED, MOST_CRASHES, MOST_DOUBLINGS, MOST_GROUP, SUSPECT_AFTER
from fang_core.liveness import DECLARED_DEAD, MOST_MESSAGES
from fang_postgres.schema import Tables
from fang_postgres.sql.fragments import (
    ATTEMPTS,
    IDS,
    POOL,
    aliased,
    array_of,
    due_time,
    is_alive,
    waiting_state,
    waking,
    with_entry,
)
from fang_postgres.statement import Statement

_LOCKS = table(
    "pg_locks",
    column("locktype"),
    column("database"),
    column("classid"),
    column("objid"),
    column("objsubid"),
    column("pid"),
    column("granted"),
)
# The function behind pg_stat_activity. It needs no rights on that view, which a server may have revoked.
_SESSIONS = (
    func.pg_stat_get_activity(null())
    .table_valued(column("pid", Integer), column("state_change", DateTime(timezone=True)))
    .alias("session")
)
_TRUE: ColumnElement[bool] = literal_column("true", Boolean)
_FALSE: ColumnElement[bool] = literal_column("false", Boolean)
# As texts: asyncpg knows their arrays. It would look up those of integers first, which makes a pool start 8 ms later.
_HANDLED = cast(bindparam("p_handled", type_=ARRAY(Text)), ARRAY(BigInteger))


def beat(t: Tables) -> Statement:
    """Raises the counter, takes the lock unless this connection holds it, and reads all pools and this pool's messages.

    It reads the locks of other pools in ``pg_locks`` and never tries them, so that it cannot keep a pool from its own.
    """
    holds = case(
        (not_(bindparam("p_locks", type_=Boolean)), _FALSE),
        (exists(_advisory().where(_LOCKS.c.pid == func.pg_backend_pid(), _key_in_locks() == _key(POOL))), _TRUE),
        else_=func.pg_try_advisory_lock(bindparam("p_key", type_=BigInteger)),
    )
    mine = select(holds.label("holds")).cte("mine").prefix_with("MATERIALIZED", dialect="postgresql")
    beaten = (
        update(t.pools)
        .where(*is_alive(t))
        .values(
            beats=t.pools.c.beats + literal_column("1"),
            locks=select(mine.c.holds).scalar_subquery(),
            stopping=bindparam("p_stopping", type_=Boolean),
            runs=func.coalesce(cast(bindparam("p_runs", type_=Text), JSONB), t.pools.c.runs),
            workers=func.coalesce(bindparam("p_workers", type_=Integer), t.pools.c.workers),
        )
        .returning(t.pools.c.id)
        .cte("beaten")
    )
    handled = any_(array_of(select(func.unnest(_HANDLED))))
    removed = delete(t.messages).where(t.messages.c.pool_id == POOL, t.messages.c.id == handled).cte("removed")
    registered = exists(select(literal_column("1")).select_from(beaten))
    p = t.pools.alias("p")
    # In the pool's own row only, so that they do not come once for each pool.
    messages = case((p.c.id == POOL, _messages(t)))
    return Statement("beat", _everybody(p, registered, _server_up(), messages).add_cte(removed))


def lost_or_cancelled(t: Tables) -> Statement:
    """Reads which of the tasks that a pool believes to hold it has lost, and which of them are to be cancelled.

    Each row has a task's id, and null or the request to cancel it: its reason, and who said so.

    It is no part of the beat: whatever locks the table of tasks, such as a migration, must not stop a heart.
    """
    c = t.tasks.c
    lists: dict[str, Any] = {"id": IDS, "attempt": ATTEMPTS}
    columns = (column("id", UUID), column("attempt", BigInteger))
    known = func.unnest(*lists.values()).table_valued(*columns).render_derived(name="known")
    nothing: ColumnElement[Any] = literal_column("'{}'::text[]", ARRAY(Text))
    request = array([c.cancel_request.op("->>")(literal_column(f"'{key}'")) for key in ("reason", "by")])
    # A subquery for each task goes by the primary key, whatever the statistics say: a join may read the whole table.
    # The cast hides the index of held rows, which would give all that the pool holds, each time.
    found = (
        select(type_coerce(case((c.cancel_request.is_(None), nothing), else_=request), ARRAY(Text)))
        .where(
            c.id == known.c.id,
            c.attempt == known.c.attempt,
            c.pool_id == POOL,
            cast(c.state, Text) == literal_column("'in_progress'"),
        )
        .scalar_subquery()
    )
    held = select(known.c.id, found.label("request")).cte("held").prefix_with("MATERIALIZED", dialect="postgresql")
    return Statement("lost_or_cancelled", select(held).where(held.c.request.is_distinct_from(nothing)))


def _messages(t: Tables) -> ColumnElement[str]:
    """Returns the pool's messages, as JSON; null if there is none. Their bodies are texts of their own in it."""
    c = t.messages.c
    unhandled = (
        select(c.id, c.kind, cast(c.body, Text).label("body"), c.sender)
        .where(c.pool_id == POOL, c.id != all_(array_of(select(func.unnest(_HANDLED)))))
        .order_by(c.id)
        .limit(literal_column(str(MOST_MESSAGES)))
        .subquery("unhandled")
    )
    return select(cast(func.json_agg(func.json_build_array(*unhandled.c)), Text)).scalar_subquery()


def look(t: Tables) -> Statement:
    """Reads what a beat reads, and for how many seconds the session with each pool's lock has been quiet; for a reader
    without a pool. It writes nothing, and so works on a standby as well.

    A standby does not show the locks of its primary, so it counts as just started, and no lock is trusted. The seconds
    are null if the reader may not see the sessions of the pool's role, or if the server does not track them.
    """
    server_up = case((func.pg_is_in_recovery(), literal_column("0", Double)), else_=_server_up())
    p = t.pools.alias("p")
    return Statement("look", _everybody(p, _FALSE, server_up, _quiet(p).label("quiet")))


def _everybody(p: Any, registered: ColumnElement[bool], server_up: ColumnElement[float], *more: Any) -> Any:
    one = select(registered.label("registered"), server_up.label("server_up")).subquery("one")
    locked = _key(p.c.id) == any_(array_of(_advisory_keys()))
    lease = cast(extract("epoch", p.c.lease), Double).label("lease")
    pulse = (p.c.id, p.c.beats, p.c.locks, locked.label("is_locked"), lease)
    return select(one.c.registered, one.c.server_up, *pulse, *more).select_from(one.outerjoin(p, true()))


def _quiet(p: Any) -> ColumnElement[float]:
    """Returns the seconds since the session with this pool's lock began or ended a statement."""
    seconds = cast(extract("epoch", func.clock_timestamp() - _SESSIONS.c.state_change), Double)
    holders = (
        select(_key_in_locks().label("key"), seconds.label("seconds"))
        .select_from(_LOCKS.join(_SESSIONS, _SESSIONS.c.pid == _LOCKS.c.pid))
        .where(*_is_advisory())
        .cte("holders")
        .prefix_with("MATERIALIZED", dialect="postgresql")  # so that it is read once, and not for each pool
    )
    return select(func.min(holders.c.seconds)).where(holders.c.key == _key(p.c.id)).scalar_subquery()


def _server_up() -> ColumnElement[float]:
    # A promoted standby keeps its start time; the second time is null on a server that never was a standby.
    locks_since = func.greatest(func.pg_postmaster_start_time(), func.pg_last_xact_replay_timestamp())
    return cast(extract("epoch", func.clock_timestamp() - locks_since), Double)


def _key(pool_id: Any) -> ColumnElement[str]:
    """Returns the first eight bytes of an id, in hex, as ``_key_in_locks`` writes them."""
    return func.left(
        func.replace(cast(pool_id, Text), literal_column("'-'"), literal_column("''")), literal_column("16")
    )


def _key_in_locks() -> ColumnElement[str]:
    """Returns a lock's key in hex. A lock on one bigint has its high half in ``classid``, its low half in ``objid``."""

    def half(name: str) -> ColumnElement[str]:
        hexed = func.to_hex(cast(_LOCKS.c[name], BigInteger))
        return func.lpad(hexed, literal_column("8"), literal_column("'0'"))

    return func.concat(half("classid"), half("objid"))


def _advisory() -> Any:
    return select(literal_column("1")).select_from(_LOCKS).where(*_is_advisory())


def _advisory_keys() -> Any:
    return select(_key_in_locks().label("key")).select_from(_LOCKS).where(*_is_advisory())


def _is_advisory() -> list[ColumnElement[bool]]:
    d = table("pg_database", column("oid"), column("datname"))
    here = select(d.c.oid).where(d.c.datname == func.current_database()).scalar_subquery()
    return [
        _LOCKS.c.locktype == literal_column("'advisory'"),
        _LOCKS.c.objsubid == literal_column("1"),
        _LOCKS.c.granted,
        _LOCKS.c.database == here,
    ]


def still_dead(t: Tables) -> Statement:
    """Locks the records of pools whose counters have not moved; skips records that another rescuer has locked.

    Until this transaction ends, such a pool cannot beat, and so cannot take itself for alive.
    """
    p = aliased(t.pools, "p")
    place = func.width_bucket(p.c.id, IDS, type_=Integer)
    beats = Grouping(bindparam("p_beats", type_=ARRAY(BigInteger)))[place]
    rows = (
        select(p.c.id, p.c.stopping, p.c.max_crashes, p.c.isolated_kinds)
        .where(p.c.id == any_(array_of(select(func.unnest(IDS)))), Grouping(IDS)[place] == p.c.id, beats == p.c.beats)
        .with_for_update(skip_locked=True, of=p)
    )
    return Statement("still_dead", rows)


def orphaned(t: Tables) -> Statement:
    """Reads the ids of pools that hold tasks and have no record.

    It goes from holder to holder through the index of held rows, so it costs a step for each pool and not for each row,
    whatever the statistics say; DISTINCT read the whole table if they showed few rows that are not held.
    """
    c = t.tasks.c
    held = select(c.pool_id).where(c.state == literal_column("'in_progress'")).order_by(c.pool_id)
    holder = held.limit(literal_column("1")).cte("holder", recursive=True)
    following = held.where(c.pool_id > holder.c.pool_id).limit(literal_column("1")).scalar_subquery()
    holder = holder.union_all(select(following).where(holder.c.pool_id.is_not(None)))
    unknown = holder.c.pool_id != all_(array_of(select(t.pools.c.id)))
    return Statement("orphaned", select(holder.c.pool_id).where(unknown))


_ISOLATED: Final[ColumnElement[Any]] = bindparam("p_isolated_kinds", type_=ARRAY(Text))
_SUSPECT_FROM: Final[ColumnElement[int]] = literal_column(str(SUSPECT_AFTER))


def rescue(t: Tables) -> Statement:
    """Takes back a dead pool's tasks, and returns how many it held: more than are taken back, if rows are locked.

    The table in ``fang_core.crashes`` decides each task's new state; a test compares this statement with it.
    """
    task = aliased(t.tasks, "t")
    c = task.c
    holding = _holding(t)
    returned = (c.id, c.kind, c.attempt, c.crashes, cast(c.state, Text).label("state"))
    rescued = (
        update(task)
        .where(*_held_and_unlocked(t, c))
        .values(_taken_back(t, c, holding))
        .returning(*returned, c.task_type, c.priority, c.scheduled_at)
        .cte("rescued")
    )
    r = rescued.c
    woken = waking(t, rescued, passed_at=due_time(r))
    # Not from the returned row, which has the new count.
    was_suspect = func.coalesce(r.id == any_(holding.c.suspects), _FALSE)
    was_spared = was_suspect & or_(not_(holding.c.one), func.coalesce(r.id == any_(holding.c.apart), _FALSE))
    charged = (bindparam("p_charged", type_=Boolean) & not_(was_spared)).label("charged")
    told = select(holding.c.count, r.id, r.kind, r.attempt, r.crashes, r.state, r.task_type, charged, woken)
    return Statement("rescue", told.select_from(holding.outerjoin(rescued, true())))


def _holding(t: Tables) -> Any:
    """Counts the tasks that the dead pool holds, and names the suspects among them.

    It is a CTE, so that they are counted once, and not in each place of the text. It counts all of them: with old
    statistics, a search for just one more goes through the table instead of the index.
    """
    other = aliased(t.tasks, "other")
    p = t.pools.alias("p")
    # Null if the pool has no record, or no workers, as a pool by hand.
    workers = select(func.nullif(p.c.workers, literal_column("0"))).where(p.c.id == POOL).scalar_subquery()
    return (
        select(
            func.count().label("count"),
            (func.count() == literal_column("1")).label("one"),
            func.array_agg(other.c.id).filter(other.c.crashes >= _SUSPECT_FROM).label("suspects"),
            func.array_agg(other.c.id).filter(_is_apart(other.c, _ISOLATED)).label("apart"),
            func.coalesce(workers, func.count()).label("tried"),
        )
        .where(other.c.pool_id == POOL, other.c.state == literal_column("'in_progress'"))
        .cte("holding")
    )


def _taken_back(t: Tables, c: Any, holding: Any) -> dict[str, Any]:
    """Returns the new values of a row that the dead pool held."""
    is_alone = select(holding.c.one).scalar_subquery()
    is_apart = _is_apart(c, _ISOLATED)
    is_charged = bindparam("p_charged", type_=Boolean) & or_(c.crashes < _SUSPECT_FROM, and_(is_alone, not_(is_apart)))
    most = bindparam("p_max_crashes", type_=Integer)
    crashes = func.least(c.crashes + literal_column("1"), literal_column(str(MOST_CRASHES)))
    is_parked = is_charged & (crashes >= most)
    is_delayed = is_charged & is_alone & (crashes >= _SUSPECT_FROM)
    delay = func.power(literal_column("2"), func.least(crashes, literal_column(str(MOST_DOUBLINGS))))
    later = func.clock_timestamp() + delay * cast(literal_column("'1 s'"), Interval)
    state = case((is_parked, literal_column("'failed'")), else_=waiting_state(c, is_charged))
    message = _formatted(CRASHED, crashes=crashes, max_crashes=most)
    entry = func.jsonb_build_object(
        literal_column("'number'"), c.attempt, literal_column("'error'"), message, literal_column("'traceback'"), null()
    )
    return {
        "state": cast(state, t.tasks.c.state.type),
        "crashes": case((is_charged, crashes), else_=c.crashes),
        "scheduled_at": case((is_delayed, later), else_=c.scheduled_at),
        "group_limit": _next_group_limit(c, holding, is_charged=is_charged, is_delayed=is_delayed),
        "error_message": case((is_charged, message), else_=c.error_message),
        "errors": case((is_charged, with_entry(c, cast(entry, Text))), else_=c.errors),
        "pool_id": null(),
        "claimed_at": null(),
        "updated_at": func.now(),
    }


def _next_group_limit(
    c: Any, holding: Any, *, is_charged: ColumnElement[bool], is_delayed: ColumnElement[bool]
) -> ColumnElement[Any]:
    """Returns how many suspects the task may be tried with next: half as many as died with it, if it was spared."""
    is_halved = and_(bindparam("p_charged", type_=Boolean), not_(is_charged))
    tried = case((not_(_is_apart(c, _ISOLATED)), select(holding.c.tried).scalar_subquery()))
    limit = func.coalesce(c.group_limit, literal_column(str(MOST_GROUP)))
    group = func.least(limit, tried, type_=Integer)
    runs_alone = is_delayed & not_((c.kind == any_(_ISOLATED)) & (limit > literal_column("1")))
    half = func.greatest(group.op("/")(literal_column("2")), literal_column("1"))
    return case((runs_alone, literal_column("1")), (is_charged, null()), (is_halved, half), else_=c.group_limit)


def _is_apart(c: Any, isolated: ColumnElement[Any]) -> ColumnElement[bool]:
    """Whether the row is a suspect that ran in a child process, among all other tasks: see ``crashes.runs_apart``."""
    limit = func.coalesce(c.group_limit, literal_column(str(MOST_GROUP)))
    return and_(c.crashes >= literal_column(str(SUSPECT_AFTER)), c.kind == any_(isolated), limit > literal_column("1"))


def _formatted(text: str, **fields: ColumnElement[Any]) -> ColumnElement[str]:
    """Builds the text of a format string like ``"{crashes} times"`` in the database."""
    parts: list[ColumnElement[Any]] = []
    for literal, field, _, _ in Formatter().parse(text):
        parts += [literal_column(f"'{literal}'")] if literal else []
        parts += [fields[field]] if field else []
    return func.concat(*parts)


def _held_and_unlocked(t: Tables, c: Any) -> list[ColumnElement[bool]]:
    """Returns conditions for rows that a pool holds, except rows that a run's own transaction has locked.

    Such rows are gone when it commits. If it does not commit, a later rescue finds them: their holder's record is kept.
    """
    held = aliased(t.tasks, "held")
    unlocked = (
        select(held.c.id)
        .where(held.c.pool_id == POOL, held.c.state == literal_column("'in_progress'"))
        .with_for_update(key_share=True, skip_locked=True, of=held)
    )
    return [c.id == any_(array_of(unlocked)), c.pool_id == POOL, cast(c.state, Text) == literal_column("'in_progress'")]


def declare_dead(t: Tables) -> Statement:
    """Marks the record of a dead pool and keeps it, so that its last tasks are taken back as the rest were; once."""
    dead = update(t.pools).where(*is_alive(t)).values(beats=literal_column(str(DECLARED_DEAD)))
    return Statement("declare_dead", dead)


def reconcile(t: Tables) -> Statement:
    """Gives back, uncharged, the rows that a pool holds without knowing it."""
    task = aliased(t.tasks, "t")
    c = task.c
    given_back = (
        update(task)
        .where(*_held_and_unlocked(t, c), c.id != all_(IDS))
        .values(
            state=cast(waiting_state(c), t.tasks.c.state.type),
            pool_id=null(),
            claimed_at=null(),
            updated_at=func.now(),
        )
        .returning(c.id, c.task_type, c.priority, c.scheduled_at)
        .cte("given_back")
    )
    return Statement("reconcile", select(given_back.c.id, waking(t, given_back)).select_from(given_back))
