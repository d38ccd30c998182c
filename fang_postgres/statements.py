"""Every statement of Fang, for one schema name. ``tests/postgres/golden`` holds the SQL that comes of it, to be read.

Rules that these forms follow, each learned from a plan or a race that went wrong:

- A write has exactly one base relation. Lists come in through ``ARRAY(SELECT unnest(..))``, which the planner always
  takes for ten rows, and values for each row through array subscripts. Joins by id turned quadratic under stale
  statistics.
- The fence stands in the outermost WHERE, so that a concurrent change is checked again against all of it.
- Constants are literals in the text: under a generic plan ``state = $2`` would miss the partial indexes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    DateTime,
    Integer,
    Interval,
    SmallInteger,
    Table,
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
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, UUID, insert
from sqlalchemy.sql.elements import ColumnElement, Grouping

from fang_core.failure import ERRORS_KEPT
from fang_core.lifecycle import DUE_STATES, TERMINAL_STATES
from fang_core.record import DEFAULT_MAX_RETRIES, TaskState
from fang_postgres.schema import VERSION_TABLE, Tables, tables
from fang_postgres.statement import Statement

_IDS = bindparam("p_ids", type_=ARRAY(UUID))
_ATTEMPTS = bindparam("p_attempts", type_=ARRAY(BigInteger))
_POOL = bindparam("p_pool_id", type_=UUID)
_LIMIT = bindparam("p_limit", type_=Integer)


@dataclass(frozen=True, slots=True)
class Statements:
    """All statements under one schema name."""

    insert: Statement
    insert_many: Statement
    insert_unique: Statement
    existing: Statement
    twins: Statement
    find: Statement
    change: Statement
    touch: Statement
    remove_one: Statement
    remove_twin: Statement
    remove_type: Statement
    remove_all: Statement
    remove_scheduled: Statement
    clock: Statement
    sight: Statement
    tick: Statement
    register: Statement
    unregister: Statement
    announce: Statement
    claim: Statement
    remove: Statement
    finish: Statement
    settle: Statement
    prune_finished: Statement
    prune_cancelled: Statement
    prune_failed: Statement
    unknown_kinds: Statement
    version: Statement


@lru_cache(maxsize=64)
def statements(schema: str) -> Statements:
    """Builds and compiles them all, once for a schema name."""
    t = tables(schema)
    return Statements(
        insert=_insert(t),
        insert_many=_insert_many(t),
        insert_unique=_insert_unique(t),
        existing=_existing(t),
        twins=_twins(t),
        find=_find(t),
        change=_change(t),
        touch=_touch(t),
        remove_one=_removal(t, "one", t.tasks.c.id == bindparam("p_id", type_=UUID)),
        remove_twin=_removal(t, "twin", _is_live_twin(t.tasks.c)),
        remove_type=_removal(t, "type", t.tasks.c.task_type == bindparam("p_task_type", type_=Text)),
        remove_all=_removal(t, "all"),
        remove_scheduled=_removal(t, "scheduled", *_is_scheduled(t.tasks.c)),
        clock=Statement("clock", select(func.clock_timestamp().label("now"))),
        sight=_sight(t),
        tick=_tick(t),
        register=_register(t),
        unregister=Statement("unregister", delete(t.pools).where(t.pools.c.id == _POOL)),
        announce=_announce(t),
        claim=_claim(t),
        remove=_remove(t),
        finish=_finish(t),
        settle=_settle(t),
        prune_finished=_prune(t, TaskState.FINISHED),
        prune_cancelled=_prune(t, TaskState.CANCELLED),
        prune_failed=_prune(t, TaskState.FAILED),
        unknown_kinds=_unknown_kinds(t),
        version=_version(schema),
    )


# Inserts --------------------------------------------------------------------------------------------------------------

_DUE = func.coalesce(
    bindparam("p_scheduled_at", type_=DateTime(timezone=True)),
    # clock_timestamp(), not now(): the caller's transaction may have begun long ago. One time for all rows of a bulk,
    # whose order is that of their ids.
    select(func.clock_timestamp()).scalar_subquery()
    + func.coalesce(bindparam("p_delay", type_=Interval), cast(literal_column("'0'"), Interval)),
)


def _insert(t: Tables) -> Statement:
    """One row, unless its id or its unique hash is taken: then no row comes back, and nobody's row is locked."""
    inserted = (
        insert(t.tasks)
        .values({**_new_row(), "scheduled_at": _DUE})
        .on_conflict_do_nothing()
        .returning(*_inserted(t))
        .cte("inserted")
    )
    woken = _woken(t, inserted)
    return Statement("insert", select(inserted.c.scheduled_at, inserted.c.created_at, woken).select_from(inserted))


