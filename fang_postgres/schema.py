"""Defines the tables in SQLAlchemy. They are in a Postgres schema of their own, ``fang`` unless told otherwise.

``fang_tasks`` keeps the ten columns, types, defaults and state names of Rust's Fang 0.11, so that a program written in
Rust can insert into it; all other columns have defaults. The migrations make these tables; a test compares the two.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import (
    DDL,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Computed,
    DateTime,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    Interval,
    MetaData,
    SmallInteger,
    Table,
    TableClause,
    Text,
    column,
    event,
    table,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, ENUM, JSONB, UUID

from fang_core.monitoring.buckets import COMMENT
from fang_core.record import TaskState
from fang_postgres.names import COUNTERS, DEFAULT_SCHEMA, HISTOGRAMS, SUMS, checked_schema

EARLIEST: Final = "'0001-01-03 00:00:00+00'::timestamptz"
LATEST: Final = "'9999-12-29 00:00:00+00'::timestamptz"

WAITS_IN_LANE: Final = "CASE {} WHEN 'new' THEN true WHEN 'retried' THEN true ELSE false END"
"""The condition on the state of rows that wait in a lane: no other index has rows that meet it, for all the planner
knows."""


@dataclass(frozen=True, slots=True)
class Tables:
    """The tables of one schema name."""

    schema: str
    metadata: MetaData
    tasks: Table
    pools: Table
    schedules: Table
    messages: Table
    types: Table
    turns: Table
    lanes: Table
    uniques: Table
    stats: Table
    live: Table
    audit: Table
    scaling: TableClause
    """The view for autoscalers; the revision that made it has its query."""


@lru_cache(maxsize=64)
def tables(schema: str = DEFAULT_SCHEMA) -> Tables:
    """Returns the tables under this schema name. Raises ``UsageError`` if ``checked_schema`` refuses the name."""
    checked_schema(schema)
    metadata = MetaData(schema=schema)
    return Tables(
        schema,
        metadata,
        tasks=_tasks(metadata, schema),
        pools=_pools(metadata),
        schedules=_schedules(metadata),
        messages=_messages(metadata),
        types=_types(metadata),
        turns=_turns(metadata, schema),
        lanes=_lanes(metadata, schema),
        uniques=_uniques(metadata),
        stats=_stats(metadata),
        live=_live(metadata),
        audit=_audit(metadata),
        scaling=_scaling(schema),
    )


def _tasks(metadata: MetaData, schema: str) -> Table:
    due = text("state IN ('new', 'retried')")
    terminal = "state IN ('finished', 'failed', 'cancelled')"
    moment = DateTime(timezone=True)
    return Table(
        "fang_tasks",
        metadata,
        Column("id", UUID(as_uuid=True), primary_key=True, server_default=text("gen_random_uuid()")),
        Column("metadata", JSONB, nullable=False),
        Column("error_message", Text),
        Column(
            "state",
            ENUM(*[state.value for state in TaskState], name="fang_task_state", schema=schema, metadata=metadata),
            nullable=False,
            server_default="new",
        ),
        Column("task_type", Text, nullable=False, server_default="common"),
        Column("uniq_hash", Text),
        Column("retries", Integer, nullable=False, server_default=text("0")),
        # clock_timestamp(), not now(): a transaction may have begun long before its insert.
        Column("scheduled_at", moment, nullable=False, server_default=text("clock_timestamp()")),
        Column("created_at", moment, nullable=False, server_default=text("now()")),
        Column("updated_at", moment, nullable=False, server_default=text("now()")),
        # Fang's own ten columns end here.
        Column("kind", Text, Computed("metadata ->> 'type'", persisted=True)),
        Column("priority", SmallInteger, nullable=False, server_default=text("0")),
        Column("attempt", BigInteger, nullable=False, server_default=text("0")),
        Column("crashes", SmallInteger, nullable=False, server_default=text("0")),
        Column("max_retries", Integer),
        Column("pool_id", UUID(as_uuid=True)),
        Column("claimed_at", moment),
        Column("errors", JSONB, nullable=False, server_default=text("'[]'")),
        Column("headers", JSONB),
        Column("timeout", Interval),
        Column("expires_at", moment),
        Column("cancel_request", JSONB),
        Column("group_limit", SmallInteger),
        Column("lane", Text(collation="C")),
        Column("uniq_waiting", Text),
        CheckConstraint(
            "jsonb_typeof(metadata) = 'object' AND coalesce(jsonb_typeof(metadata -> 'type') = 'string', false)",
            name="fang_tasks_metadata_is_a_task",
        ),
        CheckConstraint(
            # The times that Python's datetime can hold in any zone, and no infinities.
            " AND ".join(
                f"{name} BETWEEN {EARLIEST} AND {LATEST}" for name in ("scheduled_at", "created_at", "updated_at")
            ),
            name="fang_tasks_times_in_range",
        ),
        CheckConstraint("priority BETWEEN -2 AND 2", name="fang_tasks_priority_in_range"),
        CheckConstraint(
            "retries >= 0 AND attempt >= 0 AND crashes >= 0 AND coalesce(max_retries, 0) >= 0",
            name="fang_tasks_counters_not_negative",
        ),
        CheckConstraint("jsonb_typeof(errors) = 'array'", name="fang_tasks_errors_is_a_list"),
        # None of the columns that follow errors: a check of each cost every statement that inserts or updates rows 7
        # microseconds. They are read so that no value of theirs fails, see ``fragments.readable``.
        # For claims: due rows of a task type, lane by lane, in order of time.
        Index("fang_tasks_due", "task_type", "priority", "scheduled_at", "id", postgresql_where=due),
        # Uniqueness, decided by the database, among tasks whose life has not ended.
        Index(
            "fang_tasks_uniq",
            "uniq_hash",
            unique=True,
            postgresql_where=text(f"uniq_hash IS NOT NULL AND NOT ({terminal})"),
        ),
        # The rows that a pool holds.
        Index("fang_tasks_held", "pool_id", postgresql_where=text("state = 'in_progress'")),
        # For the pruner: ended rows, type by type, in order of time.
        Index("fang_tasks_ended", "state", "task_type", "updated_at", postgresql_where=text(terminal)),
        # For claims of managed types: due rows of a task type, key by key, in order of time. In these two conditions
        # the part comes first that rows of other types do not meet, which costs them next to nothing. The planner does
        # not know that fang_tasks_due has these rows, too: for those of one key it took that one when the statistics
        # were out of date, and read the rows of all keys.
        Index(
            "fang_tasks_lanes",
            *("task_type", "priority", "lane", "scheduled_at", "id"),
            postgresql_where=text(f"lane IS NOT NULL AND {WAITS_IN_LANE.format('state')}"),
        ),
        # What runs, for the same claims. It leaves out rows without a lane: with these it cost claim and completion of
        # other types a fifth, since its entries are all equal.
        Index(
            "fang_tasks_running",
            *("task_type", "lane"),
            postgresql_where=text("lane IS NOT NULL AND state = 'in_progress'"),
        ),
        # Uniqueness among tasks that no pool has claimed yet.
        Index(
            "fang_tasks_uniq_waiting",
            "uniq_waiting",
            unique=True,
            postgresql_where=text(f"uniq_waiting IS NOT NULL AND attempt = 0 AND NOT ({terminal})"),
        ),
        # For pools that claim retries first. A range, of which the index of due rows does not know that it holds it.
        Index(
            "fang_tasks_retried",
            *("task_type", "priority", "scheduled_at", "id"),
            postgresql_where=text("state >= 'retried' AND state <= 'retried'"),
        ),
        # For people who look at the failures of a kind: no other index has the kind. Rows that end well never enter it.
        # Of kinds the beginning, as an index cannot hold a long text.
        Index(
            "fang_tasks_failed_kinds",
            text('"left"(kind, 200)'),
            "updated_at",
            postgresql_where=text("state = 'failed'"),
        ),
    )


def _pools(metadata: MetaData) -> Table:
    pools = Table(
        "fang_pools",
        metadata,
        Column("id", UUID(as_uuid=True), primary_key=True),
        Column("mode", Text, nullable=False),
        Column("host", Text, nullable=False),
        Column("pid", Integer, nullable=False),
        Column("task_types", ARRAY(Text), nullable=False),
        Column("kinds", ARRAY(Text), nullable=False),
        Column("workers", Integer, nullable=False),
        Column("started_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
        Column("beats", BigInteger, nullable=False, server_default=text("0")),
        Column("locks", Boolean, nullable=False, server_default=text("false")),
        Column("waiting", Boolean, nullable=False, server_default=text("false")),
        Column("stopping", Boolean, nullable=False, server_default=text("false")),
        # Other pools judge it by this.
        Column("lease", Interval, nullable=False, server_default=text("'60 s'")),
        Column("max_crashes", Integer, nullable=False, server_default=text("3")),
        # Its notable runs, as of its last beat.
        Column("runs", JSONB),
        # The kinds whose suspects it runs in processes of their own.
        Column("isolated_kinds", ARRAY(Text), nullable=False, server_default=text("'{}'")),
    )
    # Heartbeats change no indexed column; half-empty pages keep them on their page.
    return _filled(pools, 50)


def _filled(table: Table, percent: int) -> Table:
    """Sets how full inserts make the table's pages. Only SQLAlchemy 2.1 has an option."""
    event.listen(table, "after_create", DDL(f"ALTER TABLE %(fullname)s SET (fillfactor = {percent})"))  # type: ignore[no-untyped-call]
    return table


