"""The log lines that concern one task: a run that failed, was lost, or whose pool died.

They say enough to find the fault, and nothing of the payload. The error's own text may quote the payload, so it is only
in the row (``error_message`` and ``errors``), unless a pool is asked to log tracebacks.

Each record carries what its line says as attributes, for logs in JSON: ``task_id``, ``kind``, ``task_type``, ``run``
(the number that the line names), and ``seconds`` for a run that ended. An attribute that is not known is not there.
"""

import logging

from fang_core.failure import origin
from fang_core.lifecycle import Failure, Outcome
from fang_core.logs import SafeLogger
from fang_core.record import ClaimedTask, TaskState
from fang_core.store import Rescued


def about(task: ClaimedTask) -> dict[str, object]:
    """The ``extra`` of a line that concerns this task."""
    return {"task_id": str(task.id), "kind": task.kind, "task_type": task.task_type, "run": run_number(task)}


def run_number(task: ClaimedTask) -> int:
    """Counts the runs that were charged, this one included: ``attempt`` also counts claims that never ran."""
    return task.retries + 1


def log_failure(
    logger: SafeLogger,
    task: ClaimedTask,
    failure: Failure,
    outcome: Outcome,
    *,
    seconds: float,
    with_traceback: bool = False,
) -> None:
    """One line for each failed run: a warning if the task runs again, an error if it was the last."""
    runs_again = outcome.state is TaskState.RETRIED
    logger.log(
        logging.WARNING if runs_again else logging.ERROR,
        "task %s (%s): run %d failed with %s; %s",
        task.id,
        task.kind,
        run_number(task),
        origin(failure.error),
        _what_follows(task, outcome),
        extra={**about(task), "seconds": seconds},
        exc_info=failure.exception if with_traceback else None,
    )


def _what_follows(task: ClaimedTask, outcome: Outcome) -> str:
    if outcome.completed_by_run:
        return "it counts as done if the transaction in which it was completed is committed"
    if outcome.state is not TaskState.RETRIED or outcome.delay is None:
        return "it has failed for good"
    return f"retry {task.retries + 1} of {task.max_retries} is due in {outcome.delay.total_seconds():.1f} s"


def log_lost(logger: SafeLogger, outcome: Outcome, task: ClaimedTask | None) -> None:
    """One line for an outcome that the fence refused; ``task`` is None if the pool no longer knows it."""
    extra = {"task_id": str(outcome.id)} if task is None else about(task)
    logger.warning("task %s was lost: this pool no longer holds it", outcome.id, extra=extra)


def log_unstorable(logger: SafeLogger, outcome: Outcome, task: ClaimedTask | None) -> None:
    """One line for an outcome that the backend refused for what it holds."""
    extra = {"task_id": str(outcome.id)} if task is None else about(task)
    logger.error("task %s: its outcome could not be stored; it was failed instead", outcome.id, extra=extra)


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
        extra={"task_id": str(rescued.id), "kind": rescued.kind},
    )
