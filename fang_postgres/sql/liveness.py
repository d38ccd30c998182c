"""Signs of life, and what becomes of the tasks of dead pools."""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    DateTime,
    Double,
    Integer,
    Interval,
    Text,
    all_,
    any_,
    bindparam,
    case,
    cast,
    column,
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
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.sql.elements import ColumnElement, Grouping

from fang_core.lifecycle import SUSPECT_AFTER
from fang_core.liveness import DECLARED_DEAD
from fang_postgres.schema import Tables
from fang_postgres.sql.fragments import IDS, POOL, aliased, array_of, due_time, is_alive, waking, with_entry
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
# The function behind pg_stat_activity, which takes no rights on that view: a server may have revoked them.
_SESSIONS = (
    func.pg_stat_get_activity(null())
    .table_valued(column("pid", Integer), column("state_change", DateTime(timezone=True)))
    .alias("session")
)
_TRUE: ColumnElement[bool] = literal_column("true", Boolean)
_FALSE: ColumnElement[bool] = literal_column("false", Boolean)
_LONGEST = 10  # the delay of a suspect doubles up to 2^10 seconds


def beat(t: Tables) -> Statement:
    """Raises the counter, takes the lock where this connection does not hold it, and looks at everybody: all in one.

    The locks of others are seen in ``pg_locks`` and never tried, so that a watcher cannot hold up who wants his own.
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
        )
        .returning(t.pools.c.id)
        .cte("beaten")
    )
    registered = exists(select(literal_column("1")).select_from(beaten))
    return Statement("beat", _everybody(t.pools.alias("p"), registered, _server_up()))


def look(t: Tables) -> Statement:
    """What a beat brings back and for how many seconds the session with the lock of each pool has been quiet, for a
    reader that has no pool: it writes nothing, and reads a standby as well.

    A standby does not show the locks of its primary, so none of them is to be believed: as if it had just started.
    The seconds are null for a reader that may not see the sessions of the pool's role, or if the server tracks none.
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
    """Seconds since the session with the lock of this pool began or ended a statement."""
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
    # A standby keeps its start when it is promoted; the second one is null on a server that never was a standby.
    locks_since = func.greatest(func.pg_postmaster_start_time(), func.pg_last_xact_replay_timestamp())
    return cast(extract("epoch", func.clock_timestamp() - locks_since), Double)


def _key(pool_id: Any) -> ColumnElement[str]:
    """The first eight bytes of an id, in hex, as ``_key_in_locks`` writes them."""
    return func.left(
        func.replace(cast(pool_id, Text), literal_column("'-'"), literal_column("''")), literal_column("16")
    )


def _key_in_locks() -> ColumnElement[str]:
    """A lock on one bigint has its high half in ``classid`` and its low half in ``objid``."""

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
    """Locks the records of pools whose counters still stand where they stood; another rescuer's are passed by.

    Until this transaction ends such a pool cannot beat, and cannot be taken for alive by itself.
    """
    p = aliased(t.pools, "p")
    place = func.width_bucket(p.c.id, IDS, type_=Integer)
    beats = Grouping(bindparam("p_beats", type_=ARRAY(BigInteger)))[place]
    rows = (
        select(p.c.id, p.c.stopping, p.c.max_crashes)
        .where(p.c.id == any_(array_of(select(func.unnest(IDS)))), Grouping(IDS)[place] == p.c.id, beats == p.c.beats)
        .with_for_update(skip_locked=True, of=p)
    )
    return Statement("still_dead", rows)


def orphaned(t: Tables) -> Statement:
    """Pools that hold tasks and have no record.

    It goes from holder to holder through the index of held rows, so it costs a step for each pool and not for each row,
    whatever the statistics say; DISTINCT read the whole table where they told of few rows that are not held.
    """
    c = t.tasks.c
    held = select(c.pool_id).where(c.state == literal_column("'in_progress'")).order_by(c.pool_id)
    holder = held.limit(literal_column("1")).cte("holder", recursive=True)
    following = held.where(c.pool_id > holder.c.pool_id).limit(literal_column("1")).scalar_subquery()
    holder = holder.union_all(select(following).where(holder.c.pool_id.is_not(None)))
    unknown = holder.c.pool_id != all_(array_of(select(t.pools.c.id)))
    return Statement("orphaned", select(holder.c.pool_id).where(unknown))