def _schedules(metadata: MetaData) -> Table:
    moment = DateTime(timezone=True)
    return Table(
        "fang_schedules",
        metadata,
        Column("name", Text, primary_key=True),
        Column("last_tick", moment, nullable=False),
        # What it inserts, and when; null for the schedule of a class that was not changed.
        Column("kind", Text),
        Column("metadata", JSONB),
        Column("options", JSONB),
        Column("cron", Text),
        Column("every", Interval),
        Column("at", moment),
        Column("tz", Text),
        Column("overlap", Text, nullable=False, server_default="allow"),
        Column("missed", Text, nullable=False, server_default="latest"),
        Column("missed_within", Interval),
        Column("jitter", Interval),
        Column("until", moment),
        Column("anchor", moment),
        Column("pause_on_failure", Boolean, nullable=False, server_default=text("false")),
        *_pause(),
        Column("task_type", Text),
        Column("last_task_id", UUID(as_uuid=True)),
        # What the class says, while what a person has changed is in the columns above.
        Column("declared", JSONB),
        Column("changed_at", moment),
        Column("changed_by", Text),
        Column("change_reason", Text),
    )


def _pause() -> list[Column[Any]]:
    """Returns the columns that say whether something is paused, until when, since when, by whom and why."""
    return [
        Column("paused", Boolean, nullable=False, server_default=text("false")),
        Column("paused_until", DateTime(timezone=True)),
        Column("paused_at", DateTime(timezone=True)),
        Column("paused_by", Text),
        Column("pause_reason", Text),
    ]


