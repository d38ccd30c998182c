"""Builds the statements of reports. Each reads a bounded part of the table, however large it is.

At 10,000,000 rows the statements that visit rows take longest: the counts, about 5,000 rows for each statement, and the
sample, a few hundred pages. Each bounded part is ordered by the whole key of its index, and so walked from its start.
"""

from collections.abc import Callable
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Float,
    Integer,
    SmallInteger,
    Text,
    and_,
    any_,
    bindparam,
    case,
    cast,
    exists,
    func,
    literal_column,
    not_,
    null,
    or_,
    select,
    text,
    true,
    union_all,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, UUID, aggregate_order_by
from sqlalchemy.sql.elements import ColumnElement

from fang_core.lifecycle import TERMINAL_STATES
from fang_core.record import HIGHEST_PRIORITY, LOWEST_PRIORITY, TaskState
from fang_postgres.reports.bounds import MOST_SCHEDULES, MOST_TYPES
from fang_postgres.schema import Tables
from fang_postgres.sql.fragments import array_of, within
from fang_postgres.sql.schedules import is_paused
from fang_postgres.sql.stored_schedules import schedule_columns
from fang_postgres.statement import Statement

_EACH: ColumnElement[int] = bindparam("p_each", type_=Integer)
_ERROR_SHOWN: Final = "200"  # characters

Condition = Callable[[Any], ColumnElement[bool]]


def waits(c: Any) -> ColumnElement[bool]:
    """Returns the condition of the index of due rows."""
    condition: ColumnElement[bool] = c.state.in_([literal_column("'new'"), literal_column("'retried'")])
    return condition


def is_in(state: TaskState) -> Condition:
    """Returns the condition for a state, as in the indexes of held and of ended rows."""

    def condition(c: Any) -> ColumnElement[bool]:
        return c.state == literal_column(f"'{state.value}'")  # type: ignore[no-any-return]

    return condition


def clock(_: Tables) -> Statement:
    """Reads the database's clock."""
    return Statement("clock", select(func.clock_timestamp()))


def pages(t: Tables) -> Statement:
    """Reads the size of the table in pages."""
    name: ColumnElement[str] = literal_column(f"'{t.schema}.{t.tasks.name}'")
    size = func.pg_relation_size(func.to_regclass(name))
    page = cast(func.current_setting(literal_column("'block_size'")), BigInteger)
    return Statement("pages", select((size / page).label("pages")))


def hides_rows(t: Tables) -> Statement:
    """Reads whether policies of the table decide which rows this role sees."""
    name: ColumnElement[str] = literal_column(f"'{t.schema}.{t.tasks.name}'")
    return Statement("hides_rows", select(func.row_security_active(func.to_regclass(name)).label("hides")))


def sample(t: Tables) -> Statement:
    """Counts the rows of ``p_percent`` of all pages: the same pages each time, so that they are likely to be cached."""
    c = t.tasks.tablesample(func.system(bindparam("p_percent", type_=Float)), name="t", seed=literal_column("0")).c
    return _counted("sample", select(c.task_type, c.state, c.kind, c.scheduled_at).subquery("x"))


def waiting(t: Tables) -> Statement:
    """Counts the first ``p_each`` waiting rows of each type."""
    types = task_types(t, waits)
    c = t.tasks.alias("t").c
    first = (
        select(c.task_type, c.state, c.kind, c.scheduled_at)
        .where(c.task_type == types.c.task_type, waits(c))
        .order_by(c.task_type, c.priority, c.scheduled_at, c.id)
        .limit(_EACH)
        .lateral("x")
    )
    return _counted("waiting", first, types.join(first, true()))


def ended(t: Tables) -> Statement:
    """Counts the last ``p_each`` ended rows of each state and type."""
    parts = []
    for state in TERMINAL_STATES:
        types = task_types(t, is_in(state), name=f"types_{state.value}")
        c = t.tasks.alias("t").c
        last = (
            select(c.task_type, c.state, c.kind, c.scheduled_at)
            .where(is_in(state)(c), c.task_type == types.c.task_type)
            .order_by(c.updated_at.desc())
            .limit(_EACH)
            .lateral("last")
        )
        parts.append(select(last).select_from(types.join(last, true())))
    return _counted("ended", union_all(*parts).subquery("x"))


