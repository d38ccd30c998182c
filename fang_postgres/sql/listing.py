"""Builds the statements of lists and counts: each looks at a bounded number of rows, in the order of one walk.

A walk returns ``HEAD`` and then its key: a row for each task that matches, if they are wanted one by one, and one for
the last task looked at of each lane, which carries the place to go on from. A walk by type or kind has several lanes,
which are looked at at once. The tasks of a page are read by their ids at the end: a walk over many lanes finds more.
"""

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import (
    Boolean,
    DateTime,
    Integer,
    Select,
    SmallInteger,
    Text,
    and_,
    any_,
    bindparam,
    cast,
    exists,
    func,
    literal_column,
    not_,
    null,
    or_,
    select,
    true,
    tuple_,
)
from sqlalchemy.dialects.postgresql import ARRAY, UUID
from sqlalchemy.sql.elements import ColumnElement

from fang_core.interpreter.kept import kept
from fang_core.lifecycle import DUE_STATES, TERMINAL_STATES
from fang_core.record import TaskState
from fang_core.tasks.selecting.walks import Walk
from fang_postgres.compiling import PSYCOPG, compiled
from fang_postgres.names import TASK_COLUMNS
from fang_postgres.schema import Tables
from fang_postgres.shapes import KEYS, MOST_HELD
from fang_postgres.sql.filters import in_ranges, matching
from fang_postgres.sql.fragments import (
    IDS,
    LIMIT,
    aliased,
    array_of,
    is_of_kind,
    is_retried,
    readable,
    state_literals,
)
from fang_postgres.sql.reports import is_in, task_types
from fang_postgres.statement import Rows, Statement
from fang_postgres.textform import TextForm

ERROR_SHOWN: Final = 200
"""The characters of an error message that a list shows."""

_EXPLAIN: Final = "EXPLAIN (FORMAT JSON) "
_SHOWS: Final = bindparam("p_shows", type_=Boolean)
_MOMENT: Final = DateTime(timezone=True)


def list_waiting(t: Tables, *, retried: bool = False) -> Statement:
    """Looks at waiting rows behind a place, in the order of the index of due rows; or of retried ones, in theirs."""
    c = aliased(t.tasks, "t").c
    key = [c[name] for name in KEYS[Walk.WAITING]]
    waits = is_retried(c) if retried else c.state.in_(state_literals(DUE_STATES))
    rows = _looked_at(c, key, c.scheduled_at).where(waits, tuple_(*key) > behind()).order_by(*key).limit(LIMIT)
    return _listed(f"list_{Walk.RETRIED if retried else Walk.WAITING}", rows, len(key))


def behind() -> ColumnElement[Any]:
    """Returns the place behind which waiting rows are looked at."""
    return tuple_(
        bindparam("p_after_type", type_=Text),
        cast(bindparam("p_after_priority", type_=SmallInteger), SmallInteger),
        bindparam("p_after_at", type_=_MOMENT),
        bindparam("p_after_id", type_=UUID),
    )


def list_inserted(t: Tables) -> Statement:
    """Looks at rows of any state with ids from ``p_from`` down to ``p_until``."""
    c = aliased(t.tasks, "t").c
    in_range = (c.id <= bindparam("p_from", type_=UUID), c.id >= bindparam("p_until", type_=UUID))
    rows = _looked_at(c, [c.id], c.created_at).where(*in_range).order_by(c.id.desc()).limit(LIMIT)
    return _listed(f"list_{Walk.INSERTED}", rows, 1)


def list_ids(t: Tables) -> Statement:
    """Looks at the rows with these ids."""
    c = aliased(t.tasks, "t").c
    wanted = c.id == any_(array_of(select(func.unnest(IDS))))
    rows = _looked_at(c, [c.id], c.created_at).where(wanted).order_by(c.id.desc())
    return _listed(f"list_{Walk.IDS}", rows, 1)


