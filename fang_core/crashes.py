"""Decides what the death of a process means for the tasks that it ran: that of a pool, or of a run's child process.

The first row of the table that applies decides. A task is a suspect if ``SUSPECT_AFTER`` crashes or more were charged
to it before; it is alone if its pool held no other task::

    the pool had said that it stops                spared: waits as it was, nothing charged
    a suspect that its pool isolates, limit > 1    spared: it ran in a child process; waits as it was, its limit halved
    a suspect that was not alone                   spared: waits as it was, and is tried in groups half as large
    charged with its last crash (``max_crashes``)  parked: failed, with the reason; a person may revive it
    charged alone, and a suspect from now on       waits for 2^crashes seconds, then runs alone
    charged                                        due again at once, together with other tasks

A suspect is tried in groups: a pool holds at most ``group_limit`` suspects at once while it holds this one. At first
that is as many as the pool has workers. At a limit of 1 the suspect runs alone. So a task that kills its pools does so
``log2(workers) + max_crashes`` times at most, and a task that does not is never parked because of one that does.

The limit is half of the workers, however few tasks the pool held: halving what it held would find a culprit among few
tasks sooner, but faults from outside would park innocent tasks as much sooner.

A suspect that runs in a child process is unlikely to kill its pool, but it can: it finds its pid, or takes so much
memory that the system ends the whole container. So its limit is halved as well, from ``MOST_GROUP`` on, with each pool
that dies while it runs in a child. It is isolated while all other tasks run as long as the limit is above 1. Then it
runs alone, in a child, and is charged if its pool dies: after ``ISOLATED_TRIES`` deaths that charged nothing. No fault
from outside hits one task so often by chance.

The death of a child process is charged to the one task that ran in it, unless the pool itself has killed it.

A pool's own record names its ``max_crashes``, and the kinds whose suspects it isolates. For a pool without a record,
the ``max_crashes`` of the pool that finds its tasks counts, and nothing was isolated. The SQL of a rescue says the same
in one statement: a test compares it, and the memory backend, with this table.
"""

from datetime import timedelta
from typing import Final, NamedTuple

from fang_core.failure import error_entry
from fang_core.record import ClaimedTask, Task, TaskState, waiting_state

SUSPECT_AFTER: Final = 2
"""From this many crashes on a task is a suspect: it is charged with the next crash only if it ran alone, or in a child
process. The first crash restricts nothing.
"""

MOST_CRASHES: Final = 2**15 - 1
"""The highest count that a row can hold; further crashes leave it there."""

MOST_DOUBLINGS: Final = 10
"""The delay of a suspect doubles with each crash, up to 2^10 seconds."""

MOST_GROUP: Final = 2**15 - 1
"""The highest limit of a group that a row can hold; it stands for a suspect that has no limit yet."""

ISOLATED_TRIES: Final = MOST_GROUP.bit_length() - 1
"""How many pools may die while a suspect runs in a child process, until it runs alone."""

CRASHED: Final = "crashed: the process of its worker died under it, {crashes} of {max_crashes} times"
"""The error message of a task that is charged with a crash."""


CHILD_DIED: Final = "crashed: the child process of its run died ({cause}), {crashes} of {max_crashes} times"
"""The error message of a task that is charged with the death of its child process."""


class AfterCrash(NamedTuple):
    """Says what a rescue writes for a task; in each case no pool holds it any more.

    Attributes:
        is_charged: whether this death counts as a crash of the task.
        crashes: the task's new count of crashes.
        state: the task's new state.
        group_limit: the task's new limit; None if it has none.
        delay: the task is due this long from now; None leaves ``scheduled_at`` as it is.
        error_message: the new message; None leaves the column as it is.
        error_entry: a JSON object for the error history; None adds nothing.
    """

    is_charged: bool
    crashes: int
    state: TaskState
    group_limit: int | None
    delay: timedelta | None = None
    error_message: str | None = None
    error_entry: str | None = None


def is_suspect(task: ClaimedTask | Task) -> bool:
    """Returns whether the task may only be tried in groups, or in a child process."""
    return task.crashes >= SUSPECT_AFTER


def group_limit(task: ClaimedTask | Task) -> int:
    """Returns the size of the largest group of suspects in which this one may be tried; 1 if it must run alone."""
    return MOST_GROUP if task.group_limit is None else max(1, task.group_limit)


def runs_apart(task: ClaimedTask | Task) -> bool:
    """Returns whether the task is a suspect that runs among all other tasks in a pool that isolates its kind."""
    return is_suspect(task) and group_limit(task) > 1


def after_crash(
    task: ClaimedTask | Task,
    *,
    was_stopping: bool,
    held: int,
    workers: int | None,
    max_crashes: int,
    is_isolated: bool = False,
) -> AfterCrash:
    """Applies the table above to a task that a dead pool held.

    Args:
        held: the number of tasks that the pool held, with this one.
        workers: the number of workers in the pool's record; None if it has no record, 0 if the record has none: then
            the number of tasks that it held stands for it.
        is_isolated: whether the pool ran suspects of this kind in child processes.
    """
    state = waiting_state(task.retries, task.crashes)
    if was_stopping:
        return AfterCrash(False, task.crashes, state, task.group_limit)
    if is_isolated and runs_apart(task):
        return AfterCrash(False, task.crashes, state, group_limit(task) // 2)
    if is_suspect(task) and held > 1:
        return AfterCrash(False, task.crashes, state, max(1, min(group_limit(task), workers or held) // 2))
    return charged(task, max_crashes, CRASHED, is_alone=held == 1, is_isolated=is_isolated)


def charged(
    task: ClaimedTask | Task,
    max_crashes: int,
    message: str,
    *,
    is_alone: bool = True,
    is_isolated: bool = False,
    **facts: str,
) -> AfterCrash:
    """Applies the rows of the table for a task that is charged; ``message`` has names of ``facts`` in braces.

    A task whose kind is isolated need not run alone, unless it had to before.
    """
    crashes = min(task.crashes + 1, MOST_CRASHES)
    message = message.format(crashes=crashes, max_crashes=max_crashes, **facts)
    entry = error_entry(task.attempt, message, None)
    state = TaskState.FAILED if crashes >= max_crashes else TaskState.RETRIED
    if is_alone and crashes >= SUSPECT_AFTER:
        limit = None if is_isolated and group_limit(task) > 1 else 1
        return AfterCrash(True, crashes, state, limit, suspects_delay(crashes), message, entry)
    return AfterCrash(True, crashes, state, None, None, message, entry)


def suspects_delay(crashes: int) -> timedelta:
    """Returns how long a task waits after it was alone when it was charged with a crash, with this many crashes now."""
    return timedelta(seconds=2 ** min(crashes, MOST_DOUBLINGS))