def _counted(name: str, rows: Any, source: Any = None) -> Statement:
    due = func.count().filter(waits(rows.c), rows.c.scheduled_at <= func.now())
    state = cast(rows.c.state, Text).label("state")
    counts = select(rows.c.task_type, state, rows.c.kind, func.count().label("count"), due.label("due"))
    counts = counts.select_from(rows if source is None else source)
    return Statement(name, counts.group_by(rows.c.task_type, rows.c.state, rows.c.kind))


def running(t: Tables) -> Statement:
    """Counts the first ``p_each`` rows in progress by type, kind and holder, with the oldest claim."""
    c = t.tasks.alias("t").c
    held = (
        select(c.task_type, c.kind, c.pool_id, within(c.claimed_at))
        .where(is_in(TaskState.IN_PROGRESS)(c))
        .order_by(c.pool_id)
        .limit(_EACH)
        .subquery("x")
    )
    x = held.c
    since = func.min(x.claimed_at)
    counts = select(x.task_type, x.kind, x.pool_id, func.count(), since, func.clock_timestamp() - since)
    return Statement("running", counts.group_by(x.task_type, x.kind, x.pool_id))


def notable_runs(t: Tables) -> Statement:
    """Reads the reports of the pools on their runs, and the clock."""
    c = t.pools.alias("p").c
    told = cast(c.runs, Text).label("runs")
    rows = select(c.id, func.clock_timestamp().label("now"), told).where(c.runs != cast(literal_column("'{}'"), JSONB))
    return Statement("notable_runs", rows.order_by(c.started_at, c.id))


def paused_schedules(t: Tables) -> Statement:
    """Reads which schedules are paused, the first ``MOST_SCHEDULES`` by name."""
    s = t.schedules.c
    columns = {column.name: column for column in schedule_columns(s)}
    shown = (columns[name] for name in ("name", "paused_until", "paused_at", "paused_by", "pause_reason"))
    found = select(*shown).where(is_paused(s, func.now())).order_by(s.name)
    return Statement("paused_schedules", found.limit(literal_column(str(MOST_SCHEDULES))))


def unserved_schedules(t: Tables) -> Statement:
    """Reads the schedules that go on, but of which no pool of ``p_ids`` makes ticks: the first ``MOST_SCHEDULES`` by
    name.

    Those whose only or last time has passed are left out; which of the rest have a tick left, their patterns say.
    """
    s, p = t.schedules.c, t.pools.alias("p").c
    task_type, kind = (s.declared.op("->>")(literal_column(f"'{name}'")) for name in ("task_type", "kind"))
    served_as = case((s.kind.is_not(None), s.task_type), else_=task_type)
    ids = array_of(select(func.unnest(bindparam("p_ids", type_=ARRAY(UUID(as_uuid=True))))))
    is_known = or_(s.kind.is_not(None), func.coalesce(kind, s.name) == any_(p.kinds))
    served = exists(select(literal_column("1")).where(p.id == any_(ids), served_as == any_(p.task_types), is_known))
    goes_on = and_(
        not_(is_paused(s, func.now())),
        func.coalesce(s.at > s.last_tick, true()),
        func.coalesce(s.until > s.last_tick, true()),
    )
    found = select(*schedule_columns(s)).where(served_as.is_not(None), not_(served), goes_on).order_by(s.name)
    return Statement("unserved_schedules", found.limit(literal_column(str(MOST_SCHEDULES))))


