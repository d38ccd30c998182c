"""Builds the statements that retry or remove the tasks of a filter, a batch at a time.

A batch walks through rows in the order of an index, as a list does, from a place on: it looks at ``p_window`` rows, and
takes the first ``p_limit`` of those that match. It returns how many rows it has changed, taken and looked at, and the
place that it reached; nulls if no row is left. The next batch begins behind that place: from the start it would walk
the dead entries of all batches before.

Rows that other transactions have locked are left alone, and so are those that changed after ``p_as_of``, when the call
began: what comes later is not met again.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import (
    DateTime,
    Integer,
    Select,
    Text,
    and_,
    any_,
    bindparam,
    case,
    cast,
    delete,
    func,
    literal_column,
    not_,
    null,
    or_,
    select,
    true,
    tuple_,
    union_all,
    update,
)
from sqlalchemy.dialects.postgresql import UUID
from sqlalchemy.sql.elements import ColumnElement

from fang_core.lifecycle import DUE_STATES, TERMINAL_STATES
from fang_core.record import TaskState
from fang_core.tasks.selecting.walks import Walk
from fang_postgres.schema import Tables
from fang_postgres.shapes import KEYS
from fang_postgres.sql.by_hand import has_twin, revived
from fang_postgres.sql.filters import matching
from fang_postgres.sql.fragments import (
    IDS,
    aliased,
    array_of,
    due_time,
    has_ended,
    is_of_kind,
    is_retried,
    state_literals,
    telling_of_slots,
    waking,
)
from fang_postgres.sql.listing import behind
from fang_postgres.sql.reports import is_in
from fang_postgres.statement import Statement

_MOMENT: Final = DateTime(timezone=True)
_AS_OF: Final = bindparam("p_as_of", type_=_MOMENT)
_STATE: Final = bindparam("p_state", type_=Text)
_TYPE: Final = bindparam("p_task_type", type_=Text)
_FROM: Final = bindparam("p_from", type_=UUID)
_AFTER_ID: Final = bindparam("p_after_id", type_=UUID)
_AFTER_AT: Final = bindparam("p_after_at", type_=_MOMENT)


def _hidden(name: str) -> Any:
    """Returns a limit that the planner does not see: see ``statements``."""
    return select(bindparam(name, type_=Integer)).scalar_subquery()


@dataclass(frozen=True, slots=True)
class Way:
    """Describes a way to find rows: which, in what order, and after which place.

    ``key`` names the columns of its order. ``sorts`` is whether no index has it, so that all rows are found first.
    """

    key: tuple[str, ...]
    where: Callable[[Tables, Any], list[ColumnElement[bool]]]
    is_descending: bool = False
    sorts: bool = False


def _ended(t: Tables, c: Any) -> list[ColumnElement[bool]]:
    state = cast(_STATE, t.tasks.c.state.type)
    return [c.state.in_(state_literals(TERMINAL_STATES)), c.state == state, c.task_type == _TYPE, *_newest(c)]


def _failed(t: Tables, c: Any) -> list[ColumnElement[bool]]:
    return [is_in(TaskState.FAILED)(c), *is_of_kind(c, bindparam("p_kind", type_=Text)), *_newest(c)]


def _newest(c: Any) -> list[ColumnElement[bool]]:
    return [c.updated_at <= _AFTER_AT, tuple_(c.updated_at, c.id) < tuple_(_AFTER_AT, _AFTER_ID)]


def _waiting(t: Tables, c: Any) -> list[ColumnElement[bool]]:
    return [c.state.in_(state_literals(DUE_STATES)), tuple_(*(c[name] for name in KEYS[Walk.WAITING])) > behind()]


def _retried(t: Tables, c: Any) -> list[ColumnElement[bool]]:
    return [is_retried(c), tuple_(*(c[name] for name in KEYS[Walk.WAITING])) > behind()]


def _named(t: Tables, c: Any) -> list[ColumnElement[bool]]:
    return [c.id == any_(array_of(select(func.unnest(IDS)))), c.id <= _FROM]


def _held(t: Tables, c: Any) -> list[ColumnElement[bool]]:
    return [is_in(TaskState.IN_PROGRESS)(c), c.id <= _FROM]


WAYS: Final = {
    "ended": Way(KEYS[Walk.ENDED], _ended, is_descending=True),
    "failed": Way(KEYS[Walk.ENDED], _failed, is_descending=True),
    "waiting": Way(KEYS[Walk.WAITING], _waiting),
    "retried": Way(KEYS[Walk.WAITING], _retried),
    "inserted": Way(("id",), lambda _, c: [c.id <= _FROM], is_descending=True),
    "ids": Way(("id",), _named, is_descending=True, sorts=True),
    "held": Way(("id",), _held, is_descending=True, sorts=True),
}
"""The ways of both calls, by their names."""


def retry(t: Tables, name: str) -> Statement:
    """Makes ended rows new, as a move by hand does, and makes those due now that wait for a retry.

    A unique row is left alone while it has a twin that counts; of twins among those of a batch the first is taken.
    """

    def is_wanted(c: Any) -> list[ColumnElement[bool]]:
        waits_for_it = and_(cast(c.state, Text) == literal_column("'retried'"), c.scheduled_at > func.now())
        ended = cast(c.state, Text).in_(state_literals(TERMINAL_STATES))
        return [or_(ended, waits_for_it), c.updated_at <= _AS_OF, *matching(c)]

    doomed, locked, ends = _batch(t, WAYS[name], is_wanted, key_share=True)
    task = aliased(t.tasks, "t")
    c, x = task.c, locked.c
    compared = func.coalesce(
        x.uniq_hash, case((x.attempt == literal_column("0"), x.uniq_waiting)), cast(x.id, Text), type_=Text
    )
    place = func.row_number().over(partition_by=compared, order_by=(x.updated_at.desc(), x.id.desc()))
    ranked = select(x.id, place.label("place")).subquery("ranked")
    ids = select(ranked.c.id).where(ranked.c.place == literal_column("1"))
    ended = has_ended(c)
    now = func.clock_timestamp()
    values: dict[str, Any] = {
        name: case((ended, value), else_=now if name == "scheduled_at" else c[name])
        for name, value in revived(c, c.scheduled_at).items()
    } | {
        "state": case((ended, cast(literal_column("'new'"), t.tasks.c.state.type)), else_=c.state),
        "pool_id": null(),
        "claimed_at": null(),
        "updated_at": now,
    }
    changed = (
        update(task)
        .where(c.id == any_(array_of(ids)), not_(and_(ended, has_twin(t, task))))
        .values(values)
        .returning(c.id, c.state, c.task_type, c.priority, c.scheduled_at)
        .cte("changed")
    )
    woken = waking(t, changed, passed_at=due_time(changed.c))
    return Statement(f"retry_{name}", _counted(changed, doomed, ends, woken))


def remove(t: Tables, name: str) -> Statement:
    """Deletes rows, and the periods of unique ones; tells pools of the slots that are free if they ran."""

    def is_wanted(c: Any) -> list[ColumnElement[bool]]:
        return [c.created_at <= _AS_OF, *matching(c)]

    doomed, locked, ends = _batch(t, WAYS[name], is_wanted)
    task = aliased(t.tasks, "t")
    c = task.c
    ids = array_of(select(locked.c.id))
    changed = delete(task).where(c.id == any_(ids)).returning(c.id, c.state, c.task_type, c.lane).cte("changed")
    periods = delete(t.uniques).where(t.uniques.c.task_id == any_(array_of(select(changed.c.id)))).cte("periods")
    told = telling_of_slots(t, changed)
    return Statement(f"remove_{name}", _counted(changed, doomed, ends, told).add_cte(periods))


def next_ended_type(t: Tables) -> Statement:
    """Reads the first type behind ``p_task_type`` that has rows of an ended state."""
    c = t.tasks.c
    state = cast(_STATE, c.state.type)
    of_state = (c.state.in_(state_literals(TERMINAL_STATES)), c.state == state, c.task_type > _TYPE)
    first = select(c.task_type).where(*of_state).order_by(c.task_type).limit(literal_column("1"))
    return Statement("next_ended_type", first)


def _batch(
    t: Tables, way: Way, is_wanted: Callable[[Any], list[ColumnElement[bool]]], *, key_share: bool = False
) -> tuple[Any, Any, Any]:
    """Returns the rows that a batch takes, those of them that it could lock, and why it ended."""
    looked, locking = aliased(t.tasks, "looked"), aliased(t.tasks, "l")
    c = looked.c
    limit, window = _hidden("p_limit"), _hidden("p_window")

    def ordered(columns: Any) -> list[Any]:
        return [columns[name].desc() if way.is_descending else columns[name] for name in way.key]

    names = dict.fromkeys((*way.key, "id"))
    columns: list[Any] = [c[name] for name in names]
    rows = select(*columns, and_(true(), *is_wanted(c)).is_(true()).label("wanted")).where(*way.where(t, c))
    order = ordered(c)
    if way.sorts:  # apart, or the planner would walk through all rows in this order
        found = rows.cte("found").prefix_with("MATERIALIZED")
        rows, order = select(*found.c), ordered(found.c)
    seen = rows.order_by(*order).limit(window).cte("seen").prefix_with("MATERIALIZED")
    doomed = (
        select(*(seen.c[name] for name in names))
        .where(seen.c.wanted)
        .order_by(*ordered(seen.c))
        .limit(limit)
        .cte("doomed")
        .prefix_with("MATERIALIZED")
    )
    x = locking.c
    locked = (
        select(x.id, x.uniq_hash, x.uniq_waiting, x.attempt, x.updated_at)
        .where(x.id == any_(array_of(select(doomed.c.id))), *is_wanted(x))
        .order_by(x.id)
        .with_for_update(key_share=key_share, skip_locked=True, of=locking)
        .cte("locked")
        .prefix_with("MATERIALIZED")
    )
    is_full = select(func.count()).select_from(doomed).scalar_subquery() == limit
    saw_all = select(func.count()).select_from(seen).scalar_subquery() < window

    def last_of(rows: Any) -> Select[Any]:
        backwards = (rows.c[name] if way.is_descending else rows.c[name].desc() for name in way.key)
        return select(*(rows.c[name] for name in way.key)).order_by(*backwards).limit(literal_column("1"))

    ends = union_all(
        select(last_of(doomed).subquery("last_doomed")).where(is_full),
        select(last_of(seen).subquery("last_seen")).where(~is_full, ~saw_all),
    ).subquery("ends")
    return doomed, locked, ends


def _counted(changed: Any, doomed: Any, ends: Any, told: Any) -> Select[Any]:
    counts = select(
        select(func.count()).select_from(changed).scalar_subquery().label("changed"),
        select(func.count()).select_from(doomed).scalar_subquery().label("taken"),
        told.label("told"),
    )
    one = counts.subquery("counts")
    return select(one, *ends.c).select_from(one.outerjoin(ends, true()))
