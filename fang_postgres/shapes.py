"""Says what the statements and those who use them agree on, for those who need no SQLAlchemy."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from fang_core.tasks.selecting.walks import Walk
from fang_postgres.names import TASK_COLUMNS

# Notifications --------------------------------------------------------------------------------------------------------

TOLD: Final = "!"
"""Comes before a pool's id in a notification that has the pool's heart beat."""

# Inserts and outcomes -------------------------------------------------------------------------------------------------

TEXTS: Final = frozenset({"task_type"})
"""The stored options that are texts."""

_MADE: Final = frozenset({"kind", "updated_at", "pool_id", "claimed_at"})
"""What a task that is put has not from its former row."""

PUT: Final = (*(name for name in TASK_COLUMNS if name not in _MADE), "uniq_waiting")
"""The columns of a task that is put."""

STALE_RUN: Final = "fang: this run no longer holds its task; rows"
"""The start of the error that ends a stale run's transaction."""

FORGETS_CRASHES: Final = 1
ANSWERS_CANCEL: Final = 2
CHARGES_CRASH: Final = 4
"""The bits of ``p_flags``, for the fields of ``Outcome`` with these names."""

# Lists ----------------------------------------------------------------------------------------------------------------

MOST_HELD: Final = 20_000
"""The most tasks in progress that are looked at: they must all be, as no index has their order."""

HEAD: Final = ("lane", "looked", "hits", "is_last", "is_hit", "at")
"""The first columns of a walk: the lane, how many of its tasks were looked at and how many of these match, and of the
row itself whether it is the last one looked at, whether it matches, and its time in the order of the walk."""

KEYS: Final = {
    Walk.WAITING: ("task_type", "priority", "scheduled_at", "id"),
    Walk.RETRIED: ("task_type", "priority", "scheduled_at", "id"),
    Walk.HELD: ("claimed_at", "id"),
    Walk.ENDED: ("updated_at", "id"),
    Walk.INSERTED: ("id",),
    Walk.IDS: ("id",),
}
"""The columns of each walk's key, which come after ``HEAD``."""

# Texts ----------------------------------------------------------------------------------------------------------------


def as_text(value: Any) -> str | None:
    """Returns a parameter as text that Postgres reads, whatever the session's settings are.

    Raises ``OverflowError`` for a time that is outside of Python's years in UTC.
    """
    match value:
        case None:
            return None
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case datetime():
            return value.astimezone(UTC).isoformat()
        case timedelta():
            # Each part with its sign: IntervalStyle sql_standard would give them all that of the first. In hours: a day
            # would be one of the session's TimeZone, which has 23 or 25 hours when clocks are moved.
            hours, seconds = value.days * 24 + value.seconds // 3600, value.seconds % 3600
            return f"{hours:+d} hours {seconds:+d} secs {value.microseconds:+d} microseconds"
        case list() | tuple():
            # Not as Postgres writes arrays, in which NULL is a text if array_nulls is off; see _list_of.
            return json.dumps([as_text(each) for each in value], ensure_ascii=False)
    return str(value)