def _new_row() -> dict[str, Any]:
    return {
        "id": bindparam("p_id", type_=UUID),
        "metadata": cast(bindparam("p_metadata", type_=Text), JSONB),
        "task_type": bindparam("p_task_type", type_=Text),
        "priority": bindparam("p_priority", type_=SmallInteger),
        "max_retries": bindparam("p_max_retries", type_=Integer),
        "uniq_hash": bindparam("p_uniq_hash", type_=Text),
    }


def _insert_many(t: Tables) -> Statement:
    """Rows that cannot collide. One row comes back for all of them: what is left to tell is the same for each."""
    names, source = _new_rows(unique=False)
    inserted = insert(t.tasks).from_select(names, source).returning(*_inserted(t)).cte("inserted")
    told = select(
        func.max(inserted.c.scheduled_at).label("scheduled_at"),
        func.max(inserted.c.created_at).label("created_at"),
        _woken(t, inserted),
    )
    return Statement("insert_many", told.select_from(inserted))


def _insert_unique(t: Tables) -> Statement:
    """Rows of which some may have a live twin; those that were inserted come back.

    They are to be given in the order of their hashes, so that two bulks wait for each other in one direction only.
    """
    names, source = _new_rows(unique=True)
    inserted = (
        insert(t.tasks)
        .from_select(names, source)
        .on_conflict_do_nothing()
        .returning(t.tasks.c.id, *_inserted(t))
        .cte("inserted")
    )
    told = select(inserted.c.id, inserted.c.scheduled_at, inserted.c.created_at, _woken(t, inserted))
    return Statement("insert_unique", told.select_from(inserted))


def _new_rows(*, unique: bool) -> tuple[list[str], Any]:
    """The columns, and the rows that arrays of parameters stand for."""
    arrays: dict[str, Any] = {
        "id": _IDS,
        "metadata": bindparam("p_metadata", type_=ARRAY(Text)),
        "task_type": bindparam("p_task_types", type_=ARRAY(Text)),
        "priority": bindparam("p_priorities", type_=ARRAY(SmallInteger)),
        "max_retries": bindparam("p_max_retries", type_=ARRAY(Integer)),
    }
    if unique:
        arrays["uniq_hash"] = bindparam("p_uniq_hashes", type_=ARRAY(Text))
    row = func.unnest(*arrays.values()).table_valued(*arrays).render_derived(name="new_task")
    values = [cast(row.c[name], JSONB) if name == "metadata" else row.c[name] for name in arrays]
    return [*arrays, "scheduled_at"], select(*values, _DUE.label("due"))


def _inserted(t: Tables) -> list[ColumnElement[Any]]:
    """What only the database knows of a new row, and what decides whom to wake."""
    c = t.tasks.c
    return [c.task_type, c.scheduled_at, c.created_at]


def _woken(t: Tables, rows: Any) -> ColumnElement[Any]:
    """Tells the pools that wait for these rows, once a task type; to be selected, or it does not run.

    Only where one waits: NOTIFY serializes commits, and always notifying cost 70 % of concurrent inserts. Rows that are
    due later than that are found by polling. ``p_notify`` is false in a two-phase transaction, which must not notify.
    """
    soon = func.clock_timestamp() + cast(literal_column("'10 s'"), Interval)
    wanted = select(rows.c.task_type).where(rows.c.scheduled_at <= soon).distinct().subquery("wanted")
    p = t.pools.alias("p")
    waits = exists(select(literal_column("1")).where(p.c.waiting, wanted.c.task_type == any_(p.c.task_types)))
    told = (
        select(
            func.pg_notify(
                literal_column(f"'{channel(t.schema)}'"), func.left(wanted.c.task_type, literal_column("500"))
            ).label("told")
        )
        .where(bindparam("p_notify", type_=Boolean), waits)
        .cte("woken")
    )
    return select(func.count(told.c.told)).scalar_subquery().label("woken")


