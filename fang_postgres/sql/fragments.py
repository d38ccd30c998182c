"""Builds the parts that several statements share."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    DateTime,
    Double,
    Integer,
    Interval,
    Select,
    SmallInteger,
    Table,
    Text,
    all_,
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
    type_coerce,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, UUID
from sqlalchemy.sql.elements import ColumnElement, Grouping

from fang_core.claims.idle import TOLD_AHEAD
from fang_core.crashes import MOST_GROUP, SUSPECT_AFTER
from fang_core.failure import ERRORS_KEPT
from fang_core.lifecycle import DUE_STATES, TERMINAL_STATES
from fang_core.liveness import DECLARED_DEAD
from fang_core.record import DEFAULT_MAX_RETRIES, TaskState
from fang_core.tasks.arguments import LONGEST
from fang_core.tasks.options import COLUMNS
from fang_postgres.names import TASK_COLUMNS, channel
from fang_postgres.schema import EARLIEST, LATEST, Tables
from fang_postgres.shapes import TOLD

IDS = bindparam("p_ids", type_=ARRAY(UUID))
ATTEMPTS = bindparam("p_attempts", type_=ARRAY(BigInteger))
POOL = bindparam("p_pool_id", type_=UUID)
_MAY_NOTIFY = bindparam("p_notify", type_=Boolean)
ALL_OF_TYPE: Final = ",0,0"
"""Comes behind a task type in a notification that has its pools look for its tasks: rows due since 1970, so to say."""
LIMIT = select(bindparam("p_limit", type_=Integer)).scalar_subquery()


def aliased(table: Table, name: str) -> Any:
    """Returns the table under another name; its many columns are untyped."""
    return table.alias(name)


def array_of(query: Any) -> ColumnElement[Any]:
    """Returns ``ARRAY(SELECT ..)``, which the planner takes for ten rows however long the list is."""
    return func.array(query.scalar_subquery())


def state_literals(states: Sequence[TaskState]) -> list[ColumnElement[Any]]:
    """Returns the states for ``IN``, as literals, since parameters would miss the partial indexes."""
    return [literal_column(f"'{state}'") for state in states]


def has_ended(c: Any) -> ColumnElement[bool]:
    """Returns whether a task's life has ended; its negation is the condition of the index of unique hashes."""
    return Grouping(c.state.in_(state_literals(TERMINAL_STATES)))


def is_live_twin(c: Any) -> ColumnElement[bool]:
    """Returns whether the row keeps another one with the hash ``p_uniq_hash`` from being inserted."""
    return and_(c.uniq_hash == bindparam("p_uniq_hash", type_=Text), not_(has_ended(c)))


def is_of_kind(c: Any, kind: ColumnElement[str]) -> list[ColumnElement[bool]]:
    """Whether the row is of this kind, by the index of failed kinds, which holds no more than their beginning."""
    length: ColumnElement[int] = literal_column("200")
    return [func.left(c.kind, length) == func.left(kind, length), c.kind == kind]


def is_unclaimed(c: Any) -> ColumnElement[bool]:
    """Returns whether no pool has claimed the row yet: the condition of the index of those that are unique until then.

    It does not say that the row is new, since the planner would then take the index of due rows at times.
    """
    return and_(c.attempt == literal_column("0"), not_(has_ended(c)))


_READ_AS_TEXT: Final = frozenset({"metadata", "state", "errors", "headers", "cancel_request"})


_UNCHECKED: Final = frozenset({"timeout", "expires_at", "claimed_at"})
"""The times and intervals of which the table does not check that Python can hold them."""


def task_columns(t: Tables, columns: Any = None) -> list[ColumnElement[Any]]:
    """Returns ``TASK_COLUMNS``, of the table or of an alias' columns, as ``rows.as_task`` reads them."""
    c = t.tasks.c if columns is None else columns
    return [readable(c, name) for name in TASK_COLUMNS]


def readable(c: Any, name: str) -> ColumnElement[Any]:
    """Returns a column of tasks as every driver can read it, whatever was written into it by hand."""
    column: ColumnElement[Any] = c[name]
    if name in _READ_AS_TEXT:
        return cast(column, Text).label(name)
    return within(column) if name in _UNCHECKED else column