def _types(metadata: MetaData) -> Table:
    """Returns the table of managed task types. It is apart from ``fang_turns``, whose many dead rows every claim of
    other types would otherwise read."""
    moment = DateTime(timezone=True)
    return Table(
        "fang_types",
        metadata,
        Column("task_type", Text, primary_key=True),
        *_pause(),
        Column("settling_until", moment),
        # What holds: the strictest of what pools have declared, or else what a person has changed.
        Column("max_running", Integer),
        Column("max_running_per_key", Integer),
        Column("rate_interval", Interval),
        Column("rate_burst", Integer),
        Column("key_rate_interval", Interval),
        Column("key_rate_burst", Integer),
        Column("fair", Boolean, nullable=False, server_default=text("false")),
        Column("weights", JSONB),
        Column("declared", JSONB, nullable=False, server_default=text("'{}'")),
        Column("changed", JSONB),
        Column("changed_at", moment),
        Column("changed_by", Text),
        Column("change_reason", Text),
        CheckConstraint(
            "coalesce(max_running, 0) >= 0 AND coalesce(max_running_per_key, 1) >= 1",
            name="fang_types_limits_in_range",
        ),
        CheckConstraint(
            "(rate_interval IS NULL) = (rate_burst IS NULL)"
            " AND (key_rate_interval IS NULL) = (key_rate_burst IS NULL)"
            " AND coalesce(rate_interval, '1 s') > '0' AND coalesce(rate_burst, 1) >= 1"
            " AND coalesce(key_rate_interval, '1 s') > '0' AND coalesce(key_rate_burst, 1) >= 1",
            name="fang_types_rates_in_range",
        ),
    )


