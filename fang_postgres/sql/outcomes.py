"""Builds the statements that write the outcomes of held rows, under the fence, and that prune ended rows."""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Integer,
    Interval,
    Text,
    any_,
    bindparam,
    case,
    cast,
    column,
    delete,
    func,
    literal_column,
    null,
    select,
    true,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY, UUID
from sqlalchemy.sql.elements import ColumnElement, Grouping

from fang_core.crashes import MOST_CRASHES
from fang_core.record import TaskState
from fang_postgres.schema import Tables
from fang_postgres.shapes import ANSWERS_CANCEL, CHARGES_CRASH, FORGETS_CRASHES, STALE_RUN
from fang_postgres.sql.fragments import (
    ATTEMPTS,
    IDS,
    LIMIT,
    POOL,
    aliased,
    array_of,
    due_time,
    waking,
    with_entry,
)
from fang_postgres.statement import Statement


def _fence(c: Any, ids: Any = None) -> list[ColumnElement[bool]]:
    """Compares (id, attempt, pool) of each row with two arrays that are sorted by id.

    ``width_bucket`` is a binary search for the place of the row's id in the sorted ids. In an unsorted array it can
    only miss. The state is compared as text, so that the planner does not take the index of held rows, whose dead
    entries pile up under a long transaction.
    """
    place = _place(c)
    return [
        c.id == any_(array_of(select(func.unnest(IDS)) if ids is None else ids)),
        c.pool_id == POOL,
        cast(c.state, Text) == literal_column("'in_progress'"),
        Grouping(IDS)[place] == c.id,
        Grouping(ATTEMPTS)[place] == c.attempt,
    ]


def _fence_of_write(c: Any) -> list[ColumnElement[bool]]:
    """Returns the fence for a statement that waits up to ``p_lock_wait`` for rows that another transaction has locked.

    The setting is made where the ids are read, so before any row is found; it ends with the transaction. No other
    form sets it in the same round trip.
    """
    setting = func.set_config(
        literal_column("'lock_timeout'"), bindparam("p_lock_wait", type_=Text), literal_column("true")
    )
    return _fence(c, select(func.unnest(IDS)).where(setting.is_not(None)))


def held(t: Tables) -> Statement:
    """Returns which of these rows pass the fence, locked or not."""
    task = aliased(t.tasks, "t")
    return Statement("held", select(task.c.id).where(*_fence(task.c)))


def unlocked(t: Tables) -> Statement:
    """Returns which of these rows pass the fence and are not locked by another transaction; locks them."""
    task = aliased(t.tasks, "t")
    rows = select(task.c.id).where(*_fence(task.c)).with_for_update(key_share=True, skip_locked=True, of=task)
    return Statement("unlocked", rows)


def complete_one(t: Tables, *, keep: bool) -> Statement:
    """Completes a run's task in the run's own transaction. The statement fails if the run no longer holds its task.

    The text that is not a number is built from a row, so that the planner cannot evaluate it, and fail, beforehand.
    """
    task = aliased(t.tasks, "t")
    c = task.c
    held = [
        c.id == bindparam("p_id", type_=UUID),
        c.attempt == bindparam("p_attempt", type_=BigInteger),
        c.pool_id == POOL,
        cast(c.state, Text) == literal_column("'in_progress'"),
    ]
    finished = {"state": literal_column("'finished'"), **_RELEASED}
    write = update(task).values(finished) if keep else delete(task)
    done = write.where(*held).returning(c.id).cte("done")
    counted = select(func.count().label("count")).select_from(done).subquery("counted")
    failure = cast(func.concat(literal_column(f"'{STALE_RUN}: '"), counted.c.count), Integer)
    held_it = case((counted.c.count == literal_column("1"), literal_column("1")), else_=failure)
    return Statement("complete_and_keep" if keep else "complete_and_remove", select(held_it.label("done")))


def _place(c: Any) -> ColumnElement[int]:
    return func.width_bucket(c.id, IDS, type_=Integer)