def channel(schema: str) -> str:
    """The name that pools LISTEN to; Postgres allows 63 bytes."""
    return f"fang_{schema}"[:63]


def _existing(t: Tables) -> Statement:
    """The row that kept another from being inserted: by its id, or by its unique hash; and whether it is the same."""
    c = t.tasks.c
    same = (c.metadata == cast(bindparam("p_metadata", type_=Text), JSONB)).label("same")
    by_id = select(*task_columns(t), same).where(c.id == bindparam("p_id", type_=UUID))
    by_hash = select(*task_columns(t), same).where(_is_live_twin(c))
    return Statement("existing", by_id.union_all(by_hash))


def _is_live_twin(c: Any) -> ColumnElement[bool]:
    return and_(c.uniq_hash == bindparam("p_uniq_hash", type_=Text), not_(_has_ended(c)))


def _has_ended(c: Any) -> ColumnElement[bool]:
    return Grouping(c.state.in_(_literals(TERMINAL_STATES)))


def _literals(states: Sequence[TaskState]) -> list[ColumnElement[Any]]:
    return [literal_column(f"'{state}'") for state in states]


def _twins(t: Tables) -> Statement:
    """The live rows of these hashes."""
    c = t.tasks.c
    hashes = _array(select(func.unnest(bindparam("p_uniq_hashes", type_=ARRAY(Text)))))
    return Statement("twins", select(*task_columns(t)).where(c.uniq_hash == any_(hashes), not_(_has_ended(c))))


# By hand --------------------------------------------------------------------------------------------------------------


def _change(t: Tables) -> Statement:
    """A move by hand, where the row still is as it was read. No row comes back where it is not.

    A unique row is not revived beside a live twin; between two that revive at once the index decides.
    """
    task, twin = _as(t.tasks, "t"), _as(t.tasks, "twin")
    c = task.c
    revives = bindparam("p_revives", type_=Boolean)
    has_twin = exists(
        select(literal_column("1")).where(twin.c.uniq_hash == c.uniq_hash, not_(_has_ended(twin.c)))
    ).correlate(task)
    zero: ColumnElement[int] = literal_column("0")
    due = func.coalesce(func.clock_timestamp() + bindparam("p_delay", type_=Interval), c.scheduled_at)
    values = {
        "state": cast(bindparam("p_state", type_=Text), t.tasks.c.state.type),
        "scheduled_at": case((revives, func.greatest(due, func.clock_timestamp())), else_=due),
        "retries": case((revives, zero), else_=c.retries + bindparam("p_charge", type_=Integer)),
        "crashes": case((revives, zero), else_=c.crashes),
        "error_message": func.coalesce(bindparam("p_error_message", type_=Text), c.error_message),
        "errors": _with_entry(c, bindparam("p_error_entry", type_=Text)),
        "pool_id": null(),
        "claimed_at": null(),
        "updated_at": func.clock_timestamp(),  # not now(): it tells two changes in one transaction apart
    }
    changed = (
        update(task)
        .where(
            c.id == bindparam("p_id", type_=UUID),
            cast(c.state, Text) == bindparam("p_read_state", type_=Text),
            c.attempt == bindparam("p_read_attempt", type_=BigInteger),
            c.updated_at == bindparam("p_read_updated_at", type_=DateTime(timezone=True)),
            not_(and_(revives, has_twin)),
        )
        .values(values)
        .returning(*task_columns(t, c))
        .cte("changed")
    )
    return Statement("change", select(changed, _woken(t, changed)).select_from(changed))


def _touch(t: Tables) -> Statement:
    """Claims one due row of whatever kind; its first column says whether the queue's own row is there."""
    task = _as(t.tasks, "t")
    claimed = _claimed(t, task, kinds=None).returning(*task_columns(t, task.c)).cte("claimed")
    one = select(literal_column("1").label("one")).subquery("one")
    head = select(_is_registered(t).label("registered"), claimed)
    return Statement("touch", head.select_from(one.outerjoin(claimed, true())))


