"""Decides the result of a run that was interrupted."""

from fang_core.errors import TimedOut
from fang_core.failure import ErrorReport, describe
from fang_core.lifecycle import NOT_RUN, Cancelled, Failure, Result, result_of
from fang_core.runs.interrupt import Interrupt
from fang_core.runs.run import Run


def result_of_interrupted(run: Run, error: BaseException, module: str, *, said_nothing: bool) -> Result:
    """Returns the result of a run that raised ``error`` after it was interrupted; ``module`` is the task class's.

    ``said_nothing`` means that the error is that of the interruption. An answer of the run's own counts, but a failure
    does not when the task was cancelled: it would run again.
    """
    if said_nothing:
        return result_of_interruption(run, error, module)
    result = result_of(error, module)
    is_plain_failure = isinstance(result, Failure) and result.delay is None
    return _unless_timed_out(run) if is_plain_failure and _is_cancelled(run) else result


def result_of_interruption(run: Run, error: BaseException, module: str) -> Result:
    """Returns the result of a run that ended by its interruption; ``error`` shows where that struck."""
    if run.interrupt is Interrupt.TIME_LIMIT:
        timed_out = TimedOut(_said(run)).with_traceback(error.__traceback__)
        return Failure.by(timed_out, describe(timed_out, module))
    return _unless_timed_out(run)


def result_of_stuck(run: Run, place: str | None) -> Result:
    """Returns the result of a run that goes on though it was interrupted; ``place`` is where it stands."""
    if run.interrupt is Interrupt.TIME_LIMIT:
        message = f"{TimedOut.__name__}: {_said(run)}, and did not end when it was interrupted"
        return Failure(ErrorReport(message, None, place))
    return _unless_timed_out(run)


def _unless_timed_out(run: Run) -> Result:
    return Cancelled(run.interrupt_reason) if _is_cancelled(run) else NOT_RUN


def _is_cancelled(run: Run) -> bool:
    return run.interruption is not None and run.interruption.cancels


def _said(run: Run) -> str:
    limit = run.task.timeout
    return "the run took longer than its timeout" + (f" of {limit.total_seconds():g} s" if limit else "")
