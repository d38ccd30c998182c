"""What several statements are made of."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    DateTime,
    Integer,
    Interval,
    Select,
    SmallInteger,
    Table,
    Text,
    and_,
    any_,
    bindparam,
    case,
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
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, UUID
from sqlalchemy.sql.elements import ColumnElement, Grouping

from fang_core.demand import TOLD_AHEAD
from fang_core.failure import ERRORS_KEPT
from fang_core.lifecycle import DUE_STATES, SUSPECT_AFTER, TERMINAL_STATES
from fang_core.liveness import DECLARED_DEAD
from fang_core.record import TaskState
from fang_postgres.schema import Tables

IDS = bindparam("p_ids", type_=ARRAY(UUID))
ATTEMPTS = bindparam("p_attempts", type_=ARRAY(BigInteger))
POOL = bindparam("p_pool_id", type_=UUID)
_MAY_NOTIFY = bindparam("p_notify", type_=Boolean)
LIMIT = select(bindparam("p_limit", type_=Integer)).scalar_subquery()


def aliased(table: Table, name: str) -> Any:
    """A name of its own for the table, whose columns are untyped: they are many."""
    return table.alias(name)


def array_of(query: Any) -> ColumnElement[Any]:
    """``ARRAY(SELECT ..)``: the planner takes it for ten rows, whatever the list."""
    return func.array(query.scalar_subquery())


def state_literals(states: Sequence[TaskState]) -> list[ColumnElement[Any]]:
    """For ``IN``: literals, since parameters would miss the partial indexes."""
    return [literal_column(f"'{state}'") for state in states]


def has_ended(c: Any) -> ColumnElement[bool]:
    """As the index of unique hashes says it, negated."""
    return Grouping(c.state.in_(state_literals(TERMINAL_STATES)))


def is_live_twin(c: Any) -> ColumnElement[bool]:
    """The one row that keeps another of the hash ``p_uniq_hash`` from being inserted."""
    return and_(c.uniq_hash == bindparam("p_uniq_hash", type_=Text), not_(has_ended(c)))


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


def levels(*, with_places: bool = False) -> Any:
    """The ranges of the due index that are read one after the other, and the places behind which each is read."""
    lists: dict[str, Any] = {
        "task_type": bindparam("p_task_types", type_=ARRAY(Text)),
        "priority": bindparam("p_priorities", type_=ARRAY(SmallInteger)),
    }
    if with_places:
        lists["after_at"] = bindparam("p_after_at", type_=ARRAY(DateTime(timezone=True)))
        lists["after_id"] = bindparam("p_after_id", type_=ARRAY(UUID))
    return func.unnest(*lists.values()).table_valued(*lists).render_derived(name="level")


def lies_behind(c: Any, level: Any) -> ColumnElement[bool]:
    """Behind the place of its level; where that is null, anywhere."""
    first_at: ColumnElement[Any] = literal_column("'-infinity'::timestamptz")
    first_id: ColumnElement[Any] = literal_column("'00000000-0000-0000-0000-000000000000'::uuid")
    place = tuple_(func.coalesce(level.c.after_at, first_at), func.coalesce(level.c.after_id, first_id))
    return tuple_(c.scheduled_at, c.id) > place


def is_due(c: Any, level: Any) -> list[ColumnElement[bool]]:
    """Within a level."""
    return [
        c.task_type == level.c.task_type,
        c.priority == level.c.priority,
        c.state.in_(state_literals(DUE_STATES)),
        c.scheduled_at <= func.now(),
    ]


def is_alive(t: Tables) -> list[ColumnElement[bool]]:
    """The pool's own row, where others have not taken the pool for dead."""
    return [t.pools.c.id == POOL, t.pools.c.beats > literal_column(str(DECLARED_DEAD))]


def is_registered(t: Tables) -> ColumnElement[bool]:
    """Whether the pool's own row is there."""
    return exists(select(literal_column("1")).where(*is_alive(t)))