def _removal(t: Tables, name: str, *which: ColumnElement[bool]) -> Statement:
    gone = delete(t.tasks).where(*which).returning(t.tasks.c.id).cte("gone")
    return Statement(f"remove_{name}", select(func.count().label("count")).select_from(gone))


def _is_scheduled(c: Any) -> list[ColumnElement[bool]]:
    """Waits for its first run: neither a retry in backoff nor a snoozed task."""
    return [
        c.state == literal_column("'new'"),
        c.attempt == literal_column("0"),
        c.scheduled_at > func.clock_timestamp(),
    ]


# Schedules ------------------------------------------------------------------------------------------------------------


def _sight(t: Tables) -> Statement:
    """The last ticks; a schedule that nobody has seen begins now. One that another is just adding may be missing."""
    c = t.schedules.c
    names = bindparam("p_names", type_=ARRAY(Text))
    name = func.unnest(names).column_valued("name")
    first_seen = (
        insert(t.schedules)
        .from_select(["name", "last_tick"], select(name, func.now()).where(name != all_(_array(select(c.name)))))
        .on_conflict_do_nothing()
        .returning(c.name, c.last_tick)
        .cte("first_seen")
    )
    known = select(c.name, c.last_tick).where(c.name == any_(_array(select(func.unnest(names)))))
    rows = known.union_all(select(first_seen.c.name, first_seen.c.last_tick)).subquery("sighted")
    one = select(literal_column("1").label("one")).subquery("one")
    head = select(func.clock_timestamp().label("now"), rows)
    return Statement("sight", head.select_from(one.outerjoin(rows, true())))


def _tick(t: Tables) -> Statement:
    """Raises a schedule's last tick and inserts the tick's task, or does neither.

    Also where the tick was raised before but still lies ahead: its task cannot have run, and its id admits it once.
    Always one row comes back.
    """
    s, at = t.schedules, bindparam("p_at", type_=DateTime(timezone=True))
    raising = insert(s).values({"name": bindparam("p_name", type_=Text), "last_tick": at})
    raised = (
        raising.on_conflict_do_update(
            index_elements=[s.c.name],
            set_={"last_tick": raising.excluded.last_tick},
            where=s.c.last_tick < raising.excluded.last_tick,
        )
        .returning(s.c.name)
        .cte("raised")
    )
    was_raised = exists(select(literal_column("1")).select_from(raised))
    values = _new_row()
    inserted = (
        insert(t.tasks)
        .from_select(
            [*values, "scheduled_at"],
            select(*values.values(), at).where(or_(was_raised, at > func.clock_timestamp())),
        )
        .on_conflict_do_nothing()
        .returning(*_inserted(t))
        .cte("inserted")
    )
    one = select(was_raised.label("raised")).subquery("one")
    head = select(one.c.raised, inserted.c.scheduled_at, inserted.c.created_at, _woken(t, inserted))
    return Statement("tick", head.select_from(one.outerjoin(inserted, true())))


# Reading a row --------------------------------------------------------------------------------------------------------


def _find(t: Tables) -> Statement:
    return Statement("find", select(*task_columns(t)).where(t.tasks.c.id == bindparam("p_id", type_=UUID)))


def task_columns(t: Tables, columns: Any = None) -> list[ColumnElement[Any]]:
    """A whole row, of the table or of an alias' columns, in the order that ``operations.as_task`` reads."""
    c = t.tasks.c if columns is None else columns
    return [
        c.id,
        cast(c.metadata, Text).label("metadata"),
        c.kind,
        c.task_type,
        cast(c.state, Text).label("state"),
        c.priority,
        c.retries,
        c.max_retries,
        c.crashes,
        c.attempt,
        c.scheduled_at,
        c.created_at,
        c.updated_at,
        c.error_message,
        cast(c.errors, Text).label("errors"),
        c.pool_id,
        c.claimed_at,
        c.uniq_hash,
    ]


# Pools ----------------------------------------------------------------------------------------------------------------