def _of_type(schema: str) -> ForeignKey:
    return ForeignKey(f"{schema}.fang_types.task_type", ondelete="CASCADE")


def _turns(metadata: MetaData, schema: str) -> Table:
    turns = Table(
        "fang_turns",
        metadata,
        Column("task_type", Text, _of_type(schema), primary_key=True),
        Column("tat", DateTime(timezone=True), nullable=False, server_default=text("'-infinity'")),
    )
    # Each claim of a type that has a rate updates its row: almost empty pages keep its versions on one page.
    return _filled(turns, 10)


def _lanes(metadata: MetaData, schema: str) -> Table:
    lanes = Table(
        "fang_lanes",
        metadata,
        Column("task_type", Text, _of_type(schema), primary_key=True),
        Column("lane", Text(collation="C"), primary_key=True),
        Column("tat", DateTime(timezone=True), nullable=False),
    )
    return _filled(lanes, 50)


def _uniques(metadata: MetaData) -> Table:
    return Table(
        "fang_uniques",
        metadata,
        Column("hash", Text, primary_key=True),
        Column("task_id", UUID(as_uuid=True), nullable=False),
        Column("inserted_at", DateTime(timezone=True), nullable=False),
        Column("until", DateTime(timezone=True), nullable=False),
        Index("fang_uniques_task", "task_id"),
        Index("fang_uniques_until", "until"),
    )


def _messages(metadata: MetaData) -> Table:
    return Table(
        "fang_messages",
        metadata,
        Column("id", BigInteger, Identity(always=True), primary_key=True),
        Column("pool_id", UUID(as_uuid=True), nullable=False),
        Column("sent_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
        Column("sender", Text),
        Column("kind", Text, nullable=False),
        Column("body", JSONB, nullable=False, server_default=text("'{}'")),
        Index("fang_messages_pool", "pool_id"),
    )


def _stats(metadata: MetaData) -> Table:
    """Returns the table of history. Each of its rows is overwritten for a minute or an hour, by its writer alone."""
    seconds: Double[float] = Double(53)
    stats = Table(
        "fang_stats",
        metadata,
        Column("span", SmallInteger, primary_key=True, autoincrement=False, server_default=text("60")),
        Column("at", DateTime(timezone=True), primary_key=True),
        Column("writer", UUID(as_uuid=True), primary_key=True),
        Column("task_type", Text, primary_key=True),
        Column("kind", Text, primary_key=True),
        *(Column(name, BigInteger, nullable=False) for name in COUNTERS),
        *(Column(name, seconds, nullable=False) for name in SUMS),
        # Histograms: an array's own subscripts are the buckets, such as '[17:19]={3,40,91}'.
        *(Column(name, ARRAY(Integer), nullable=False) for name in HISTOGRAMS),
        comment=COMMENT,
    )
    return _filled(stats, 70)


def _live(metadata: MetaData) -> Table:
    """Returns the table of what pools do now. It is apart from ``fang_pools``, whose rows every pool reads."""
    live = Table(
        "fang_live",
        metadata,
        Column("pool_id", UUID(as_uuid=True), primary_key=True),
        Column("at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
        Column("busy", Integer, nullable=False, server_default=text("0")),
        Column("waiting", Integer, nullable=False, server_default=text("0")),
        Column("runs", JSONB, nullable=False, server_default=text("'[]'")),
    )
    # Overwritten once a second; half-empty pages keep the versions of a row on its page.
    return _filled(live, 50)


def _audit(metadata: MetaData) -> Table:
    return Table(
        "fang_audit",
        metadata,
        Column("id", BigInteger, Identity(always=True), primary_key=True),
        Column("at", DateTime(timezone=True), nullable=False, server_default=text("clock_timestamp()")),
        Column("who", Text, nullable=False),
        Column("action", Text, nullable=False),
        Column("target", Text, nullable=False),
        Column("details", JSONB),
        Column("result", Text),
        Index("fang_audit_at", "at"),
    )


def _scaling(schema: str) -> TableClause:
    return table(
        "fang_scaling",
        column("task_type", Text),
        column("due", Integer),
        column("oldest_due_seconds", Double(53)),
        column("running", Integer),
        column("workers", Integer),
        column("paused", Boolean),
        schema=schema,
    )