def marking_due_rows(t: Tables, task: Any, *, of_kinds: bool) -> Any:
    """The UPDATE that marks due rows as held by the pool.

    ``of_kinds`` has it take those of ``p_kinds`` behind each level's place, suspects only where ``p_suspects`` is true;
    else it takes any, from each level's start.
    """
    c = task.c
    level = levels(with_places=of_kinds)
    known = c.kind == any_(bindparam("p_kinds", type_=ARRAY(Text)))
    wanted = or_(bindparam("p_suspects", type_=Boolean), c.crashes < literal_column(str(SUSPECT_AFTER)))
    in_level = (
        select(c.id)
        .where(
            *is_due(c, level),
            c.attempt < literal_column(str(2**63 - 1)),
            is_registered(t),
            *([lies_behind(c, level), known, wanted] if of_kinds else []),
        )
        .order_by(c.scheduled_at, c.id)
        .limit(LIMIT)
        .with_for_update(
            key_share=True, skip_locked=True, of=task
        )  # NO KEY UPDATE: foreign keys to tasks do not hide them
        .lateral("in_level")
    )
    # The outer LIMIT is lazy: levels behind the one that fills it are never opened.
    due = (
        select(in_level.c.id)
        .select_from(level.join(in_level, true()))
        .limit(LIMIT)
        .cte("due")
        .prefix_with("MATERIALIZED", dialect="postgresql")
    )
    return (
        update(task)
        .where(c.id == any_(array_of(select(due.c.id))))
        .values(
            {
                c.state: literal_column("'in_progress'"),
                c.attempt: c.attempt + literal_column("1"),
                c.pool_id: POOL,
                c.claimed_at: func.now(),
                c.updated_at: func.now(),
            }
        )
    )


def with_entry(c: Any, entry: ColumnElement[Any]) -> ColumnElement[Any]:
    """The error history with one more entry, of which the last ones are kept; as it was where ``entry`` is null."""
    dated = cast(entry, JSONB).op("||")(func.jsonb_build_object(literal_column("'time'"), func.now()))
    last_ones: ColumnElement[str] = literal_column(f"'$[last - {ERRORS_KEPT - 1} to last]'")
    longer = func.jsonb_path_query_array(c.errors.op("||")(func.jsonb_build_array(dated)), last_ones)
    return case((entry.is_(None), c.errors), else_=longer)


def due_time(c: Any) -> ColumnElement[Any]:
    """Of rows that came back as ``state`` and ``scheduled_at``; null of one that nobody is to take."""
    return case((c.state.in_(state_literals(DUE_STATES)), c.scheduled_at))


def waking(t: Tables, rows: Any, *, passed_at: ColumnElement[Any] | None = None) -> ColumnElement[Any]:
    """Tells pools of these rows; to be selected, or it does not run.

    The pools that wait for them, once a task type. Only where one waits: NOTIFY serializes commits, and always
    notifying cost 70 % of concurrent inserts. And only of rows that are due within ``TOLD_AHEAD``: a pool looks again
    before others are. To tell of these, too, would wake it for each, and leave it waiting for the next one.

    And all pools, of rows that were due at ``passed_at`` or before: cursors may have passed there. That is the row's
    own due time, unless told otherwise: an insert's, which is its clock, is not passed unless its caller has set it.

    ``p_notify`` is false in a two-phase transaction, which must not notify.
    """
    wanted = select(rows.c.task_type).where(_is_due_soon(rows.c)).distinct().subquery("wanted")
    to_wake = select(_notify(t, _short(wanted.c.task_type))).where(_MAY_NOTIFY, _is_waited_for(t, wanted.c.task_type))
    due_at = rows.c.scheduled_at if passed_at is None else passed_at
    passed = (
        select(rows.c.task_type, rows.c.priority, microseconds(func.min(rows.c.scheduled_at)).label("first"))
        .where(due_at <= func.clock_timestamp())
        .group_by(rows.c.task_type, rows.c.priority)
        .subquery("passed")
    )
    place = _place(passed.c, passed.c.first)
    told = to_wake.union_all(select(_notify(t, place)).where(_MAY_NOTIFY)).cte("woken")
    return select(func.count(told.c.told)).scalar_subquery().label("woken")