def within(column: Any) -> ColumnElement[Any]:
    """Returns a time or an interval as Python can hold it, which has neither infinite ones nor very long ones."""
    span = ("'1 us'::interval", f"'{LONGEST.days} days'::interval")
    least, most = span if isinstance(column.type, Interval) else (EARLIEST, LATEST)
    limits: list[ColumnElement[Any]] = [literal_column(limit) for limit in (least, most)]
    held = func.least(func.greatest(column, limits[0]), limits[1], type_=column.type)
    return case((column.is_not(None), held)).label(column.name)


def lanes(*, with_places: bool = False) -> Any:
    """Returns the ranges of the due index, which are read one after the other, and the place behind which each is
    read."""
    lists: dict[str, Any] = {
        "task_type": bindparam("p_task_types", type_=ARRAY(Text)),
        "priority": bindparam("p_priorities", type_=ARRAY(SmallInteger)),
    }
    if with_places:
        lists["after_at"] = bindparam("p_after_at", type_=ARRAY(DateTime(timezone=True)))
        lists["after_id"] = bindparam("p_after_id", type_=ARRAY(UUID))
    return func.unnest(*lists.values()).table_valued(*lists).render_derived(name="lane")


def lies_behind(c: Any, lane: Any) -> ColumnElement[bool]:
    """Returns whether the row is behind its lane's place; true for every row if the place is null."""
    first_at: ColumnElement[Any] = literal_column("'-infinity'::timestamptz")
    first_id: ColumnElement[Any] = literal_column("'00000000-0000-0000-0000-000000000000'::uuid")
    place = tuple_(func.coalesce(lane.c.after_at, first_at), func.coalesce(lane.c.after_id, first_id))
    return tuple_(c.scheduled_at, c.id) > place


def is_due(c: Any, lane: Any, waits: ColumnElement[bool] | None = None) -> list[ColumnElement[bool]]:
    """Returns conditions for a due row of a lane; ``waits`` is that on its state, if it is not just any that waits."""
    return [
        c.task_type == lane.c.task_type,
        c.priority == lane.c.priority,
        c.state.in_(state_literals(DUE_STATES)) if waits is None else waits,
        c.scheduled_at <= func.now(),
    ]


def is_retried(c: Any) -> ColumnElement[bool]:
    """Returns whether the row waits and was charged before: the condition of the index of retries.

    As a range, since the planner would otherwise take the index of due rows at times.
    """
    retried: ColumnElement[Any] = literal_column(f"'{TaskState.RETRIED}'")
    return and_(c.state >= retried, c.state <= retried)


def is_alive(t: Tables) -> list[ColumnElement[bool]]:
    """Returns conditions for the pool's own row, unless other pools have declared it dead."""
    return [t.pools.c.id == POOL, t.pools.c.beats > literal_column(str(DECLARED_DEAD))]


def is_registered(t: Tables) -> ColumnElement[bool]:
    """Returns whether the pool's own row exists and is not declared dead."""
    return exists(select(literal_column("1")).where(*is_alive(t)))


