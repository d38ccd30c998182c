"""Builds the statements with which applications read, change and remove existing rows."""

from collections.abc import Callable
from typing import Any, Final

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    DateTime,
    Integer,
    Interval,
    Select,
    Text,
    and_,
    any_,
    bindparam,
    case,
    cast,
    delete,
    exists,
    func,
    literal_column,
    not_,
    null,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.dialects.postgresql import UUID
from sqlalchemy.sql.elements import ColumnElement

from fang_core.record import TaskState
from fang_postgres.schema import Tables
from fang_postgres.sql.fragments import (
    aliased,
    array_of,
    due_time,
    has_ended,
    is_live_twin,
    is_registered,
    is_unclaimed,
    managed_types,
    marking_due_rows,
    task_columns,
    telling_of_slot,
    telling_of_slots,
    waking,
    with_entry,
)
from fang_postgres.statement import Statement


def find(t: Tables) -> Statement:
    """Reads a row by its id; after its columns, the progress that its run has reported."""
    c, p = t.tasks.c, t.pools.alias("p")
    run = p.c.runs.op("->")(cast(c.id, Text))
    is_this_run = run.op("->>")(literal_column("'attempt'")) == cast(c.attempt, Text)
    told = select(cast(run.op("->")(literal_column("'progress'")), Text)).where(p.c.id == c.pool_id, is_this_run)
    row = select(*task_columns(t), told.scalar_subquery().label("progress"))
    return Statement("find", row.where(c.id == bindparam("p_id", type_=UUID)))


def of_kinds(t: Tables) -> Statement:
    """Reads all rows of some kinds; for tests of applications only, as it reads every row."""
    c = t.tasks.c
    # Not ANY: to a caller's connection an array goes as a subquery, whose rows ANY would compare with.
    kinds = select(func.unnest(bindparam("p_kinds", type_=ARRAY(Text))))
    rows = select(*task_columns(t)).where(c.kind.in_(kinds))
    return Statement("of_kinds", rows.order_by(c.created_at, c.id))


def kinds(t: Tables) -> Statement:
    """Counts the rows of each kind; for tests of applications only, as it reads every row."""
    c = t.tasks.c
    return Statement("kinds", select(c.kind, func.count().label("count")).group_by(c.kind).order_by(c.kind))


def change(t: Tables) -> Statement:
    """Changes a row by hand if it has not changed since it was read. Returns no row if it has.

    A unique row is not revived while it has a twin that counts; if two are revived at once, the index decides.
    """
    task = aliased(t.tasks, "t")
    c = task.c
    revives = bindparam("p_revives", type_=Boolean)
    due = func.coalesce(func.clock_timestamp() + bindparam("p_delay", type_=Interval), c.scheduled_at)
    lives_on = {
        **{name: c[name] for name in ("crashes", "group_limit", "expires_at", "cancel_request")},
        "scheduled_at": due,
        "retries": c.retries + bindparam("p_charge", type_=Integer),
    }
    values = {name: case((revives, value), else_=lives_on[name]) for name, value in revived(c, due).items()} | {
        "state": cast(bindparam("p_state", type_=Text), t.tasks.c.state.type),
        "error_message": func.coalesce(bindparam("p_error_message", type_=Text), c.error_message),
        "errors": with_entry(c, bindparam("p_error_entry", type_=Text)),
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
            not_(and_(revives, has_twin(t, task))),
        )
        .values(values)
        .returning(*task_columns(t, c))
        .cte("changed")
    )
    was_running = bindparam("p_read_state", type_=Text) == literal_column(f"'{TaskState.IN_PROGRESS}'")
    told = [waking(t, changed, passed_at=due_time(changed.c)), telling_of_slot(t, changed.c, was_running)]
    return Statement("change", select(changed, *told).select_from(changed))


def revived(c: Any, due: ColumnElement[Any]) -> dict[str, ColumnElement[Any]]:
    """Returns what changes in a row that is new again, besides its state: as ``lifecycle.Change`` has it."""
    zero: ColumnElement[int] = literal_column("0")
    return {
        "scheduled_at": func.greatest(due, func.clock_timestamp()),
        "retries": zero,
        "crashes": zero,
        **{name: null() for name in ("group_limit", "expires_at", "cancel_request")},
    }


def has_twin(t: Tables, task: Any) -> ColumnElement[bool]:
    """Returns whether an equal unique task keeps this one from being revived."""
    c, twin = task.c, aliased(t.tasks, "twin")
    one: Select[Any] = select(literal_column("1"))
    live = one.where(twin.c.uniq_hash == c.uniq_hash, not_(has_ended(twin.c)))
    waiting = one.where(c.attempt == literal_column("0"), twin.c.uniq_waiting == c.uniq_waiting, is_unclaimed(twin.c))
    return or_(exists(live).correlate(task), exists(waiting).correlate(task))


def touch(t: Tables) -> Statement:
    """Claims one due row of any kind. Its first columns say whether the queue's own row exists, and which types are
    managed, of which it takes no row."""
    task = aliased(t.tasks, "t")
    claimed = marking_due_rows(t, task, of_kinds=False).returning(*task_columns(t, task.c)).cte("claimed")
    one = select(literal_column("1").label("one")).subquery("one")
    head = select(is_registered(t).label("registered"), managed_types(t).label("managed"), claimed)
    return Statement("touch", head.select_from(one.outerjoin(claimed, true())))