def _register(t: Tables) -> Statement:
    values = {
        "id": _POOL,
        "mode": bindparam("p_mode", type_=Text),
        "host": bindparam("p_host", type_=Text),
        "pid": bindparam("p_pid", type_=Integer),
        "task_types": bindparam("p_task_types", type_=ARRAY(Text)),
        "kinds": bindparam("p_kinds", type_=ARRAY(Text)),
        "workers": bindparam("p_workers", type_=Integer),
    }
    registering = insert(t.pools).values(values)
    again = registering.on_conflict_do_update(index_elements=[t.pools.c.id], set_={"kinds": registering.excluded.kinds})
    return Statement("register", again)


def _announce(t: Tables) -> Statement:
    waiting = bindparam("p_waiting", type_=Boolean)
    return Statement("announce", update(t.pools).where(t.pools.c.id == _POOL).values({"waiting": waiting}))


def _claim(t: Tables) -> Statement:
    """Due rows, range by range (task type, priority), locked and marked in one statement.

    It always returns at least one row (a null id: nothing was claimed), for the clock and the snapshot. SKIP LOCKED can
    still wait, for a row whose former holder ends just then: a claim can be the victim of a deadlock, and is repeated.
    RETURNING comes in no order; the client sorts.
    """
    task = _as(t.tasks, "t")
    c = task.c
    claimed = (
        _claimed(t, task, kinds=bindparam("p_kinds", type_=ARRAY(Text)))
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
        _is_registered(t).label("registered"),
        claimed,
    )
    return Statement("claim", head.select_from(one.outerjoin(claimed, true())))


def _is_registered(t: Tables) -> ColumnElement[bool]:
    return exists(select(literal_column("1")).where(t.pools.c.id == _POOL))


def _claimed(t: Tables, task: Any, kinds: ColumnElement[Any] | None) -> Any:
    """The UPDATE that marks due rows as held by the pool; ``kinds`` is None for all of them."""
    c = task.c
    level = _levels()
    in_level = (
        select(c.id)
        .where(
            *_is_due(c, level),
            c.attempt < literal_column(str(2**63 - 1)),
            _is_registered(t),
            *([] if kinds is None else [c.kind == any_(kinds)]),
        )
        .order_by(c.scheduled_at, c.id)
        .limit(_LIMIT)
        .with_for_update(
            key_share=True, skip_locked=True, of=task
        )  # NO KEY UPDATE: foreign keys to tasks do not hide them
        .lateral("in_level")
    )
    # The outer LIMIT is lazy: levels behind the one that fills it are never opened.
    due = (
        select(in_level.c.id)
        .select_from(level.join(in_level, true()))
        .limit(_LIMIT)
        .cte("due")
        .prefix_with("MATERIALIZED", dialect="postgresql")
    )
    return (
        update(task)
        .where(c.id == any_(_array(select(due.c.id))))
        .values(
            {
                c.state: literal_column("'in_progress'"),
                c.attempt: c.attempt + literal_column("1"),
                c.pool_id: _POOL,
                c.claimed_at: func.now(),
                c.updated_at: func.now(),
            }
        )
    )


def _levels() -> Any:
    """The ranges of the due index that are read one after the other."""
    levels = func.unnest(
        bindparam("p_task_types", type_=ARRAY(Text)), bindparam("p_priorities", type_=ARRAY(SmallInteger))
    ).table_valued("task_type", "priority")
    return levels.render_derived(name="level")


def _is_due(c: Any, level: Any) -> list[ColumnElement[bool]]:
    return [
        c.task_type == level.c.task_type,
        c.priority == level.c.priority,
        c.state.in_(_literals(DUE_STATES)),
        c.scheduled_at <= func.now(),
    ]


def _unknown_kinds(t: Tables) -> Statement:
    """Kinds among the first due rows of each level that no registered pool of the task type knows."""
    c, p, level = t.tasks.c, t.pools.alias("p"), _levels()
    first = select(c.kind).where(*_is_due(c, level)).order_by(c.scheduled_at, c.id).limit(_LIMIT).lateral("first")
    known = exists(
        select(literal_column("1")).where(first.c.kind == any_(p.c.kinds), level.c.task_type == any_(p.c.task_types))
    )
    kinds = select(first.c.kind).select_from(level.join(first, true())).where(not_(known)).distinct()
    return Statement("unknown_kinds", kinds.order_by(first.c.kind))