def marking_due_rows(t: Tables, task: Any, *, of_kinds: bool, retries_first: bool = False) -> Any:
    """Returns the UPDATE that marks due rows as held by the pool.

    With ``of_kinds`` it takes rows of ``p_kinds`` behind each lane's place, suspects only if they may be tried in a
    group of ``p_group_size``, or are of ``p_isolated_kinds``; without, it takes any rows, from each lane's start. It
    takes none of managed types.

    With ``retries_first`` it takes those rows of each lane first that have failed or crashed, wherever their place is.
    """
    c = task.c
    lane = lanes(with_places=of_kinds)
    known = c.kind == any_(bindparam("p_kinds", type_=ARRAY(Text)))
    limit = func.greatest(func.coalesce(c.group_limit, literal_column(str(MOST_GROUP))), literal_column("1"))
    wanted = or_(
        c.crashes < literal_column(str(SUSPECT_AFTER)),
        limit >= bindparam("p_group_size", type_=Integer),
        and_(c.kind == any_(bindparam("p_isolated_kinds", type_=ARRAY(Text))), limit > literal_column("1")),
    )
    is_behind = [lies_behind(c, lane)] if of_kinds else []

    def first_rows(*which: ColumnElement[bool], waits: ColumnElement[bool] | None = None) -> Any:
        return (
            select(c.id)
            .where(
                *is_due(c, lane, waits),
                c.attempt < literal_column(str(2**63 - 1)),
                is_registered(t),
                *which,
                *([known, wanted] if of_kinds else []),
            )
            .order_by(c.scheduled_at, c.id)
            .limit(LIMIT)
            # NO KEY UPDATE: foreign keys to tasks do not hide them
            .with_for_update(key_share=True, skip_locked=True, of=task)
        )

    if retries_first:
        # FOR UPDATE cannot stand in a part of a UNION ALL itself. Its second part is not begun if the first suffices.
        again = first_rows(waits=is_retried(c)).correlate(lane).subquery("again")
        once = first_rows(*is_behind, waits=c.state == literal_column("'new'")).correlate(lane).subquery("once")
        in_lane = select(again.c.id).union_all(select(once.c.id)).lateral("in_lane")
    else:
        in_lane = first_rows(*is_behind).lateral("in_lane")
    # The outer LIMIT is lazy: lanes behind the one that fills it are never opened.
    due = (
        select(in_lane.c.id)
        .select_from(lane.join(in_lane, true()))
        .where(lane.c.task_type != all_(managed_types(t)))
        .limit(LIMIT)
        .cte("due")
        .prefix_with("MATERIALIZED", dialect="postgresql")
    )
    return holding(task, select(due.c.id))


def holding(task: Any, ids: Any) -> Any:
    """Returns the UPDATE that marks the rows with these ids as held by the pool."""
    return _holding(task, task.c.id == any_(array_of(ids)))


def holding_at(task: Any, places: Any) -> Any:
    """Does the same for rows that the statement has locked, by their places (``ctid``): they cannot move any more.

    It leaves rows that other sessions have changed since the statement began: it does not see what is at their new
    places.
    """
    return _holding(task, literal_column(f"{task.name}.ctid") == any_(array_of(places)))


