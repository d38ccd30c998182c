"""Pools: their own rows, and their claims."""

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
from sqlalchemy.dialects.postgresql import ARRAY, insert

from fang_core.lifecycle import DUE_STATES
from fang_core.liveness import DECLARED_DEAD
from fang_core.record import DEFAULT_MAX_RETRIES, HIGHEST_PRIORITY, LOWEST_PRIORITY
from fang_postgres.schema import Tables
from fang_postgres.sql.fragments import (
    LIMIT,
    POOL,
    aliased,
    array_of,
    is_alive,
    is_due,
    is_registered,
    levels,
    marking_due_rows,
    state_literals,
)
from fang_postgres.statement import Statement


def register(t: Tables) -> Statement:
    """A pool's row; repeating it is harmless."""
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
    }
    return Statement("register", insert(t.pools).values(values).on_conflict_do_nothing(index_elements=[t.pools.c.id]))


def learn(t: Tables) -> Statement:
    """The kinds of a pool. Never an upsert: an id whose record others have taken away must not come back."""
    kinds = bindparam("p_kinds", type_=ARRAY(Text))
    return Statement("learn", update(t.pools).where(*is_alive(t)).values(kinds=kinds).returning(t.pools.c.id))


def announce(t: Tables) -> Statement:
    """Whether the pool waits to be woken."""
    waiting = bindparam("p_waiting", type_=Boolean)
    return Statement("announce", update(t.pools).where(t.pools.c.id == POOL).values({"waiting": waiting}))


def has_taker(t: Tables) -> Statement:
    """Whether another pool may have a free worker for a row of one of these types and kinds.

    One without a lock may not listen, and then it never says whether it waits.
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


def claim(t: Tables) -> Statement:
    """Due rows, range by range (task type, priority), locked and marked in one statement.

    It always returns at least one row (a null id: nothing was claimed), for the clock and the snapshot. SKIP LOCKED can
    still wait, for a row whose former holder ends just then: a claim can be the victim of a deadlock, and is repeated.
    RETURNING comes in no order; the client sorts.
    """
    task = aliased(t.tasks, "t")
    c = task.c
    claimed = (
        marking_due_rows(t, task, of_kinds=True)
        .returning(
            c.id,
            c.kind,
            cast(c.metadata.op("-")(literal_column("'type'")), Text).label("payload"),
            c.attempt,
            c.retries,
            func.coalesce(c.max_retries, literal_column(str(DEFAULT_MAX_RETRIES))).label("max_retries"),
            c.crashes,
            c.task_type,
            c.priority,
            c.scheduled_at,
        )
        .cte("claimed")
    )
    one = select(literal_column("1").label("one")).subquery("one")
    head = select(
        cast(func.pg_current_snapshot(), Text).label("snapshot"),
        func.now().label("now"),
        is_registered(t).label("registered"),
        claimed,
    )
    return Statement("claim", head.select_from(one.outerjoin(claimed, true())))


def waiting_types(t: Tables) -> Statement:
    """Each level with rows that wait, and whether its first one is due, ``p_limit`` of them at most.

    It goes from level to level through the index of due rows: what it costs follows from how many have rows.
    """
    c = t.tasks.c
    level = (c.task_type, c.priority)
    one = literal_column("1", Integer)
    first = (
        select(*level, c.scheduled_at)
        .where(c.state.in_(state_literals(DUE_STATES)))
        .order_by(*level, c.scheduled_at, c.id)
        .limit(one)
    )
    found = first.add_columns(one.label("step")).cte("found", recursive=True)
    following = first.where(tuple_(*level) > tuple_(found.c.task_type, found.c.priority)).lateral("following")
    goes_on = found.c.step < bindparam("p_limit", type_=Integer)
    steps = select(following, found.c.step + one).select_from(found.join(following, true())).where(goes_on)
    found = found.union_all(steps)
    # Not now(): the transaction may have begun before a row that is seen got its due time.
    is_due = (found.c.scheduled_at <= func.clock_timestamp()).label("is_due")
    return Statement("waiting_types", select(found.c.task_type, is_due))


def next_due(t: Tables) -> Statement:
    """Seconds until the first row of these kinds is due that is not yet; null where none is near the front."""
    c, level = t.tasks.c, levels()
    later = (
        select(c.kind, c.scheduled_at)
        .where(
            c.task_type == level.c.task_type,
            c.priority == level.c.priority,
            c.state.in_(state_literals(DUE_STATES)),
            c.scheduled_at > func.now(),
        )
        .order_by(c.scheduled_at, c.id)
        .limit(LIMIT)  # foreign kinds may stand before
        .lateral("later")
    )
    known = later.c.kind == any_(bindparam("p_kinds", type_=ARRAY(Text)))
    left = cast(extract("epoch", func.min(later.c.scheduled_at) - func.clock_timestamp()), Double)
    return Statement("next_due", select(left.label("seconds")).select_from(level.join(later, known)))


def unknown_kinds(t: Tables) -> Statement:
    """Kinds among the first due rows of each level that no registered pool of the task type knows."""
    c, p, level = t.tasks.c, t.pools.alias("p"), levels()
    first = select(c.kind).where(*is_due(c, level)).order_by(c.scheduled_at, c.id).limit(LIMIT).lateral("first")
    known = exists(
        select(literal_column("1")).where(first.c.kind == any_(p.c.kinds), level.c.task_type == any_(p.c.task_types))
    )
    kinds = select(first.c.kind).select_from(level.join(first, true())).where(not_(known)).distinct()
    return Statement("unknown_kinds", kinds.order_by(first.c.kind))


def unserved_types(t: Tables) -> Statement:
    """Task types with rows that have been due for so long, and that no registered pool serves, by name.

    It goes from type to type through the index of due rows, ``p_limit`` steps at most, and looks at the first row of
    each level of a type that nobody serves: however many rows wait, they are not read.
    """
    c, due_c = t.tasks.c, t.tasks.alias("t").c
    waiting = select(c.task_type).where(c.state.in_(state_literals(DUE_STATES))).order_by(c.task_type)
    one = literal_column("1", Integer)
    found = waiting.add_columns(one.label("step")).limit(one).cte("found", recursive=True)
    following = waiting.where(c.task_type > found.c.task_type).limit(one).scalar_subquery()
    goes_on = (found.c.task_type.is_not(None), found.c.step < bindparam("p_limit", type_=Integer))
    found = found.union_all(select(following, found.c.step + one).where(*goes_on))
    levels_of_it = func.generate_series(literal_column(str(HIGHEST_PRIORITY)), literal_column(str(LOWEST_PRIORITY)))
    level = levels_of_it.table_valued("priority").render_derived(name="level")
    due = (
        select(due_c.id)
        .where(
            due_c.task_type == found.c.task_type,
            due_c.priority == cast(level.c.priority, SmallInteger),
            due_c.state.in_(state_literals(DUE_STATES)),
            due_c.scheduled_at <= func.now() - bindparam("p_due_for", type_=Interval),
        )
        .order_by(due_c.scheduled_at, due_c.id)
        .limit(one)
        .lateral("due")
    )
    is_unserved = found.c.task_type != all_(array_of(select(func.unnest(t.pools.c.task_types))))
    types = select(found.c.task_type).select_from(found.join(level, true()).join(due, true())).where(is_unserved)
    return Statement("unserved_types", types.distinct().order_by(found.c.task_type))
