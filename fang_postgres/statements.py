"""Every statement of Fang, for one schema name. ``tests/postgres/golden`` holds the SQL that comes of it, to be read.

Rules that these forms follow, each learned from a plan or a race that went wrong:

- A write has exactly one base relation. Lists come in through ``ARRAY(SELECT unnest(..))``, which the planner always
  takes for ten rows, and values for each row through array subscripts. Joins by id turned quadratic under stale
  statistics.
- The fence stands in the outermost WHERE, so that a concurrent change is checked again against all of it.
- Constants are literals in the text: under a generic plan ``state = $2`` would miss the partial indexes.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    DateTime,
    Integer,
    Interval,
    SmallInteger,
    Table,
    Text,
    any_,
    bindparam,
    case,
    cast,
    column,
    delete,
    exists,
    func,
    literal_column,
    null,
    select,
    table,
    true,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, UUID, insert
from sqlalchemy.sql.elements import ColumnElement, Grouping

from fang_core.failure import ERRORS_KEPT
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
    find: Statement
    register: Statement
    unregister: Statement
    claim: Statement
    remove: Statement
    finish: Statement
    settle: Statement
    prune_finished: Statement
    prune_cancelled: Statement
    prune_failed: Statement
    version: Statement


@lru_cache(maxsize=64)
def statements(schema: str) -> Statements:
    """Builds and compiles them all, once for a schema name."""
    t = tables(schema)
    return Statements(
        insert=_insert(t),
        insert_many=_insert_many(t),
        find=_find(t),
        register=_register(t),
        unregister=Statement("unregister", delete(t.pools).where(t.pools.c.id == _POOL)),
        claim=_claim(t),
        remove=_remove(t),
        finish=_finish(t),
        settle=_settle(t),
        prune_finished=_prune(t, TaskState.FINISHED),
        prune_cancelled=_prune(t, TaskState.CANCELLED),
        prune_failed=_prune(t, TaskState.FAILED),
        version=_version(schema),
    )


# Applications ---------------------------------------------------------------------------------------------------------

_DUE = func.coalesce(
    bindparam("p_scheduled_at", type_=DateTime(timezone=True)),
    # clock_timestamp(), not now(): the caller's transaction may have begun long ago. It also keeps a bulk in order.
    func.clock_timestamp() + func.coalesce(bindparam("p_delay", type_=Interval), cast(literal_column("'0'"), Interval)),
)


def _insert(t: Tables) -> Statement:
    values = {
        "id": bindparam("p_id", type_=UUID),
        "metadata": cast(bindparam("p_metadata", type_=Text), JSONB),
        "task_type": bindparam("p_task_type", type_=Text),
        "priority": bindparam("p_priority", type_=SmallInteger),
        "max_retries": bindparam("p_max_retries", type_=Integer),
        "scheduled_at": _DUE,
    }
    return Statement("insert", insert(t.tasks).values(values).returning(*_inserted(t)))


def _insert_many(t: Tables) -> Statement:
    rows = func.unnest(
        _IDS,
        bindparam("p_metadata", type_=ARRAY(Text)),
        bindparam("p_task_types", type_=ARRAY(Text)),
        bindparam("p_priorities", type_=ARRAY(SmallInteger)),
        bindparam("p_max_retries", type_=ARRAY(Integer)),
    ).table_valued("id", "metadata", "task_type", "priority", "max_retries")
    row = rows.render_derived(name="new_task")
    source = select(
        row.c.id, cast(row.c.metadata, JSONB), row.c.task_type, row.c.priority, row.c.max_retries, _DUE.label("due")
    )
    names = ["id", "metadata", "task_type", "priority", "max_retries", "scheduled_at"]
    return Statement("insert_many", insert(t.tasks).from_select(names, source).returning(*_inserted(t)))


def _inserted(t: Tables) -> list[ColumnElement[Any]]:
    """What only the database knows of a new row."""
    c = t.tasks.c
    return [c.id, c.scheduled_at, c.created_at]


def _find(t: Tables) -> Statement:
    return Statement("find", select(*task_columns(t)).where(t.tasks.c.id == bindparam("p_id", type_=UUID)))


def task_columns(t: Tables) -> list[ColumnElement[Any]]:
    """A whole row, in the order that ``operations.as_task`` reads."""
    c = t.tasks.c
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
    return Statement("register", insert(t.pools).values(values).on_conflict_do_nothing())


def _claim(t: Tables) -> Statement:
    """Due rows, range by range (task type, priority), locked and marked in one statement.

    It always returns at least one row (a null id: nothing was claimed), for the clock and the snapshot. SKIP LOCKED can
    still wait, for a row whose former holder ends just then: a claim can be the victim of a deadlock, and is repeated.
    RETURNING comes in no order; the client sorts.
    """
    task = _as(t.tasks, "t")
    c = task.c
    registered = exists(select(literal_column("1")).where(t.pools.c.id == _POOL))
    levels = func.unnest(
        bindparam("p_task_types", type_=ARRAY(Text)), bindparam("p_priorities", type_=ARRAY(SmallInteger))
    ).table_valued("task_type", "priority")
    level = levels.render_derived(name="level")
    in_level = (
        select(c.id)
        .where(
            c.task_type == level.c.task_type,
            c.priority == level.c.priority,
            c.state.in_([literal_column("'new'"), literal_column("'retried'")]),
            c.scheduled_at <= func.now(),
            c.kind == any_(bindparam("p_kinds", type_=ARRAY(Text))),
            c.attempt < literal_column(str(2**63 - 1)),
            registered,
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
    claimed = (
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
        registered.label("registered"),
        claimed,
    )
    return Statement("claim", head.select_from(one.outerjoin(claimed, true())))


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
    """Every outcome that has values of its own: one state, delay, charge and error for each row."""
    task = _as(t.tasks, "t")
    c = task.c
    place = _place(c)

    def of_row(name: str, type_: Any) -> ColumnElement[Any]:
        return Grouping(bindparam(name, type_=ARRAY(type_)))[place]

    entry = of_row("p_error_entries", Text)
    dated = cast(entry, JSONB).op("||")(func.jsonb_build_object(literal_column("'time'"), func.now()))
    last_ones: ColumnElement[str] = literal_column(f"'$[last - {ERRORS_KEPT - 1} to last]'")
    values = {
        "state": cast(of_row("p_states", Text), t.tasks.c.state.type),
        "scheduled_at": func.coalesce(func.now() + of_row("p_delays", Interval), c.scheduled_at),
        "retries": c.retries + of_row("p_charges", Integer),
        "error_message": func.coalesce(of_row("p_error_messages", Text), c.error_message),
        "errors": case(
            (entry.is_(None), c.errors),
            else_=func.jsonb_path_query_array(c.errors.op("||")(func.jsonb_build_array(dated)), last_ones),
        ),
        **_RELEASED,
    }
    return Statement("settle", update(task).where(*_fence(c)).values(values).returning(c.id))


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


# Reading --------------------------------------------------------------------------------------------------------------


def _version(schema: str) -> Statement:
    return Statement("version", select(table(VERSION_TABLE, column("version_num"), schema=schema).c.version_num))
