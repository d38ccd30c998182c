"""Triggers, in tests only, that record every change of a task's state and of a pool's row in a SQLite file.

The record is made in the transaction of the change itself: what was rolled back is not in it. One transaction after the
other writes, so that the places are in the order of the commits. SQLite numbers no transactions: the place of a change
stands for its transaction, and a rescue is known by this, that it removes the pool's row right behind its last task.
"""

import sqlite3
import time
from typing import Any, Final
from uuid import UUID

from tests.faults.audit import Change, PoolChange

_NOW: Final = "(julianday('now') - 2440587.5) * 86400.0"

_OF_POOLS: Final = f"""
CREATE TRIGGER audit_pools_{{name}} AFTER {{event}} ON fang_pools {{when}} BEGIN
  INSERT INTO audit_places (at) VALUES ({_NOW});
  INSERT INTO audit_pools VALUES (last_insert_rowid(), {_NOW}, {{row}}.id, {{row}}.pid, '{{name}}');
END;
"""

_OF_TASKS: Final = f"""
CREATE TRIGGER audit_tasks_{{name}} AFTER {{name}} ON fang_tasks {{when}} BEGIN
  INSERT INTO audit_places (at) VALUES ({_NOW});
  INSERT INTO audit_tasks VALUES (last_insert_rowid(), {_NOW}, (SELECT is_at_work FROM audit_hand), {{values}});
END;
"""

_INSTALL: Final = "".join(
    (
        "CREATE TABLE audit_places (place INTEGER PRIMARY KEY AUTOINCREMENT, at REAL);",
        "CREATE TABLE audit_hand (is_at_work INTEGER); INSERT INTO audit_hand VALUES (0);",
        "CREATE TABLE audit_tasks (place INTEGER PRIMARY KEY, at REAL, by_hand INTEGER, task_id BLOB, was TEXT,"
        " became TEXT, attempt INTEGER, pool_id BLOB, retries INTEGER, crashes INTEGER, max_retries INTEGER,"
        " new_retries INTEGER, new_crashes INTEGER);",
        "CREATE TABLE audit_pools (place INTEGER PRIMARY KEY, at REAL, pool_id BLOB, pid INTEGER, event TEXT);",
        _OF_TASKS.format(
            name="INSERT",
            when="",
            values="new.id, NULL, new.state, new.attempt, new.pool_id, NULL, NULL, coalesce(new.max_retries, 20),"
            " new.retries, new.crashes",
        ),
        _OF_TASKS.format(
            name="UPDATE",
            when="WHEN old.state <> new.state OR old.attempt <> new.attempt",
            values="new.id, old.state, new.state, iif(new.state = 'in_progress', new.attempt, old.attempt),"
            " iif(new.state = 'in_progress', new.pool_id, old.pool_id), old.retries, old.crashes,"
            " coalesce(new.max_retries, 20), new.retries, new.crashes",
        ),
        _OF_TASKS.format(
            name="DELETE",
            when="",
            values="old.id, old.state, NULL, old.attempt, old.pool_id, old.retries, old.crashes,"
            " coalesce(old.max_retries, 20), NULL, NULL",
        ),
        _OF_POOLS.format(name="registered", event="INSERT", when="", row="new"),
        _OF_POOLS.format(name="gone", event="DELETE", when="", row="old"),
        _OF_POOLS.format(name="stopping", event="UPDATE", when="WHEN new.stopping AND NOT old.stopping", row="new"),
    )
)


def install(connection: sqlite3.Connection) -> None:
    """On a file with the tables."""
    connection.executescript(_INSTALL)


def read(connection: sqlite3.Connection) -> tuple[list[Change], list[PoolChange]]:
    """The whole record, in the order of the commits."""
    offset = time.time() - time.monotonic()
    pools = [
        PoolChange(place, at - offset, place, UUID(bytes=pool_id), pid, event)
        for place, at, pool_id, pid, event in connection.execute("SELECT * FROM audit_pools ORDER BY place")
    ]
    changes = [_change(row, offset) for row in connection.execute("SELECT * FROM audit_tasks ORDER BY place")]
    ends = {change.place: change.pool for change in pools if change.event == "gone"}
    transaction = dict[int, int]()  # the place of a task that a rescue took -> that of the pool's end
    for change in reversed(changes):
        after = change.place + 1
        end = after if after in ends else transaction.get(after)
        if end is not None and ends[end] == change.pool and change.was == "in_progress":
            transaction[change.place] = end
    return [each._replace(transaction=transaction.get(each.place, each.place)) for each in changes], pools


def _change(row: tuple[Any, ...], offset: float) -> Change:
    place, at, by_hand, task_id, was, became, attempt, pool_id, *counts = row
    pool = None if pool_id is None else UUID(bytes=pool_id)
    return Change(place, at - offset, place, bool(by_hand), UUID(bytes=task_id), was, became, attempt, pool, *counts)
