"""Makes the tasks of schedules that live in the database, from what their rows hold."""

import difflib
import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from fang_core.backends.ticks import Tick
from fang_core.errors import UnknownSchedule, UsageError
from fang_core.schedules.stored import ScheduleInfo, jitter_of
from fang_core.tasks.cancelling import Cancellation
from fang_core.tasks.insertion import NewTask, Overrides, Rules, expires_at
from fang_core.tasks.registry import REGISTRY
from fang_core.tasks.runnable import BaseRunnable
from fang_core.tasks.stored import stored_row

PAUSER: Final = "fang"
"""Who pauses a schedule because of a failure."""


def replaced(name: str) -> Cancellation:
    """Returns why and by whom ``cancel_running`` cancels a task."""
    return Cancellation("its schedule has ticked again", f"schedule {name}")


def unknown_schedule(name: str, names: Iterable[str] = ()) -> UnknownSchedule:
    """Returns the error for a schedule that is not listed; ``names`` are those that are."""
    near = difflib.get_close_matches(name, names, n=3)
    meant = f"did you mean {' or '.join(map(repr, near))}?" if near else "fang schedules list shows which there are"
    return UnknownSchedule(f"there is no schedule {name!r:.100}: {meant}")


def stored_tick(info: ScheduleInfo, at: datetime) -> Tick:
    """Returns a tick of a schedule in the database. Raises ``UsageError``."""
    row = stored_row(info, tick_id(info.name, at))
    return Tick(info.name, at, row, due_at(info, at), info.changed_at)


def due_at(info: ScheduleInfo, at: datetime) -> datetime:
    """Returns when the task of a tick is due."""
    return at + jitter_of(info.name, at, info.jitter)


def is_listed(info: ScheduleInfo) -> bool:
    """Returns whether it is shown: schedules of classes that no pool has declared are not."""
    return info.is_stored or info.declared is not None or info.paused


def row_of_past(info: ScheduleInfo, at: datetime, now: datetime, rules: Rules) -> NewTask:
    """Returns the task of a tick that is made up for, of whatever schedule. Raises ``UsageError``.

    If it expires, that is counted from now: by the time of its tick it might have expired before it is inserted.
    """
    row = stored_row(info, tick_id(info.name, at)) if info.is_stored else _row_of_class(info, rules)
    expires = None if row.expires is None else expires_at(row.expires, max(now, due_at(info, at)))
    return row._replace(id=tick_id(info.name, at), expires=expires)


def row_now(info: ScheduleInfo, task_id: UUID, rules: Rules) -> NewTask:
    """Returns a task of a schedule that is of no tick. Raises ``UsageError``."""
    if info.is_stored:
        return stored_row(info, task_id)
    return _row_of_class(info, rules)._replace(id=task_id)


def _row_of_class(info: ScheduleInfo, rules: Rules) -> NewTask:
    kind = (info.declared or {}).get("kind", info.name)
    cls: type[BaseRunnable] | None = REGISTRY.get(kind)
    if cls is None:
        raise UsageError(
            f"this process does not know the class {kind!r:.100} of schedule {info.name!r:.100}: import its module; "
            "fang schedules does so with --import app.tasks, and fang web with --app app.tasks"
        )
    return Overrides().new_task(cls(), rules)


def tick_id(name: str, at: datetime) -> UUID:
    """Returns the one id of a tick, so that inserting it twice can never make two rows.

    It is a UUIDv7 (RFC 9562, 5.7) of the tick's time, whose random bits come from SHA-256 over name and time.
    """
    at = at.astimezone(UTC)
    milliseconds = (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    digest = int.from_bytes(hashlib.sha256(f"{name}\n{at.isoformat()}".encode()).digest()[:10], "big")
    low_12, low_62 = digest >> 68, digest & (1 << 62) - 1
    return UUID(int=(milliseconds & (1 << 48) - 1) << 80 | 0x7 << 76 | low_12 << 64 | 0b10 << 62 | low_62)
