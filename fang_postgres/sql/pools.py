"""Builds the statements for the rows of pools, and for their claims."""

from typing import Any

from sqlalchemy import (
    Boolean,
    Double,
    Integer,
    Interval,
    SmallInteger,
    Text,
    all_,
    and_,
    any_,
    bindparam,
    cast,
    delete,
    exists,
    extract,
    func,
    literal_column,
    not_,
    or_,
    select,
    true,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, insert
from sqlalchemy.sql.elements import ColumnElement

from fang_core.lifecycle import DUE_STATES
from fang_core.liveness import DECLARED_DEAD
from fang_core.record import HIGHEST_PRIORITY, LOWEST_PRIORITY
from fang_postgres.schema import Tables
from fang_postgres.sql.fragments import (
    LIMIT,
    POOL,
    aliased,
    array_of,
    claimed_columns,
    is_alive,
    is_due,
    is_registered,
    lanes,
    managed_types,
    marking_due_rows,
    nulls,
    state_literals,
    telling,
    within,
)
from fang_postgres.statement import Statement


def register(t: Tables) -> Statement:
    """Inserts a pool's row; repeating it is harmless."""
    values = {
        "id": POOL,
        "mode": bindparam("p_mode", type_=Text),
        "host": bindparam("p_host", type_=Text),
        "pid": bindparam("p_pid", type_=Integer),
        "task_types": bindparam("p_task_types", type_=ARRAY(Text)),
        "kinds": bindparam("p_kinds", type_=ARRAY(Text)),
        "workers": bindparam("p_workers", type_=Integer),
        "lease": bindparam("p_lease", type_=Interval),
        "max_crashes": bindparam("p_max_crashes", type_=Integer),
        "isolated_kinds": bindparam("p_isolated_kinds", type_=ARRAY(Text)),
    }
    return Statement("register", insert(t.pools).values(values).on_conflict_do_nothing(index_elements=[t.pools.c.id]))


def update_kinds(t: Tables) -> Statement:
    """Writes the kinds of a pool. Never an upsert: an id whose record other pools have deleted must not come back."""
    values = {
        "kinds": bindparam("p_kinds", type_=ARRAY(Text)),
        "isolated_kinds": bindparam("p_isolated_kinds", type_=ARRAY(Text)),
    }
    return Statement("update_kinds", update(t.pools).where(*is_alive(t)).values(values).returning(t.pools.c.id))


def unregister(t: Tables) -> Statement:
    """Deletes a pool's row, and the messages that it has not handled."""
    unheard = delete(t.messages).where(t.messages.c.pool_id == POOL).cte("unheard")
    return Statement("unregister", delete(t.pools).where(t.pools.c.id == POOL).add_cte(unheard))


def list_pools(t: Tables) -> Statement:
    """Reads the registered pools, in the order in which they started."""
    pools, live = t.pools.alias("p"), t.live.alias("v")
    c = pools.c
    told = cast(c.runs, Text).label("runs")
    v = (live.c.busy, live.c.waiting, within(live.c.at), cast(live.c.runs, Text).label("live"))
    rows = select(
        c.id, c.mode, c.host, c.pid, c.task_types, c.kinds, c.workers, within(c.started_at), c.stopping, told, *v
    )
    rows = rows.select_from(pools.outerjoin(live, live.c.pool_id == c.id))
    return Statement("pools", rows.order_by(c.started_at, c.id))


def send(t: Tables) -> Statement:
    """Leaves a message for a pool, unless that is gone or was declared dead; wakes its heart."""
    message = {
        "pool_id": t.pools.c.id,
        "sender": bindparam("p_sender", type_=Text),
        "kind": bindparam("p_kind", type_=Text),
        "body": cast(bindparam("p_body", type_=Text), JSONB),
    }
    sent = insert(t.messages).from_select(list(message), select(*message.values()).where(*is_alive(t)))
    return Statement("send", sent.returning(t.messages.c.id, telling(t, t.messages.c.pool_id)))


def forget_messages(t: Tables) -> Statement:
    """Deletes the messages to pools that have no record: one may have been sent just as its pool ended."""
    gone = t.messages.c.pool_id != all_(array_of(select(t.pools.c.id)))
    return Statement("forget_messages", delete(t.messages).where(gone))


def forget_live(t: Tables) -> Statement:
    """Deletes what pools said of their runs that have no record: one may have been written just as its pool ended."""
    gone = t.live.c.pool_id != all_(array_of(select(t.pools.c.id)))
    return Statement("forget_live", delete(t.live).where(gone))


def set_waiting(t: Tables) -> Statement:
    """Writes whether the pool waits to be woken."""
    waiting = bindparam("p_waiting", type_=Boolean)
    return Statement("set_waiting", update(t.pools).where(t.pools.c.id == POOL).values({"waiting": waiting}))


def has_taker(t: Tables) -> Statement:
    """Returns whether another pool may have a free worker for a row of one of these types and kinds.

    A pool without a lock may not listen, and then it never writes whether it waits.
    """
    p = t.pools.alias("p")
    lists = {
        "task_type": bindparam("p_task_types", type_=ARRAY(Text)),
        "kind": bindparam("p_kinds", type_=ARRAY(Text)),
    }
    one = func.unnest(*lists.values()).table_valued(*lists).render_derived(name="task")
    serves = and_(one.c.task_type == any_(p.c.task_types), one.c.kind == any_(p.c.kinds))
    may_be_free = and_(
        p.c.id != POOL,
        p.c.beats > literal_column(str(DECLARED_DEAD)),
        not_(p.c.stopping),
        or_(p.c.waiting, not_(p.c.locks)),
    )
    found = exists(select(literal_column("1")).select_from(p.join(one, serves)).where(may_be_free))
    return Statement("has_taker", select(found.label("has_taker")))


def claim(t: Tables, *, retries_first: bool = False) -> Statement:
    """Locks and marks due rows, range by range (task type, priority), in one statement.

    Its first row holds the clock and the snapshot, and no task; they are not sent with each task, which would cost a
    microsecond each. SKIP LOCKED can still wait, for a row whose former holder ends just then: a claim can be the
    victim of a deadlock, and is repeated. RETURNING gives rows in no order; the client sorts them.
    """
    task = aliased(t.tasks, "t")
    marking = marking_due_rows(t, task, of_kinds=True, retries_first=retries_first)
    claimed = marking.returning(*claimed_columns(task.c)).cte("claimed")
    head: list[ColumnElement[Any]] = [
        cast(func.pg_current_snapshot(), Text).label("snapshot"),
        func.now().label("now"),
        is_registered(t).label("registered"),
        managed_types(t).label("managed"),
    ]
    # The parts of a UNION ALL come in this order unless they run in parallel, which those of a write never do.
    without_task = select(*head, *nulls(claimed.c))
    return Statement(
        "claim_retries_first" if retries_first else "claim", without_task.union_all(select(*nulls(head), claimed))
    )


def waiting_types(t: Tables) -> Statement:
    """Returns at most ``p_limit`` lanes with rows that wait, and whether the first row of each is due.

    It goes from lane to lane through the index of due rows: its cost depends on how many lanes have rows.
    """
    c = t.tasks.c
    lane = (c.task_type, c.priority)
    one = literal_column("1", Integer)
    first = (
        select(*lane, c.scheduled_at)
        .where(c.state.in_(state_literals(DUE_STATES)))
        .order_by(*lane, c.scheduled_at, c.id)
        .limit(one)
    )
    found = first.add_columns(one.label("step")).cte("found", recursive=True)
    following = first.where(tuple_(*lane) > tuple_(found.c.task_type, found.c.priority)).lateral("following")
    goes_on = found.c.step < bindparam("p_limit", type_=Integer)
    steps = select(following, found.c.step + one).select_from(found.join(following, true())).where(goes_on)
    found = found.union_all(steps)
    # Not now(): the transaction may have begun before a row that it sees got its due time.
    is_due = (found.c.scheduled_at <= func.clock_timestamp()).label("is_due")
    return Statement("waiting_types", select(found.c.task_type, is_due))


def next_due(t: Tables) -> Statement:
    """Returns the seconds until the next row of these kinds becomes due; null if none is near the front."""
    c, lane = t.tasks.c, lanes()
    later = (
        select(c.kind, c.scheduled_at)
        .where(
            c.task_type == lane.c.task_type,
            c.priority == lane.c.priority,
            c.state.in_(state_literals(DUE_STATES)),
            c.scheduled_at > func.now(),
        )
        .order_by(c.scheduled_at, c.id)
        .limit(LIMIT)  # rows of other kinds may come first
        .lateral("later")
    )
    known = later.c.kind == any_(bindparam("p_kinds", type_=ARRAY(Text)))
    left = cast(extract("epoch", func.min(later.c.scheduled_at) - func.clock_timestamp()), Double)
    return Statement("next_due", select(left.label("seconds")).select_from(lane.join(later, known)))


def unknown_kinds(t: Tables) -> Statement:
    """Kinds among the first due rows of each lane that no registered pool of the task type knows."""
    c, p, lane = t.tasks.c, t.pools.alias("p"), lanes()
    first = select(c.kind).where(*is_due(c, lane)).order_by(c.scheduled_at, c.id).limit(LIMIT).lateral("first")
    known = exists(
        select(literal_column("1")).where(first.c.kind == any_(p.c.kinds), lane.c.task_type == any_(p.c.task_types))
    )
    kinds = select(first.c.kind).select_from(lane.join(first, true())).where(not_(known)).distinct()
    return Statement("unknown_kinds", kinds.order_by(first.c.kind))


def unserved_types(t: Tables) -> Statement:
    """Returns the task types that no registered pool serves, with rows that have been due for ``p_due_for``, by name.

    It goes from type to type through the index of due rows, ``p_limit`` steps at most, and looks at the first row of
    each lane of a type that no pool serves: it never reads all waiting rows.
    """
    c, due_c = t.tasks.c, t.tasks.alias("t").c
    waiting = select(c.task_type).where(c.state.in_(state_literals(DUE_STATES))).order_by(c.task_type)
    one = literal_column("1", Integer)
    found = waiting.add_columns(one.label("step")).limit(one).cte("found", recursive=True)
    following = waiting.where(c.task_type > found.c.task_type).limit(one).scalar_subquery()
    goes_on = (found.c.task_type.is_not(None), found.c.step < bindparam("p_limit", type_=Integer))
    found = found.union_all(select(following, found.c.step + one).where(*goes_on))
    lanes_of_it = func.generate_series(literal_column(str(HIGHEST_PRIORITY)), literal_column(str(LOWEST_PRIORITY)))
    lane = lanes_of_it.table_valued("priority").render_derived(name="lane")
    due = (
        select(due_c.id)
        .where(
            due_c.task_type == found.c.task_type,
            due_c.priority == cast(lane.c.priority, SmallInteger),
            due_c.state.in_(state_literals(DUE_STATES)),
            due_c.scheduled_at <= func.now() - bindparam("p_due_for", type_=Interval),
        )
        .order_by(due_c.scheduled_at, due_c.id)
        .limit(one)
        .lateral("due")
    )
    is_unserved = found.c.task_type != all_(array_of(select(func.unnest(t.pools.c.task_types))))
    types = select(found.c.task_type).select_from(found.join(lane, true()).join(due, true())).where(is_unserved)
    return Statement("unserved_types", types.distinct().order_by(found.c.task_type))
