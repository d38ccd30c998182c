"""Triggers, in tests only, that record every change of a task's state and of a pool's row, in the order of locks.

The record is made by the database in the transaction of the change itself: what was rolled back is not in it.
"""

import time
from pathlib import Path
from typing import Any, Final, NamedTuple
from uuid import UUID

import psycopg

BY_HAND: Final = "by hand"
"""The application_name of connections on which tests play the person who changes rows."""

_INSTALL: Final = """
CREATE SCHEMA audit;
CREATE SEQUENCE audit.places;
CREATE TABLE audit.tasks (
    place bigint NOT NULL DEFAULT nextval('audit.places'), at timestamptz NOT NULL DEFAULT clock_timestamp(),
    transaction xid8 NOT NULL DEFAULT pg_current_xact_id(),
    by_hand boolean NOT NULL DEFAULT current_setting('application_name') = 'by hand',
    task_id uuid NOT NULL, was text, became text, attempt bigint, pool_id uuid,
    retries int, crashes int, max_retries int, new_retries int, new_crashes int,
    kind text, due timestamptz, task_type text, lane text, began timestamptz NOT NULL DEFAULT now());
CREATE TABLE audit.pools (
    place bigint NOT NULL DEFAULT nextval('audit.places'), at timestamptz NOT NULL DEFAULT clock_timestamp(),
    transaction xid8 NOT NULL DEFAULT pg_current_xact_id(),
    pool_id uuid NOT NULL, pid int NOT NULL, event text NOT NULL);

CREATE FUNCTION audit.of_task() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND OLD.state = NEW.state AND OLD.attempt = NEW.attempt THEN
        RETURN NULL;
    END IF;
    INSERT INTO audit.tasks
        (task_id, was, became, attempt, pool_id, retries, crashes, max_retries, new_retries, new_crashes,
         kind, due, task_type, lane)
    VALUES (coalesce(NEW.id, OLD.id), OLD.state, NEW.state,
        CASE WHEN NEW.state = 'in_progress' THEN NEW.attempt ELSE OLD.attempt END,
        CASE WHEN NEW.state = 'in_progress' THEN NEW.pool_id ELSE OLD.pool_id END,
        OLD.retries, OLD.crashes, coalesce(NEW.max_retries, OLD.max_retries, 20), NEW.retries, NEW.crashes,
        coalesce(NEW.kind, OLD.kind), coalesce(NEW.scheduled_at, OLD.scheduled_at),
        coalesce(NEW.task_type, OLD.task_type), coalesce(NEW.lane, OLD.lane));
    RETURN NULL;
END $$;
CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON fang.fang_tasks
    FOR EACH ROW EXECUTE FUNCTION audit.of_task();

CREATE FUNCTION audit.of_pool() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO audit.pools (pool_id, pid, event) VALUES (NEW.id, NEW.pid, 'registered');
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO audit.pools (pool_id, pid, event) VALUES (OLD.id, OLD.pid, 'gone');
    ELSIF NEW.stopping AND NOT OLD.stopping THEN
        INSERT INTO audit.pools (pool_id, pid, event) VALUES (NEW.id, NEW.pid, 'stopping');
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON fang.fang_pools
    FOR EACH ROW EXECUTE FUNCTION audit.of_pool();
"""


class Change(NamedTuple):
    """A task's row was inserted (``was`` is None), removed (``became`` is None), or changed its state.

    ``attempt`` and ``pool`` are those of the claim that this is, or that this ends. Counters are as before and after;
    a removed row has no ``new_`` ones. ``at`` is seconds on this machine's monotonic clock.
    """

    place: int
    at: float
    transaction: int
    by_hand: bool
    task: UUID
    was: str | None
    became: str | None
    attempt: int | None
    pool: UUID | None
    retries: int | None
    crashes: int | None
    max_retries: int
    new_retries: int | None
    new_crashes: int | None


class PoolChange(NamedTuple):
    """A pool's row: ``registered``, ``stopping`` or ``gone``."""

    place: int
    at: float
    transaction: int
    pool: UUID
    pid: int
    event: str


def use_steady_clock(url: str) -> None:
    """Has the record go by the machine's clock, where that of the server is wrong; for superusers."""
    booted = time.time() - float(Path("/proc/uptime").read_text().split()[0])
    now = f"to_timestamp({booted} + split_part(pg_read_file('/proc/uptime'), ' ', 1)::float8)"
    with psycopg.connect(url) as connection:
        for table in ("tasks", "pools"):
            connection.execute(f"ALTER TABLE audit.{table} ALTER at SET DEFAULT {now}".encode())


class Step(NamedTuple):
    """A task of a type began (``delta`` 1) or ceased (-1) to be in progress; times are seconds of the database's clock.

    ``began`` is when the transaction did: the snapshot of a claim, a statement of its own, is not older. The places of
    claims are taken behind the locks by which they count, and those of what they count before.
    """

    place: int
    at: float
    began: float
    task_type: str
    lane: str | None
    delta: int


def install(url: str) -> None:
    """On a database with the tables."""
    with psycopg.connect(url) as connection:
        connection.execute(_INSTALL.encode())


def read(url: str) -> tuple[list[Change], list[PoolChange]]:
    """The whole record, in the order in which things happened to each row."""
    offset = time.time() - time.monotonic()
    with psycopg.connect(url) as connection:
        changes = _rows(
            connection,
            Change,
            "tasks",
            "by_hand, task_id, was, became, attempt, pool_id, retries, crashes, max_retries, new_retries, new_crashes",
            offset,
        )
        pools = _rows(connection, PoolChange, "pools", "pool_id, pid, event", offset)
    return changes, pools


def read_steps(url: str) -> list[Step]:
    """What began and ceased to be in progress, in the order in which claims can have counted it."""
    query = """
        SELECT place, extract(epoch FROM at)::float8, extract(epoch FROM began)::float8, task_type, lane,
            CASE became WHEN 'in_progress' THEN 1 ELSE -1 END
        FROM audit.tasks
        WHERE (was = 'in_progress') IS DISTINCT FROM (became = 'in_progress')
            AND 'in_progress' IN (was, became)
        ORDER BY place"""
    with psycopg.connect(url) as connection:
        return [Step._make(row) for row in connection.execute(query.encode())]


def _rows(connection: psycopg.Connection[Any], shape: Any, table: str, columns: str, offset: float) -> list[Any]:
    query = (
        f"SELECT place, extract(epoch FROM at)::float8 - %s, transaction::text::bigint, {columns}"
        f" FROM audit.{table} ORDER BY place"
    )
    return [shape._make(row) for row in connection.execute(query.encode(), (offset,))]