def _fence(c: Any) -> list[ColumnElement[bool]]:
    """(id, attempt, pool) of each row against two arrays that are sorted by id.

    ``width_bucket`` is a binary search: the place of the row's id in the sorted ids. In an unsorted array it can only
    miss. The state is compared as text, so that the planner does not take the index of held rows, whose dead entries
    pile up under a long transaction.
    """
    place = _place(c)
    return [
        c.id == any_(_array(select(func.unnest(_IDS)))),
        c.pool_id == _POOL,
        cast(c.state, Text) == literal_column("'in_progress'"),
        Grouping(_IDS)[place] == c.id,
        Grouping(_ATTEMPTS)[place] == c.attempt,
    ]


def _as(table: Table, name: str) -> Any:
    return table.alias(name)


def _place(c: Any) -> ColumnElement[int]:
    return func.width_bucket(c.id, _IDS, type_=Integer)


def _array(query: Any) -> ColumnElement[Any]:
    return func.array(query.scalar_subquery())


def _remove(t: Tables) -> Statement:
    task = _as(t.tasks, "t")
    return Statement("remove", delete(task).where(*_fence(task.c)).returning(task.c.id))


_RELEASED = {"pool_id": null(), "claimed_at": null(), "updated_at": func.now()}


def _finish(t: Tables) -> Statement:
    task = _as(t.tasks, "t")
    values = {"state": literal_column("'finished'"), **_RELEASED}
    return Statement("finish", update(task).where(*_fence(task.c)).values(values).returning(task.c.id))


def _settle(t: Tables) -> Statement:
    """Every outcome that has values of its own: one state, delay, charge and error for each row.

    What others may take now wakes them.
    """
    task = _as(t.tasks, "t")
    c = task.c
    place = _place(c)

    def of_row(name: str, type_: Any) -> ColumnElement[Any]:
        return Grouping(bindparam(name, type_=ARRAY(type_)))[place]

    values = {
        "state": cast(of_row("p_states", Text), t.tasks.c.state.type),
        "scheduled_at": func.coalesce(func.now() + of_row("p_delays", Interval), c.scheduled_at),
        "retries": c.retries + of_row("p_charges", Integer),
        "error_message": func.coalesce(of_row("p_error_messages", Text), c.error_message),
        "errors": _with_entry(c, of_row("p_error_entries", Text)),
        **_RELEASED,
    }
    due_at = case((c.state.in_(_literals(DUE_STATES)), c.scheduled_at)).label("scheduled_at")
    settled = update(task).where(*_fence(c)).values(values).returning(c.id, c.task_type, due_at).cte("settled")
    return Statement("settle", select(settled.c.id, _woken(t, settled)).select_from(settled))


def _with_entry(c: Any, entry: ColumnElement[Any]) -> ColumnElement[Any]:
    """The error history with one more entry, of which the last ones are kept; as it was where ``entry`` is null."""
    dated = cast(entry, JSONB).op("||")(func.jsonb_build_object(literal_column("'time'"), func.now()))
    last_ones: ColumnElement[str] = literal_column(f"'$[last - {ERRORS_KEPT - 1} to last]'")
    longer = func.jsonb_path_query_array(c.errors.op("||")(func.jsonb_build_array(dated)), last_ones)
    return case((entry.is_(None), c.errors), else_=longer)


def _prune(t: Tables, state: TaskState) -> Statement:
    task = _as(t.tasks, "t")
    old = _as(t.tasks, "ended")
    keep = bindparam("p_keep", type_=Interval)
    candidates = (
        select(old.c.id)
        .where(old.c.state == literal_column(f"'{state}'"), old.c.updated_at < func.now() - keep)
        .order_by(old.c.updated_at)
        .limit(_LIMIT)
        .with_for_update(key_share=True, skip_locked=True, of=old)
    )
    return Statement(
        f"prune_{state}",
        delete(task)
        .where(
            task.c.id == any_(_array(candidates)),
            task.c.state == literal_column(f"'{state}'"),
            task.c.updated_at < func.now() - keep,
        )
        .returning(task.c.id),
    )


# The tables' revision -------------------------------------------------------------------------------------------------


def _version(schema: str) -> Statement:
    return Statement("version", select(table(VERSION_TABLE, column("version_num"), schema=schema).c.version_num))
