"""Decides what an insert does that meets an equal unique task. Pure, for every backend."""

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from fang_core.lifecycle import DUE_STATES
from fang_core.record import Task
from fang_core.tasks.insertion import NewTask
from fang_core.tasks.options import COLUMNS


class Period(NamedTuple):
    """Says until when a task keeps equal ones out, whatever becomes of its row; ``until`` is None for no end."""

    task_id: UUID
    inserted_at: datetime
    until: datetime | None

    def lasts(self, now: datetime) -> bool:
        """Returns whether it is not over."""
        return self.until is None or self.until > now


def after_conflict(twin: Task, row: NewTask, due: datetime, now: datetime, *, is_due_given: bool) -> Task:
    """Returns the task that kept the row out, as ``on_conflict`` has it; unchanged unless it waits.

    Without a due time of its own the insert is due now, which changes nothing for a task that is due already, except
    that its time to expire counts from now. A task that has run before waits at least until its next run.
    """
    if row.on_conflict not in {"replace", "postpone"} or twin.state not in DUE_STATES:
        return twin
    asked = due
    if not is_due_given:
        due = min(due, twin.scheduled_at)
    if twin.attempt > 0:
        due = max(due, twin.scheduled_at)
    new = row.inserted(max(due, asked), now)
    postponed = twin._replace(scheduled_at=due, expires_at=new.expires_at, updated_at=now)
    if row.on_conflict == "postpone":
        return postponed
    options = {name: getattr(new, name) for name in COLUMNS}
    return postponed._replace(metadata=new.metadata, lane=new.lane, **options)