def remove(t: Tables) -> Statement:
    """Deletes held rows."""
    task = aliased(t.tasks, "t")
    return Statement("remove", delete(task).where(*_fence_of_write(task.c)).returning(task.c.id))


_RELEASED = {"pool_id": null(), "claimed_at": null(), "updated_at": func.now()}


def finish(t: Tables) -> Statement:
    """Marks held rows as finished, and keeps them."""
    task = aliased(t.tasks, "t")
    values = {"state": literal_column("'finished'"), **_RELEASED}
    return Statement("finish", update(task).where(*_fence_of_write(task.c)).values(values).returning(task.c.id))


def settle(t: Tables) -> Statement:
    """Writes outcomes with values of their own: a state, a delay, a charge and an error for each row.

    Rows that pools may take now wake them.
    """
    task = aliased(t.tasks, "t")
    c = task.c
    place = _place(c)

    def of_row(name: str, type_: Any) -> ColumnElement[Any]:
        return Grouping(bindparam(name, type_=ARRAY(type_)))[place]

    def is_set(flag: int) -> ColumnElement[bool]:
        bits = of_row("p_flags", Integer).op("&")(literal_column(str(flag)))
        return Grouping(bits) != literal_column("0")

    values = {
        "state": cast(of_row("p_states", Text), t.tasks.c.state.type),
        "scheduled_at": func.coalesce(func.now() + of_row("p_delays", Interval), c.scheduled_at),
        "retries": c.retries + of_row("p_charges", Integer),
        "crashes": case(
            (is_set(FORGETS_CRASHES), literal_column("0")),
            (is_set(CHARGES_CRASH), func.least(c.crashes + literal_column("1"), literal_column(str(MOST_CRASHES)))),
            else_=c.crashes,
        ),
        "group_limit": case((is_set(FORGETS_CRASHES), null()), else_=c.group_limit),
        "error_message": func.coalesce(of_row("p_error_messages", Text), c.error_message),
        "errors": with_entry(c, of_row("p_error_entries", Text)),
        "cancel_request": case((is_set(ANSWERS_CANCEL), null()), else_=c.cancel_request),
        **_RELEASED,
    }
    due_at = due_time(c).label("scheduled_at")
    returned = (c.id, c.task_type, c.priority, due_at)
    settled = update(task).where(*_fence_of_write(c)).values(values).returning(*returned).cte("settled")
    return Statement("settle", select(settled.c.id, waking(t, settled)).select_from(settled))


def prune(t: Tables, state: TaskState) -> Statement:
    """Deletes the oldest rows of some task types that ended in this state before a given time.

    Each type is a range of its own in the index: rows of other types, which may be kept for years, cost nothing.

    The outer WHERE compares the state as text, as the fence does: through the pruner's index it would walk every old
    row and compare each with all the ids (1.8 s instead of 3 ms for 1,000 of a million).
    """
    task = aliased(t.tasks, "t")
    old = aliased(t.tasks, "ended")
    keep = bindparam("p_keep", type_=Interval)
    types = bindparam("p_task_types", type_=ARRAY(Text))
    of_type = func.unnest(types).table_valued(column("task_type", Text)).render_derived(name="of_type")
    oldest = (
        select(old.c.id)
        .where(
            old.c.state == literal_column(f"'{state}'"),
            old.c.task_type == of_type.c.task_type,
            old.c.updated_at < func.now() - keep,
        )
        .order_by(old.c.updated_at)
        .limit(LIMIT)
        .with_for_update(key_share=True, skip_locked=True, of=old)
        .lateral("oldest")
    )
    candidates = select(oldest.c.id).select_from(of_type.join(oldest, true())).limit(LIMIT)
    return Statement(
        f"prune_{state}",
        delete(task)
        .where(
            task.c.id == any_(array_of(candidates)),
            cast(task.c.state, Text) == literal_column(f"'{state}'"),
            task.c.task_type == any_(types),
            task.c.updated_at < func.now() - keep,
        )
        .returning(task.c.id),
    )
