"""Reports failed runs to Sentry: each run in an isolation scope of its own, with tags, and grouped by its kind.

Needs the extra ``sentry``.
"""

import re
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from threading import Lock
from typing import Any, Final, TypeAlias
from uuid import UUID

import sentry_sdk
from sentry_sdk.scope import use_isolation_scope

from fang_core.backends.pools import Rescued
from fang_core.errors import UnreadablePayload
from fang_core.events import Events
from fang_core.failure import ErrorReport
from fang_core.lifecycle import Crashed, Failure, Result
from fang_core.record import ClaimedTask, TaskState
from fang_core.runs.run import Run

MOST_SCOPES: Final = 1_000
"""The most scopes of failed runs that are kept until the pool tells of their end; it does so at once."""

_FRAME: Final = re.compile(r'^  File "(.*)", line (\d+), in (.*)$', re.MULTILINE)
"""The first line of a frame in the traceback of a report."""

_Attempt: TypeAlias = tuple[UUID, int]


class Sentry(Events):
    """Sends the exception of each failed run, with what the run has put into Sentry's scope.

    Give one object to a pool twice: ``WorkerPool(queue, middleware=[sentry.run], events=[sentry])``. The middleware
    opens an isolation scope, so that tags and breadcrumbs of one run are not seen by another one; the hook sends. A run
    whose payload cannot be read, or that is isolated in a child process, has no scope, and is sent nevertheless.

    Args:
        retries: whether failures that lead to another run are sent too, as warnings. The last failure is an error.
    """

    def __init__(self, *, retries: bool = True) -> None:
        self._recipe = partial(type(self), retries=retries)
        self._sends_retries = retries
        self._scopes: OrderedDict[_Attempt, sentry_sdk.Scope] = OrderedDict()  # of runs that are ending by an exception
        self._changing = Lock()

    def __reduce__(self) -> tuple[Any, tuple[()]]:
        """Makes another one like it in a child process, which runs isolated tasks."""
        return self._recipe, ()

    @contextmanager
    def run(self, run: Run) -> Iterator[None]:
        """Goes around a run, as middleware: opens its scope, and keeps it for the hook if the run fails."""
        with sentry_sdk.isolation_scope() as scope:
            scope.clear_breadcrumbs()  # of the worker: statements of the pool, and the log lines of other runs
            _describe(scope, run.task)
            try:
                yield
            except BaseException:
                with self._changing:
                    self._scopes[run.task.id, run.task.attempt] = scope
                    if len(self._scopes) > MOST_SCOPES:
                        self._scopes.popitem(last=False)
                raise

    def run_ended(self, task: ClaimedTask, result: Result, seconds: float) -> None:
        """Sends the failure of a run, or the end of its child process."""
        scope = self._scope_of(task)
        if not isinstance(result, Failure | Crashed):
            return
        is_last = isinstance(result, Failure) and task.retries >= task.max_retries
        if not is_last and not self._sends_retries:
            return
        if scope is None:
            scope = sentry_sdk.get_isolation_scope().fork()
            scope.clear_breadcrumbs()
            _describe(scope, task)
        with use_isolation_scope(scope), sentry_sdk.new_scope() as sent:
            sent.set_level("error" if is_last else "warning")
            sent.fingerprint = ["{{ default }}", task.kind]
            sent.set_context("task", {**_context(task), "seconds": seconds})
            if isinstance(result, Crashed):
                sentry_sdk.capture_message(f"{task.kind}: the process of a run died: {result.cause}")
            elif result.exception is not None:
                sentry_sdk.capture_exception(result.exception)
            elif result.error.traceback and not result.error.message.startswith(UnreadablePayload.__name__):
                sentry_sdk.capture_event(_event_of(result.error))
            else:  # whose text may quote the payload
                sentry_sdk.capture_message(f"{task.kind}: {result.error.message.partition(':')[0]}")

    def task_rescued(self, pool_id: UUID, rescued: Rescued) -> None:
        """Sends that a task is given up, since its pools have died under it too often."""
        if rescued.state is not TaskState.FAILED:
            return
        with sentry_sdk.new_scope() as sent:
            sent.set_level("error")
            sent.set_tag("fang.kind", rescued.kind)
            sent.fingerprint = ["fang.crashed", rescued.kind]
            sent.set_context("task", {"id": str(rescued.id), "attempt": rescued.attempt, "crashes": rescued.crashes})
            sentry_sdk.capture_message(f"{rescued.kind}: given up, since its process has died too often")

    def _scope_of(self, task: ClaimedTask) -> sentry_sdk.Scope | None:
        if not self._scopes:
            return None
        with self._changing:
            return self._scopes.pop((task.id, task.attempt), None)


def without_doubles(event: Any, hint: Any) -> Any:
    """Drops the event that Sentry makes of the log line of a failed run, since the hook has sent its exception.

    Give it to ``sentry_sdk.init(before_send=...)``, or call it in a function of your own.
    """
    record = hint.get("log_record")
    return None if record is not None and record.name.startswith("fang_") and hasattr(record, "run") else event


def _describe(scope: sentry_sdk.Scope, task: ClaimedTask) -> None:
    scope.set_tag("fang.kind", task.kind)
    scope.set_tag("fang.task_type", task.task_type)
    scope.set_transaction_name(task.kind, source="task")
    scope.set_context("task", _context(task))


def _event_of(error: ErrorReport) -> Any:
    """Returns the event of an exception that was raised in a child process, from which only a report has come."""
    name, _, text = error.message.partition(": ")
    frames = [
        {"filename": file, "abs_path": file, "lineno": int(line), "function": function}
        for file, line, function in _FRAME.findall(error.traceback or "")
    ]
    return {"exception": {"values": [{"type": name, "value": text, "stacktrace": {"frames": frames}}]}}


def _context(task: ClaimedTask) -> dict[str, Any]:
    return {"id": str(task.id), "run": task.retries + 1, "attempt": task.attempt}
