"""The tables, as SQLAlchemy sees them. They stand in a Postgres schema of their own, ``fang`` unless told otherwise.

``fang_tasks`` keeps the ten columns, types, defaults and state names of Rust's Fang 0.11, so that a program written in
Rust can insert into it; the rest has defaults. The migrations make what stands here; a test compares the two.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from sqlalchemy import (
    DDL,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Computed,
    DateTime,
    Index,
    Integer,
    Interval,
    MetaData,
    SmallInteger,
    Table,
    Text,
    event,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, ENUM, JSONB, UUID

from fang_core.errors import UsageError
from fang_core.record import TaskState

HEAD: Final = "0002"
"""The revision that this version of the library works with."""

VERSION_TABLE: Final = "fang_alembic_version"
DEFAULT_SCHEMA: Final = "fang"
EARLIEST: Final = "'0001-01-03 00:00:00+00'::timestamptz"
LATEST: Final = "'9999-12-29 00:00:00+00'::timestamptz"


@dataclass(frozen=True, slots=True)
class Tables:
    """The tables of one schema name."""

    schema: str
    metadata: MetaData
    tasks: Table
    pools: Table
    schedules: Table


def checked_schema(name: str) -> str:
    """A schema name that needs no thought anywhere: raises ``UsageError`` for others."""
    if not re.fullmatch(r"[a-z_][a-z0-9_]{0,62}", name) or name.startswith("pg_"):
        raise UsageError(f"schema {name!r:.80}: use lower-case letters, digits and underscores, 63 at most, no pg_")
    return name


@lru_cache(maxsize=64)
def tables(schema: str = DEFAULT_SCHEMA) -> Tables:
    """The tables under this schema name. Raises ``UsageError`` for a name that is not plain."""
    checked_schema(schema)
    metadata = MetaData(schema=schema)
    return Tables(schema, metadata, _tasks(metadata, schema), _pools(metadata), _schedules(metadata))


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
        CheckConstraint(
            "jsonb_typeof(metadata) = 'object' AND coalesce(jsonb_typeof(metadata -> 'type') = 'string', false)",
            name="fang_tasks_metadata_is_a_task",
        ),
        CheckConstraint(
            # What Python's datetime can hold in any zone; infinities are outside.
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
        # The claim's: due rows of a task type, level by level, in order of time.
        Index("fang_tasks_due", "task_type", "priority", "scheduled_at", "id", postgresql_where=due),
        # Uniqueness, decided by the database, among tasks whose life has not ended.
        Index(
            "fang_tasks_uniq",
            "uniq_hash",
            unique=True,
            postgresql_where=text(f"uniq_hash IS NOT NULL AND NOT ({terminal})"),
        ),
        # What a pool holds.
        Index("fang_tasks_held", "pool_id", postgresql_where=text("state = 'in_progress'")),
        # The pruner's: what ended, type by type, in order of time.
        Index("fang_tasks_ended", "state", "task_type", "updated_at", postgresql_where=text(terminal)),
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
        # What others judge it by.
        Column("lease", Interval, nullable=False, server_default=text("'60 s'")),
        Column("max_crashes", Integer, nullable=False, server_default=text("3")),
    )
    # Heartbeats change no indexed column; half-empty pages keep them on their page. (Only SQLAlchemy 2.1 has a word.)
    event.listen(pools, "after_create", DDL("ALTER TABLE %(fullname)s SET (fillfactor = 50)"))  # type: ignore[no-untyped-call]
    return pools


def _schedules(metadata: MetaData) -> Table:
    return Table(
        "fang_schedules",
        metadata,
        Column("name", Text, primary_key=True),
        Column("last_tick", DateTime(timezone=True), nullable=False),
    )