def waking_of_one(t: Tables, *, passed_at: ColumnElement[Any]) -> list[ColumnElement[Any]]:
    """The same of the one row of ``new_row`` that a statement inserts, for its RETURNING.

    Where a pool knows its kind only such pools count: one that waits beside them, and has no use for it, must not cost
    a NOTIFY for each commit. A kind that none knows may be one that a process has imported since.
    """
    c = t.tasks.c
    # Parameters: SQLAlchemy would not take the row's own columns for those of the statement around the subquery.
    is_waited_for = _is_waited_for(t, bindparam("p_task_type", type_=Text), bindparam("p_kind", type_=Text))
    is_passed = passed_at <= func.clock_timestamp()
    return [
        case((and_(_MAY_NOTIFY, _is_due_soon(c), is_waited_for), _notify(t, _short(c.task_type)))).label("woken"),
        case((and_(_MAY_NOTIFY, is_passed), _notify(t, _place(c, microseconds(c.scheduled_at))))).label("passed"),
    ]


def _is_due_soon(c: Any) -> ColumnElement[bool]:
    ahead = cast(literal_column(f"'{TOLD_AHEAD:g} s'"), Interval)
    soon: ColumnElement[bool] = c.scheduled_at <= func.clock_timestamp() + ahead
    return soon


def _is_waited_for(
    t: Tables, task_type: ColumnElement[str], kind: ColumnElement[str] | None = None
) -> ColumnElement[bool]:
    p, knowing = t.pools.alias("p"), t.pools.alias("knowing")
    one: Select[Any] = select(literal_column("1"))
    wanted = [p.c.waiting, task_type == any_(p.c.task_types)]
    if kind is not None:
        known = exists(one.where(task_type == any_(knowing.c.task_types), kind == any_(knowing.c.kinds)))
        wanted.append(or_(kind == any_(p.c.kinds), not_(known)))
    return exists(one.where(*wanted))


def microseconds(time: ColumnElement[Any]) -> ColumnElement[int]:
    """Since 1970."""
    return cast(extract("epoch", time) * literal_column("1000000"), BigInteger)


def _place(c: Any, microseconds: ColumnElement[int]) -> ColumnElement[str]:
    return func.concat_ws(literal_column("','"), _short(c.task_type), c.priority, microseconds)


def _notify(t: Tables, payload: Any) -> ColumnElement[Any]:
    return func.pg_notify(literal_column(f"'{channel(t.schema)}'"), payload, type_=Text).label("told")


def _short(task_type: Any) -> ColumnElement[str]:
    return func.left(task_type, literal_column("500"))


def channel(schema: str) -> str:
    """The name that pools LISTEN to; Postgres allows 63 bytes."""
    return f"fang_{schema}"[:63]


def new_row() -> dict[str, Any]:
    """The columns of one new row, from parameters."""
    return {
        "id": bindparam("p_id", type_=UUID),
        "metadata": cast(bindparam("p_metadata", type_=Text), JSONB),
        "task_type": bindparam("p_task_type", type_=Text),
        "priority": bindparam("p_priority", type_=SmallInteger),
        "max_retries": bindparam("p_max_retries", type_=Integer),
        "uniq_hash": bindparam("p_uniq_hash", type_=Text),
    }


def told_of_new_rows(t: Tables) -> list[ColumnElement[Any]]:
    """What only the database knows of a new row, and what decides whom to wake."""
    c = t.tasks.c
    return [c.task_type, c.priority, c.scheduled_at, c.created_at]
