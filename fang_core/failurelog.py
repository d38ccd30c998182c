"""Writes the log lines about one task: its run failed or was lost, or its pool died.

They say enough to find the fault, and nothing of the payload. The error's own text may quote the payload, so it is only
in the row (``error_message`` and ``errors``), unless a pool is asked to log tracebacks.

Each record has the facts of its line as attributes, for logs in JSON: ``task_id``, ``kind``, ``task_type``, ``run``
(the number in the line), and ``seconds`` for a run that ended. An attribute that is not known is missing.
"""

import logging

from fang_core.backends.pools import Rescued
from fang_core.failure import origin
from fang_core.lifecycle import Crashed, Failure, Outcome
from fang_core.logs import SafeLogger
from fang_core.record import ClaimedTask, TaskState


def about(task: ClaimedTask) -> dict[str, object]:
    """Returns the ``extra`` of a log line about this task."""
    return {"task_id": str(task.id), "kind": task.kind, "task_type": task.task_type, "run": run_number(task)}


def run_number(task: ClaimedTask) -> int:
    """Returns the number of this run among those that were charged: ``attempt`` also counts claims that never ran."""
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
    """Logs a failed run in one line: a warning if the task runs again, an error if this run was its last."""
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


def log_expired(logger: SafeLogger, task: ClaimedTask) -> None:
    """Logs a task that is cancelled without a run, since it has expired."""
    logger.info("task %s (%s) has expired, and is cancelled without a run", task.id, task.kind, extra=about(task))


def log_crash(logger: SafeLogger, task: ClaimedTask, crashed: Crashed, outcome: Outcome, *, seconds: float) -> None:
    """Logs a run under which its child process died: a warning if the task runs again, an error if it is parked."""
    runs_again = outcome.state is TaskState.RETRIED
    logger.log(
        logging.WARNING if runs_again else logging.ERROR,
        "task %s (%s): the child process of run %d died (%s); crashes charged to it so far: %d; %s",
        task.id,
        task.kind,
        run_number(task),
        crashed.cause,
        task.crashes + 1,
        "it runs again" if runs_again else "it has failed for good",
        extra={**about(task), "seconds": seconds},
    )


def log_cancelled(logger: SafeLogger, task: ClaimedTask) -> None:
    """Logs a task that was cancelled before its run began. The reason, which may say anything, is only in the row."""
    logger.info("task %s (%s) was cancelled, and is not run", task.id, task.kind, extra=about(task))


def log_lost(logger: SafeLogger, outcome: Outcome, task: ClaimedTask | None) -> None:
    """Logs an outcome that the fence refused; ``task`` is None if the pool no longer knows it."""
    extra = {"task_id": str(outcome.id)} if task is None else about(task)
    logger.warning("task %s was lost: this pool no longer holds it", outcome.id, extra=extra)


def log_unstorable(logger: SafeLogger, outcome: Outcome, task: ClaimedTask | None) -> None:
    """Logs an outcome whose content the backend refused; ``task`` is None if the pool no longer knows it."""
    extra = {"task_id": str(outcome.id)} if task is None else about(task)
    logger.error("task %s: its outcome could not be stored; it was failed instead", outcome.id, extra=extra)


def log_rescue(logger: SafeLogger, rescued: Rescued) -> None:
    """Logs a task that a dead pool held, in one line that says whether the task is charged with that death.

    It is a warning if the task runs again, an error if it is parked.
    """
    if rescued.charged:
        charge = "its pool crashed"
    elif rescued.was_stopping:
        charge = "its pool was stopping, so nothing is charged"
    else:
        charge = "its pool crashed with other tasks too, so nothing is charged"
    logger.log(
        logging.ERROR if rescued.state is TaskState.FAILED else logging.WARNING,
        "task %s (%s) was held by a dead pool and is %s now; %s; crashes charged to it so far: %d",
        rescued.id,
        rescued.kind,
        rescued.state,
        charge,
        rescued.crashes,
        extra={"task_id": str(rescued.id), "kind": rescued.kind},
    )