def _holding(task: Any, which: ColumnElement[bool]) -> Any:
    c = task.c
    return (
        update(task)
        .where(which)
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


def claimed_columns(c: Any) -> list[ColumnElement[Any]]:
    """Returns the columns of ``ClaimedTask``."""
    return [
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
        *(readable(c, name) for name in ("headers", "timeout", "expires_at", "cancel_request")),
        c.group_limit,
    ]


IS_COUNTED: Final = """(s.max_running IS NOT NULL OR s.max_running_per_key IS NOT NULL
    OR s.rate_interval IS NOT NULL OR s.key_rate_interval IS NOT NULL)"""
"""Whether a row ``s`` of ``fang_types`` has limits or rates."""

IS_STOPPED: Final = """(s.paused AND coalesce(s.paused_until > now(), true)
    OR coalesce(s.settling_until > now(), false))"""
"""Whether no claim may take a task of the type now."""

IS_MANAGED: Final = f"({IS_COUNTED} OR s.fair OR {IS_STOPPED})"
"""Whether plain claims leave the type alone."""


def managed_types(t: Tables) -> ColumnElement[Any]:
    """Returns the list of the managed task types."""
    s = t.types.alias("s")
    return _texts_of(select(s.c.task_type).where(literal_column(IS_MANAGED, Boolean)))


def with_entry(c: Any, entry: ColumnElement[Any]) -> ColumnElement[Any]:
    """Returns the error history with one more entry, cut to the last ones; unchanged if ``entry`` is null."""
    dated = cast(entry, JSONB).op("||")(func.jsonb_build_object(literal_column("'time'"), func.now()))
    last_ones: ColumnElement[str] = literal_column(f"'$[last - {ERRORS_KEPT - 1} to last]'")
    longer = func.jsonb_path_query_array(c.errors.op("||")(func.jsonb_build_array(dated)), last_ones)
    return case((entry.is_(None), c.errors), else_=longer)


def waiting_state(c: Any, is_charged: ColumnElement[bool] | None = None) -> ColumnElement[Any]:
    """Returns ``lifecycle.waiting_state`` of a row as it was before the statement, or after the statement charges it.

    It does not add retries and crashes, since the sum overflows an integer if one of them is at its limit.
    """
    charged = [c.retries > literal_column("0"), c.crashes > literal_column("0")]
    was_charged = or_(*charged) if is_charged is None else or_(is_charged, *charged)
    return case((was_charged, literal_column(f"'{TaskState.RETRIED}'")), else_=literal_column(f"'{TaskState.NEW}'"))


def due_time(c: Any) -> ColumnElement[Any]:
    """Returns the due time of a row with ``state`` and ``scheduled_at``; null for a row that no pool may take."""
    return case((c.state.in_(state_literals(DUE_STATES)), c.scheduled_at))


def waking(t: Tables, rows: Any, *, passed_at: ColumnElement[Any] | None = None) -> ColumnElement[Any]:
    """Notifies pools of these rows. Select the result, or it does not run.

    It notifies pools that wait for these rows, once for each task type, and only if a pool waits: NOTIFY serializes
    commits, and always notifying cost 70 % of concurrent inserts. It tells only of rows that are due within
    ``TOLD_AHEAD``: a pool looks again before the rest are due. To tell of these too would wake it for each, and leave
    it waiting for the next one.

    It also notifies all pools of rows that were due at ``passed_at`` or before: cursors may have passed them. That is
    the row's due time unless given: an insert's, which is its clock, is not passed unless its caller has set it.

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
    """Does the same for the one row of ``new_row`` that a statement inserts, in its RETURNING.

    If a pool knows the row's kind, only pools that know it count: a waiting pool that cannot run the task must not cost
    a NOTIFY for each commit. A kind that no pool knows may have been imported by a process since.
    """
    c = t.tasks.c
    # Parameters: SQLAlchemy would not take the row's own columns for those of the statement around the subquery.
    is_waited_for = _is_waited_for(t, bindparam("p_task_type", type_=Text), bindparam("p_kind", type_=Text))
    is_passed = passed_at <= func.clock_timestamp()
    return [
        case((and_(_MAY_NOTIFY, _is_due_soon(c), is_waited_for), _notify(t, _short(c.task_type)))).label("woken"),
        case((and_(_MAY_NOTIFY, is_passed), _notify(t, _place(c, microseconds(c.scheduled_at))))).label("passed"),
    ]


def telling(t: Tables, pool_id: Any) -> ColumnElement[Any]:
    """Has a pool's heart beat at once, if the pool listens. Select the result, or it does not run."""
    payload = func.concat(literal_column(f"'{TOLD}'"), pool_id)
    return case((_MAY_NOTIFY, _notify(t, payload))).label("told")


def telling_type(t: Tables, task_type: Any) -> ColumnElement[Any]:
    """Makes all listening pools of a type look for its tasks. Select the result, or it does not run."""
    return case((_MAY_NOTIFY, _notify(t, _all_of_type(task_type)))).label("told")


def telling_of_slot(t: Tables, c: Any, is_freed: ColumnElement[bool]) -> ColumnElement[Any]:
    """Has the pools of a row's type look for its tasks, if the row was counted and no longer is. Select the result, or
    it does not run."""
    is_told = and_(_MAY_NOTIFY, is_freed, c.lane.is_not(None))
    return case((is_told, _notify(t, _all_of_type(c.task_type)))).label("slot")


def telling_of_slots(t: Tables, gone: Any) -> ColumnElement[Any]:
    """Does the same for removed rows with their ``state``, ``task_type`` and ``lane``, once for each type."""
    was_counted = (gone.c.state == literal_column("'in_progress'"), gone.c.lane.is_not(None))
    freed = select(gone.c.task_type).where(*was_counted).distinct().subquery("freed")
    return select(func.count(telling_type(t, freed.c.task_type))).scalar_subquery()


def _all_of_type(task_type: Any) -> ColumnElement[str]:
    return func.concat(_short(task_type), literal_column(f"'{ALL_OF_TYPE}'"))


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


def nulls(columns: Iterable[ColumnElement[Any]]) -> list[ColumnElement[Any]]:
    """Returns nulls of the types of these columns, under their names."""
    return [literal_column("NULL", column.type).label(column.name) for column in columns]


def microseconds(time: ColumnElement[Any]) -> ColumnElement[int]:
    """Returns the microseconds since 1970."""
    return cast(extract("epoch", time) * literal_column("1000000"), BigInteger)


def _place(c: Any, microseconds: ColumnElement[int]) -> ColumnElement[str]:
    return func.concat_ws(literal_column("','"), _short(c.task_type), c.priority, microseconds)


def _notify(t: Tables, payload: Any) -> ColumnElement[Any]:
    return func.pg_notify(literal_column(f"'{channel(t.schema)}'"), payload, type_=Text).label("told")


def _short(task_type: Any) -> ColumnElement[str]:
    return func.left(task_type, literal_column("500"))


def new_row(t: Tables, due: ColumnElement[Any]) -> dict[str, Any]:
    """Returns the columns of one new row that is due then, from parameters."""
    return {
        "id": bindparam("p_id", type_=UUID),
        "metadata": cast(bindparam("p_metadata", type_=Text), JSONB),
        **{name: _option(f"p_{name}", t.tasks.c[name].type) for name in COLUMNS},
        "uniq_hash": bindparam("p_uniq_hash", type_=Text),
        "lane": lane_of_one(t, bindparam("p_lane", type_=Text), bindparam("p_task_type", type_=Text)),
        "scheduled_at": due,
        "expires_at": expiry(due, cast(bindparam("p_expires", type_=Double), Double)),
    }


def lane_of(t: Tables, lane: ColumnElement[Any], task_type: ColumnElement[str]) -> ColumnElement[Any]:
    """Returns the lane of new rows: ``lane``, or else the one without a key if the type is managed."""
    return _lane_if(lane, task_type == any_(known_types(t)))


def lane_of_one(t: Tables, lane: ColumnElement[Any], task_type: ColumnElement[str]) -> ColumnElement[Any]:
    """Does the same for one row: to look for one type takes 2 % less of an insert than to list all."""
    return _lane_if(lane, exists(select(literal_column("1")).where(t.types.c.task_type == task_type)))


def _lane_if(lane: ColumnElement[Any], is_known: ColumnElement[bool]) -> ColumnElement[Any]:
    return func.coalesce(lane, case((is_known, literal_column("''"))))


def known_types(t: Tables) -> ColumnElement[Any]:
    """Returns the list of the task types that have a row in ``fang_types``, be they managed now or not."""
    return _texts_of(select(t.types.c.task_type))


def _texts_of(query: Any) -> ColumnElement[Any]:
    return type_coerce(array_of(query), ARRAY(Text))


def _option(name: str, type_: Any) -> ColumnElement[Any]:
    is_json = isinstance(type_, JSONB)
    return cast(bindparam(name, type_=Text), JSONB) if is_json else bindparam(name, type_=type_)


def expiry(due: ColumnElement[Any], seconds: ColumnElement[float]) -> ColumnElement[Any]:
    """Returns ``p_expires_at``, or else the time this many seconds after ``due``; null if the row does not expire."""
    second: ColumnElement[Any] = literal_column("'1 s'::interval")
    latest: ColumnElement[Any] = literal_column(LATEST)
    after = case((seconds.is_not(None), func.least(due + seconds * second, latest)))
    return func.coalesce(bindparam("p_expires_at", type_=DateTime(timezone=True)), after)


def told_of_new_rows(t: Tables) -> list[ColumnElement[Any]]:
    """Returns the columns of a new row that only the database knows, and those that decide which pools to wake."""
    c = t.tasks.c
    return [c.task_type, c.priority, c.scheduled_at, c.created_at]