def list_ended(t: Tables) -> Statement:
    """Looks at ended rows of several lanes, each a state and a type, behind a place of each, the newest first."""
    c = aliased(t.tasks, "t").c
    lane = _lanes("state", "task_type")
    of_lane = (
        c.state.in_(state_literals(TERMINAL_STATES)),
        c.state == cast(lane.c.state, t.tasks.c.state.type),
        c.task_type == lane.c.task_type,
    )
    return _listed(f"list_{Walk.ENDED}", _newest(c, lane, of_lane), 2, lane)


def list_failed(t: Tables) -> Statement:
    """Looks at failed rows of several kinds, behind a place of each, the newest first."""
    c = aliased(t.tasks, "t").c
    lane = _lanes("kind")
    of_lane = (is_in(TaskState.FAILED)(c), *is_of_kind(c, lane.c.kind))
    return _listed("list_failed", _newest(c, lane, of_lane), 2, lane)


def list_held(t: Tables) -> Statement:
    """Looks at all rows in progress, and shows those that match behind a place, up to ``p_limit``.

    Its last row, which carries the counts, is that of no task.
    """
    c = aliased(t.tasks, "t").c
    since = func.coalesce(readable(c, "claimed_at"), c.updated_at, type_=_MOMENT)
    seen = (
        _looked_at(c, [since, c.id], since)
        .where(is_in(TaskState.IN_PROGRESS)(c))
        .order_by(c.pool_id)
        .limit(literal_column(str(MOST_HELD)))
        .cte("seen")
        .prefix_with("MATERIALIZED")
    )
    s = seen.c
    place = tuple_(bindparam("p_after_at", type_=_MOMENT), bindparam("p_after_id", type_=UUID))
    shown = (
        select(s.key_0, s.key_1, s.at)
        .where(s.is_hit, tuple_(s.key_0, s.key_1) > place, _SHOWS)
        .order_by(s.key_0, s.key_1)
        .limit(LIMIT)
        .subquery("shown")
    )
    x = shown.c
    zero, none = literal_column("0", Integer), cast(null(), _MOMENT)
    yes, no = literal_column("true", Boolean), literal_column("false", Boolean)
    hits = select(
        *(zero.label(name) for name in ("lane", "looked", "hits")),
        *(no.label("is_last"), yes.label("is_hit"), x.at, x.key_0, x.key_1),
    )
    last = select(
        *(zero.label("lane"), func.count().label("looked"), func.count().filter(s.is_hit).label("hits")),
        *(yes.label("is_last"), no.label("is_hit"), func.max(s.at).label("at")),
        *(none.label("key_0"), cast(null(), UUID).label("key_1")),
    )
    return Statement(f"list_{Walk.HELD}", hits.select_from(shown).union_all(last.select_from(seen)))


def ended_types(t: Tables) -> Statement:
    """Reads the types that have rows of each ended state, up to ``MOST_TYPES`` of each."""
    parts = []
    for state in TERMINAL_STATES:
        types = task_types(t, is_in(state), name=f"types_{state.value}")
        state_name = literal_column(f"'{state.value}'", Text).label("state")
        parts.append(select(state_name, types.c.task_type).where(types.c.task_type.is_not(None)))
    return Statement("ended_types", parts[0].union_all(*parts[1:]))


def has_ids_from(t: Tables) -> Statement:
    """Reads whether there is an id of at least ``p_from``."""
    found: Select[Any] = select(literal_column("1")).where(t.tasks.c.id >= bindparam("p_from", type_=UUID))
    return Statement("has_ids_from", select(exists(found).label("found")))


def _lanes(*names: str) -> Any:
    lists: dict[str, Any] = {name: bindparam(f"p_lane_{name}", type_=ARRAY(Text)) for name in names}
    lists |= {
        "after_at": bindparam("p_after_at", type_=ARRAY(_MOMENT)),
        "after_id": bindparam("p_after_id", type_=ARRAY(UUID)),
        "most": bindparam("p_most", type_=ARRAY(Integer)),
        "lane": bindparam("p_lane", type_=ARRAY(Integer)),
    }
    return func.unnest(*lists.values()).table_valued(*lists).render_derived(name="lane")


