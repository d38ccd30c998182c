"""The log lines of runs that failed, or whose pool died: enough to find the fault, and nothing of the payload.

The error's own text may quote the payload, so it is only in the row: ``error_message`` and ``errors``.
"""

import logging

from fang_core.failure import origin
from fang_core.lifecycle import Failure, Outcome
from fang_core.logs import SafeLogger
from fang_core.record import ClaimedTask, TaskState
from fang_core.store import Rescued


def log_failure(logger: SafeLogger, task: ClaimedTask, failure: Failure, outcome: Outcome) -> None:
    """One line for each failed run: a warning where the task runs again, an error where it was the last."""
    runs_again = outcome.state is TaskState.RETRIED
    logger.log(
        logging.WARNING if runs_again else logging.ERROR,
        "task %s (%s): attempt %d failed with %s; %s",
        task.id,
        task.kind,
        task.attempt,
        origin(failure.error),
        _what_follows(task, outcome),
    )


def _what_follows(task: ClaimedTask, outcome: Outcome) -> str:
    if outcome.completed_by_run:
        return "it counts as done if the transaction in which it was completed is committed"
    if outcome.state is not TaskState.RETRIED or outcome.delay is None:
        return "it has failed for good"
    return f"retry {task.retries + 1} of {task.max_retries} is due in {outcome.delay.total_seconds():.1f} s"


def log_rescue(logger: SafeLogger, rescued: Rescued) -> None:
    """One line for each task that a dead pool held; it says whether the task is charged with that death."""
    if rescued.charged:
        charge = "its pool crashed"
    elif rescued.was_stopping:
        charge = "its pool was stopping, so nothing is charged"
    else:
        charge = "its pool crashed before it began, so nothing is charged"
    logger.warning(
        "task %s (%s) was held by a dead pool and is %s now; %s; crashes charged to it so far: %d",
        rescued.id,
        rescued.kind,
        rescued.state,
        charge,
        rescued.crashes,
    )