def remove_one(t: Tables) -> Statement:
    """Deletes a row by its id, and its period, which is there even if the row is gone. Counts the rows."""
    task_id = bindparam("p_id", type_=UUID)
    gone = delete(t.tasks).where(t.tasks.c.id == task_id).returning(*_slot(t.tasks.c)).cte("gone")
    return _counted(t, "remove_one", gone, t.uniques.c.task_id == task_id)


def remove_twin(t: Tables) -> Statement:
    """Deletes the unique row with a hash whose life has not ended, and the period with that hash. Counts the rows."""
    c, u = t.tasks.c, t.uniques.c
    compared = bindparam("p_uniq_hash", type_=Text)
    ids = (
        select(c.id)
        .where(is_live_twin(c))
        .union_all(
            select(c.id).where(c.uniq_waiting == compared, is_unclaimed(c)),
            select(u.task_id).where(u.hash == compared),
        )
    )
    task = aliased(t.tasks, "t")
    gone = (
        delete(task)
        .where(task.c.id == any_(array_of(ids)), not_(has_ended(task.c)))
        .returning(*_slot(task.c))
        .cte("gone")
    )
    return _counted(t, "remove_twin", gone, u.hash == compared)


def _counted(t: Tables, name: str, gone: Any, its_period: ColumnElement[bool]) -> Statement:
    periods = delete(t.uniques).where(its_period).cte("periods")
    count = select(func.count()).select_from(gone).scalar_subquery().label("count")
    return Statement(name, select(count, telling_of_slots(t, gone).label("told")).add_cte(periods))


def _slot(c: Any) -> list[Any]:
    """Returns the columns of removed rows that show the slots that these had."""
    return [c.id, c.state, c.task_type, c.lane]


LOOKED_AT: Final = 10_000
"""The most rows that one batch of a removal looks at."""


def _removal_batch(t: Tables, name: str, which: Callable[[Any], list[ColumnElement[bool]]]) -> Statement:
    """Deletes the first ``p_limit`` such rows among those that it looks at, in the order of their ids.

    It looks at rows from ``p_from`` to ``p_until``. It returns the count, and the id that it reached; null if no row is
    left. The next batch begins behind that id: from the start it would walk the dead entries of all batches before.
    """
    task, looked = aliased(t.tasks, "t"), aliased(t.tasks, "looked")
    limit = bindparam("p_limit", type_=Integer)
    window: Any = literal_column(str(LOOKED_AT))
    in_range = (looked.c.id >= bindparam("p_from", type_=UUID), looked.c.id <= bindparam("p_until", type_=UUID))
    seen = (
        select(looked.c.id, and_(true(), *which(looked.c)).label("wanted"))
        .where(*in_range)
        .order_by(looked.c.id)
        .limit(window)
        .cte("seen")
        .prefix_with("MATERIALIZED")
    )
    first = select(seen.c.id).where(seen.c.wanted).order_by(seen.c.id).limit(limit)
    doomed = first.cte("doomed").prefix_with("MATERIALIZED")
    gone = (
        delete(task)
        .where(task.c.id == any_(array_of(select(doomed.c.id))), *which(task.c))
        .returning(*_slot(task.c))
        .cte("gone")
    )
    periods = delete(t.uniques).where(t.uniques.c.task_id == any_(array_of(select(gone.c.id)))).cte("periods")
    last_doomed = _last_of(doomed.c.id)
    last_seen = _last_of(seen.c.id).where(select(func.count()).select_from(seen).scalar_subquery() == window)
    is_full = select(func.count()).select_from(doomed).scalar_subquery() == limit
    return Statement(
        f"remove_{name}",
        select(
            select(func.count()).select_from(gone).scalar_subquery().label("count"),
            case((is_full, last_doomed.scalar_subquery()), else_=last_seen.scalar_subquery()).label("reached"),
            telling_of_slots(t, gone).label("told"),
        ).add_cte(periods),
    )


def last_id(t: Tables) -> Statement:
    """Reads the greatest id, at which a removal ends, so that rows inserted meanwhile cannot make it endless."""
    return Statement("last_id", _last_of(t.tasks.c.id))


def _last_of(id_: Any) -> Select[Any]:
    # max() of a uuid is new in Postgres 18.
    return select(id_).order_by(id_.desc()).limit(literal_column("1"))


def remove_type(t: Tables) -> Statement:
    """See ``_removal_batch``: removes rows of one task type."""
    return _removal_batch(t, "type", lambda c: [c.task_type == bindparam("p_task_type", type_=Text)])


def remove_all(t: Tables) -> Statement:
    """See ``_removal_batch``: removes all rows."""
    return _removal_batch(t, "all", lambda _: [])


def remove_scheduled(t: Tables) -> Statement:
    """See ``_removal_batch``: removes rows that wait for their first run."""
    return _removal_batch(t, "scheduled", _is_scheduled)


def _is_scheduled(c: Any) -> list[ColumnElement[bool]]:
    """Returns conditions for a row that waits for its first run: neither a retry in backoff nor a snoozed task.

    The state is compared as text, so that a removal never goes by the index of due rows, with all of its dead entries.
    """
    return [
        cast(c.state, Text) == literal_column("'new'"),
        c.attempt == literal_column("0"),
        c.scheduled_at > func.clock_timestamp(),
    ]