def _newest(c: Any, lane: Any, of_lane: Sequence[ColumnElement[bool]]) -> Any:
    behind = (
        c.updated_at <= lane.c.after_at,
        tuple_(c.updated_at, c.id) < tuple_(lane.c.after_at, lane.c.after_id),
        c.updated_at >= bindparam("p_since", type_=_MOMENT),
    )
    rows = _looked_at(c, [c.updated_at, c.id], c.updated_at).where(*of_lane, *behind)
    return rows.order_by(c.updated_at.desc(), c.id.desc()).limit(lane.c.most).correlate(lane)


def _looked_at(c: Any, key: Sequence[Any], at: Any) -> Any:
    is_hit = and_(*matching(c)).is_(true()).label("is_hit")
    return select(c.id, at.label("at"), *(each.label(f"key_{n}") for n, each in enumerate(key)), is_hit)


def _listed(name: str, rows: Any, keys: int, lane: Any = None) -> Statement:
    x = rows.subquery("x") if lane is None else rows.lateral("x")
    count: ColumnElement[int] = func.count()
    numbered = select(
        *x.c,
        func.row_number().over().label("n"),
        count.over().label("looked"),
        func.count().filter(x.c.is_hit).over().label("hits"),
    )
    seen = numbered.subquery("seen") if lane is None else numbered.lateral("seen")
    s = seen.c
    is_last = s.n == s.looked
    columns = [
        (literal_column("0", Integer) if lane is None else cast(lane.c.lane, Integer)).label("lane"),
        *(s.looked, s.hits, is_last.label("is_last"), s.is_hit, s.at, *(s[f"key_{n}"] for n in range(keys))),
    ]
    source = seen if lane is None else lane.join(seen, true())
    return Statement(name, select(*columns).select_from(source).where(or_(and_(s.is_hit, _SHOWS), is_last)))


def show(t: Tables) -> Statement:
    """Reads those of the tasks with these ids that match."""
    c = aliased(t.tasks, "t").c
    wanted = c.id == any_(array_of(select(func.unnest(IDS))))
    return Statement("show", select(*_columns(c)).where(wanted, *matching(c)))


def _columns(c: Any) -> list[Any]:
    """Returns the columns of a task, of which a list leaves the history of errors out, and cuts the last one."""
    others = {
        "error_message": func.left(c.error_message, literal_column(str(ERROR_SHOWN)), type_=Text),
        "errors": literal_column("'[]'", Text),
    }
    return [others[name].label(name) if name in others else readable(c, name) for name in TASK_COLUMNS]


def estimate(t: Tables) -> Statement:
    """Has the planner say how many rows match, which takes it a millisecond.

    The conditions are as an application would write them, with the values as constants: only of these the statistics
    say something. A text in the error and the contents of JSON are left out: of these they say nothing.
    """
    c = aliased(t.tasks, "t").c
    lists = {
        "kinds": c.kind == any_(bindparam("p_kinds", type_=ARRAY(Text))),
        "task_types": c.task_type == any_(bindparam("p_task_types", type_=ARRAY(Text))),
    }
    where = [or_(not_(bindparam(f"p_has_{name}", type_=Boolean)), has_one) for name, has_one in lists.items()]
    # Not as a list: of one that is cast to states, the planner does not look at the values.
    states = [and_(bindparam(f"p_may_be_{state}", type_=Boolean), is_in(state)(c)) for state in TaskState]
    where.append(or_(bindparam("p_may_be_any", type_=Boolean), *states))
    return Explained("estimate", select(literal_column("1", Integer).label("one")).where(*where, *in_ranges(c)))


class Explained(Statement):
    """The plan of a statement, instead of its rows."""

    @kept
    def text(self) -> str:
        """See ``Statement.text``."""
        return _EXPLAIN + str(self._for_asyncpg)

    @kept
    def text_form(self) -> TextForm:
        """See ``Statement.text_form``."""
        return _ExplainedForm(self.core)


class _ExplainedForm(TextForm):
    @kept
    def psycopg_text(self) -> str:
        return _EXPLAIN + str(compiled(self.core, PSYCOPG))

    def read(self, rows: Rows) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in rows]