def retried(t: Tables) -> Statement:
    """Counts retried rows by kind, among the first ``p_each`` due and as many later rows of each type and lane.

    For each kind it returns how many, when the next is due, and the first line of the last error.
    """
    types, lane = task_types(t, waits), _lanes()

    def first(is_due: bool, name: str) -> Any:
        c = t.tasks.alias("t").c
        found = (
            select(c.state, c.task_type, c.kind, c.scheduled_at, c.updated_at, c.error_message)
            .where(
                c.task_type == types.c.task_type,
                c.priority == cast(lane.c.priority, SmallInteger),
                waits(c),
                c.scheduled_at <= func.now() if is_due else c.scheduled_at > func.now(),
            )
            .order_by(c.scheduled_at, c.id)
            .limit(_EACH)
            .correlate(types, lane)
        )
        return found.subquery(name)

    both = union_all(select(first(True, "due")), select(first(False, "later"))).lateral("x")
    x = both.c
    errors = func.array_agg(aggregate_order_by(_first_line(x.error_message), x.updated_at.desc()))
    by_kind = (
        select(x.task_type, x.kind, func.count(), func.min(x.scheduled_at), errors[literal_column("1")])
        .select_from(types.join(lane, true()).join(both, true()))
        .where(is_in(TaskState.RETRIED)(x))
        .group_by(x.task_type, x.kind)
    )
    return Statement("retried", by_kind.order_by(x.task_type, x.kind))


def oldest_due(t: Tables) -> Statement:
    """Reads the oldest due row of each type: one step in the index of due rows for each type and lane."""
    types, lane = task_types(t, waits), _lanes()
    c = t.tasks.alias("t").c
    first = (
        select(c.id, c.scheduled_at)
        .where(
            c.task_type == types.c.task_type,
            c.priority == cast(lane.c.priority, SmallInteger),
            waits(c),
            c.scheduled_at <= func.now(),
        )
        .order_by(c.scheduled_at, c.id)
        .limit(literal_column("1"))
        .lateral("first")
    )
    age = (func.now() - first.c.scheduled_at).label("age")
    return Statement(
        "oldest_due",
        select(types.c.task_type, first.c.id, first.c.scheduled_at, age)
        .prefix_with(text("DISTINCT ON (types.task_type)"))  # SQLAlchemy 2.0 and 2.1 have no word in common
        .select_from(types.join(lane, true()).join(first, true()))
        .order_by(types.c.task_type, first.c.scheduled_at, first.c.id),
    )


def last_failures(t: Tables) -> Statement:
    """Reads the ten rows that failed last, from the ends of their types' ranges in the index of ended rows."""
    has_failed = is_in(TaskState.FAILED)
    types = task_types(t, has_failed)
    c = t.tasks.alias("t").c
    ten: ColumnElement[int] = literal_column("10")
    of_type = (
        select(c.task_type, c.kind, c.id, c.updated_at, c.error_message)
        .where(has_failed(c), c.task_type == types.c.task_type)
        .order_by(c.updated_at.desc())
        .limit(ten)
        .lateral("of_type")
    )
    last = of_type.c
    rows = select(last.task_type, last.kind, last.id, last.updated_at, _first_line(last.error_message).label("error"))
    failed = rows.select_from(types.join(of_type, true()))
    return Statement("last_failures", failed.order_by(last.updated_at.desc()).limit(ten))


def task_types(t: Tables, are: Condition, *, name: str = "types") -> Any:
    """Returns the task types with such rows, each found by one step in an index: DISTINCT would read all of it."""
    c, later = t.tasks.alias("t").c, t.tasks.alias("later").c
    one: ColumnElement[int] = literal_column("1", Integer)
    # Not min(): where statistics are out of date Postgres 15 reads all rows for that, not the first one of the index.
    first = select(c.task_type).where(are(c)).order_by(c.task_type).limit(literal_column("1")).scalar_subquery()
    types = select(first.label("task_type"), one.label("number")).cte(name, recursive=True)
    after = (
        select(later.task_type)
        .where(are(later), later.task_type > types.c.task_type)
        .order_by(later.task_type)
        .limit(literal_column("1"))
    )
    is_short = types.c.number < literal_column(str(MOST_TYPES), Integer)
    more = select(after.scalar_subquery(), types.c.number + one).where(types.c.task_type.is_not(null()), is_short)
    return types.union_all(more)


def _lanes() -> Any:
    lanes = func.generate_series(literal_column(str(HIGHEST_PRIORITY)), literal_column(str(LOWEST_PRIORITY)))
    return lanes.table_valued("priority").render_derived(name="lane")


def _first_line(message: Any) -> ColumnElement[str]:
    line = func.split_part(func.coalesce(message, literal_column("''")), literal_column("E'\\n'"), literal_column("1"))
    return func.left(line, literal_column(_ERROR_SHOWN))
