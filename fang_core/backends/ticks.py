"""Defines a tick of a schedule, and what a pool reads of schedules."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from fang_core.schedules.stored import ScheduleInfo
from fang_core.tasks.insertion import NewTask


class ScheduleState(NamedTuple):
    """Holds what a pool reads of schedules.

    Attributes:
        now: the backend's clock.
        last_ticks: the last ticks of the schedules that were named. Ask again for a name that is missing.
        changed: the schedules of the pool's task types that live in the backend, and those that were named and that a
            person has changed or paused; None if all of these are as the caller knows them.
        version: stands for ``changed``.
    """

    now: datetime
    last_ticks: Mapping[str, datetime]
    changed: Sequence[ScheduleInfo] | None = ()
    version: str = ""


class Tick(NamedTuple):
    """Describes one tick of the schedule ``name``, and the task to insert for it.

    Attributes:
        at: the time of the tick, by which it is known.
        row: the task, with the id that this tick's task has.
        due: when the task is due, if not at the tick.
        changed_at: ``ScheduleInfo.changed_at`` as the pool has read it.
    """

    name: str
    at: datetime
    row: NewTask
    due: datetime | None = None
    changed_at: datetime | None = None
