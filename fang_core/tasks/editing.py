"""Makes what a change of a waiting task's payload and options writes: everything is checked before it is sent."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple, Unpack
from uuid import UUID

from fang_core.errors import TwinExists, UsageError
from fang_core.lifecycle import DUE_STATES
from fang_core.record import Task
from fang_core.tasks.insertion import NewTask, Overrides, Rules
from fang_core.tasks.options import COLUMNS, InsertOptions
from fang_core.tasks.payloads import codec
from fang_core.tasks.runnable import BaseRunnable


class Edit(NamedTuple):
    """Says what to write into the row of a waiting task, if the row has not changed since ``task`` was read.

    Attributes:
        task: the task as it was read.
        row: the new task, as an insert would write it; of it the payload and the lane count.
        options: the options to change, in the columns of the same names.
        scheduled_at, delay: when it is due; if both are None, that does not change.
        expires: when it expires; None if that does not change.
        compared: the hash that the task gets if it is a unique one.
    """

    task: Task
    row: NewTask
    options: Mapping[str, Any]
    scheduled_at: datetime | None
    delay: timedelta | None
    expires: timedelta | datetime | None
    compared: str


def edit(task: Task, new_task: BaseRunnable, rules: Rules, /, **options: Unpack[InsertOptions]) -> Edit:
    """Returns the change that gives a waiting task the fields of another one, and these options.

    Raises ``UsageError`` if the task does not wait, or the other one is of another kind or cannot be inserted.
    """
    if not isinstance(task, Task):
        raise UsageError(f"give the Task that was read, not {type(task).__name__}")
    kind = codec.insertable_kind(new_task)
    if task.kind not in new_task.__fang_options__.kinds:
        raise UsageError(f"a task of kind {task.kind!r:.80} cannot become one of kind {kind!r:.80}")
    if task.state not in DUE_STATES:
        raise UsageError(f"a task that is {task.state} cannot be changed, only one that waits")
    if options.get("uniq") is not None:
        raise UsageError("uniq cannot be changed: remove the task, and insert another one")
    overrides = Overrides(None, **options)
    row = overrides.new_task(new_task, rules)
    given = {name: row.options[place] for place, name in enumerate(COLUMNS) if options.get(name) is not None}
    if "headers" in given:
        given["headers"] = options["headers"] or None
    expires = row.expires if options.get("expires") is not None else None
    compared = rules.hash_of_unique(new_task)
    return Edit(task, row, given, overrides.scheduled_at, overrides.delay, expires, compared)


def edit_meets_twin(task_id: UUID) -> TwinExists:
    """Returns the error for a unique task that cannot be changed."""
    return TwinExists(f"task {task_id} cannot be changed so: an equal unique task is waiting or running")