def rescue(t: Tables) -> Statement:
    """Takes back what a dead pool held, and says how much that was: more than is taken back, where rows are locked.

    Where it held a suspect alone, that one is charged. Where it held anything beside, even another suspect, the suspect
    had not begun, and is not. Nobody is charged where the pool was stopping.
    """
    task, other = aliased(t.tasks, "t"), aliased(t.tasks, "other")
    c = task.c
    suspect_from: ColumnElement[int] = literal_column(str(SUSPECT_AFTER))
    # A CTE, so that they are counted once, and not in each place of the text. All of them: where statistics are old,
    # a look for just another one goes through the table instead of the index.
    holding = (
        select(
            func.count().label("count"),
            (func.count() == literal_column("1")).label("one"),
            func.array_agg(other.c.id).filter(other.c.crashes >= suspect_from).label("suspects"),
        )
        .where(other.c.pool_id == POOL, other.c.state == literal_column("'in_progress'"))
        .cte("holding")
    )
    is_alone = select(holding.c.one).scalar_subquery()
    is_charged = bindparam("p_charged", type_=Boolean) & or_(c.crashes < suspect_from, is_alone)
    most = bindparam("p_max_crashes", type_=Integer)
    crashes = func.least(c.crashes + literal_column("1"), literal_column("32767"))
    is_parked = is_charged & (crashes >= most)
    waits = is_charged & (crashes >= suspect_from)
    delay = func.power(literal_column("2"), func.least(crashes, literal_column(str(_LONGEST))))
    message = func.concat(
        literal_column("'crashed: the process of its worker died under it, '"),
        crashes,
        literal_column("' of '"),
        most,
        literal_column("' times'"),
    )
    entry = func.jsonb_build_object(
        literal_column("'number'"), c.attempt, literal_column("'error'"), message, literal_column("'traceback'"), null()
    )
    due_state = case((is_charged | _was_charged(c), literal_column("'retried'")), else_=literal_column("'new'"))
    rescued = (
        update(task)
        .where(*_held_and_unlocked(t, c))
        .values(
            state=cast(case((is_parked, literal_column("'failed'")), else_=due_state), t.tasks.c.state.type),
            crashes=case((is_charged, crashes), else_=c.crashes),
            scheduled_at=case(
                (waits, func.clock_timestamp() + delay * cast(literal_column("'1 s'"), Interval)), else_=c.scheduled_at
            ),
            error_message=case((is_charged, message), else_=c.error_message),
            errors=case((is_charged, with_entry(c, cast(entry, Text))), else_=c.errors),
            pool_id=null(),
            claimed_at=null(),
            updated_at=func.now(),
        )
        .returning(
            c.id,
            c.kind,
            c.attempt,
            c.crashes,
            cast(c.state, Text).label("state"),
            c.task_type,
            c.priority,
            c.scheduled_at,
        )
        .cte("rescued")
    )
    r = rescued.c
    woken = waking(t, rescued, passed_at=due_time(r))
    # The row that is returned no longer tells: it has the new count.
    was_spared = func.coalesce(r.id == any_(holding.c.suspects), _FALSE) & not_(holding.c.one)
    charged = (bindparam("p_charged", type_=Boolean) & not_(was_spared)).label("charged")
    told = select(holding.c.count, r.id, r.kind, r.attempt, r.crashes, r.state, charged, woken)
    return Statement("rescue", told.select_from(holding.outerjoin(rescued, true())))


def _was_charged(c: Any) -> ColumnElement[bool]:
    """Not by their sum, which is too large for an integer where one of them is at its limit."""
    return or_(c.retries > literal_column("0"), c.crashes > literal_column("0"))


def _held_and_unlocked(t: Tables, c: Any) -> list[ColumnElement[bool]]:
    """What a pool holds, but for rows that a run's own transaction has locked: they are not to be waited for.

    They are gone when it commits. Where it does not, a later rescue finds them: their holder's record is kept.
    """
    held = aliased(t.tasks, "held")
    unlocked = (
        select(held.c.id)
        .where(held.c.pool_id == POOL, held.c.state == literal_column("'in_progress'"))
        .with_for_update(key_share=True, skip_locked=True, of=held)
    )
    return [c.id == any_(array_of(unlocked)), c.pool_id == POOL, cast(c.state, Text) == literal_column("'in_progress'")]


def declare_dead(t: Tables) -> Statement:
    """Keeps the record of a dead pool, so that its last tasks are taken back as the others were; once."""
    dead = update(t.pools).where(*is_alive(t)).values(beats=literal_column(str(DECLARED_DEAD)))
    return Statement("declare_dead", dead)


def reconcile(t: Tables) -> Statement:
    """Gives back, uncharged, what a pool holds without knowing it."""
    task = aliased(t.tasks, "t")
    c = task.c
    due = case((_was_charged(c), literal_column("'retried'")), else_=literal_column("'new'"))
    given_back = (
        update(task)
        .where(*_held_and_unlocked(t, c), c.id != all_(IDS))
        .values(
            state=cast(due, t.tasks.c.state.type),
            pool_id=null(),
            claimed_at=null(),
            updated_at=func.now(),
        )
        .returning(c.id, c.task_type, c.priority, c.scheduled_at)
        .cte("given_back")
    )
    return Statement("reconcile", select(given_back.c.id, waking(t, given_back)).select_from(given_back))
