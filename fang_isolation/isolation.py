"""Implements the pool's side of isolation: finds a child for each run, waits for the result, and judges deaths."""

import asyncio
import pickle
import threading
import time
from concurrent.futures import Future, InvalidStateError, wait
from contextlib import suppress
from math import inf
from typing import Any, Final, NamedTuple

from fang_core.config import PoolOptions
from fang_core.errors import UsageError
from fang_core.failure import ErrorReport, describe
from fang_core.lifecycle import Crashed, Failure, Result
from fang_core.runs.interrupt import INTERRUPTED
from fang_core.runs.run import Run
from fang_core.tasks.registry import Mode
from fang_core.tasks.runnable import BaseRunnable
from fang_isolation.calls import Call, Setup
from fang_isolation.fork_server import own_server
from fang_isolation.handles import handle_of
from fang_isolation.process import ChildProcess
from fang_isolation.starting import Starter

LOOK_AGAIN: Final = 1.0
"""Seconds after which it looks for itself whether a child that does not answer still lives, tells it its lease, and
reads how far the run is."""

STARTS_WITHIN: Final = 60.0
"""Seconds that a child has from its start until it has imported the class of its first run; more if the run's time
limit is longer. The limit itself counts from then on."""

TRIES: Final = 3
"""How many children are tried for a run that none of them begins."""

NOT_BEGUN: Final = Failure(
    ErrorReport("FangError: the child process of this run ended before it could begin; its stderr says why", None)
)
NOT_STARTED: Final = Failure(
    ErrorReport("FangError: the child process of this run took too long to start and to import the task's module", None)
)


class Isolation:
    """The children of one lifetime of a pool. Each runs one task at a time; they are started when they are needed.

    Args:
        queue: the queue of the pool; runs get a handle of their own.
        options: those of the pool.

    Raises ``UsageError`` if the middleware cannot be sent to a child.
    """

    def __init__(self, mode: Mode, queue: Any, options: PoolOptions) -> None:
        try:
            self._setup = pickle.dumps(Setup(mode, handle_of(queue), options.middleware))
        except Exception as error:
            raise UsageError(
                f"the pool's middleware cannot go to a child process ({type(error).__name__}): "
                "use functions that stand in a module"
            ) from error
        self._max_tasks_per_child = options.max_tasks_per_child
        self._idle: list[ChildProcess] = []
        self._starter = Starter()
        own_server().start()

    def perform(self, run: Run, cls: type[BaseRunnable]) -> Result:
        """Runs a task in a child, waits for its end, and returns the result.

        Raises ``Interrupted`` if the child was killed since the run was interrupted.
        """
        for _ in range(TRIES):
            errand = self._begin(run, cls)
            try:
                while not errand.is_over:
                    errand.look(run)
                    wait((errand.answer,), LOOK_AGAIN)
            except BaseException:
                self._abandon(run, errand)
                raise
            if (result := self._end(run, errand)) is not None:
                return result
        return errand.not_begun

    async def perform_async(self, run: Run, cls: type[BaseRunnable]) -> Result:
        """Does what ``perform`` does, on an event loop; if its caller is cancelled, the child is killed."""
        for _ in range(TRIES):
            errand = self._begin(run, cls)
            try:
                answered = _event_of(errand.answer)
                while not errand.is_over:
                    errand.look(run)
                    with suppress(TimeoutError):
                        async with asyncio.timeout(LOOK_AGAIN):
                            await answered.wait()
            except BaseException:
                self._abandon(run, errand)
                raise
            if (result := self._end(run, errand)) is not None:
                return result
        return errand.not_begun

    def close(self) -> None:
        """Ends the children, when no run is left."""
        self._starter.close()
        while self._idle:
            self._idle.pop().throw_away()

    def _begin(self, run: Run, cls: type[BaseRunnable]) -> "Errand":
        """Sends the run to a child."""
        needs_main = cls.__module__ == "__main__"
        process = self._take_idle(needs_main) or ChildProcess(self._setup, with_main=needs_main)
        memory_limit = cls.__fang_options__.memory_limit
        call = Call(process.calls + 1, run.task, run.pool_id, run.retention_mode, cls.__module__, memory_limit)
        errand = run.child = Errand(process, call)
        if run.interruption is not None:  # that came while there was no child to kill
            errand.kill()
        elif call.number > 1:
            errand.send()
        else:
            try:
                self._starter.start(errand)
            except RuntimeError as error:  # the limit of threads is reached
                errand.refuse(error)
        return errand

    def _take_idle(self, needs_main: bool) -> ChildProcess | None:
        for process in reversed(self._idle):
            if process.with_main or not needs_main:
                with suppress(ValueError):  # another thread was faster
                    self._idle.remove(process)
                    return process
        return None

    def _end(self, run: Run, errand: "Errand") -> Result | None:
        """Returns the result of the run; None if another child must run it, since this one ended before it began.

        Raises ``Interrupted`` if the child was killed.
        """
        ended = errand.ended()
        if ended.has_begun:
            run.completed = errand.process.shared.completed
        is_worn = self._max_tasks_per_child is not None and errand.call.number >= self._max_tasks_per_child
        self._release(run, errand, is_spent=ended.result is None or is_worn)
        if ended.result is not None:
            return ended.result
        if run.interruption is not None:
            raise INTERRUPTED[run.interruption.why]
        if errand.is_late:
            return NOT_STARTED
        return Crashed(ended.exit_code) if ended.has_begun else None

    def _abandon(self, run: Run, errand: "Errand") -> None:
        errand.kill()
        if errand.ended().has_begun:
            run.completed = errand.process.shared.completed
        self._release(run, errand, is_spent=True)

    def _release(self, run: Run, errand: "Errand", *, is_spent: bool) -> None:
        run.child = None
        if errand.release() or is_spent:
            errand.process.throw_away()
        else:
            self._idle.append(errand.process)


class Ended(NamedTuple):
    """Says how an errand ended: with the result of the run, or else by the end of its process."""

    result: Result | None
    has_begun: bool
    exit_code: int | None


class Errand:
    """One run that is sent to a child."""

    def __init__(self, process: ChildProcess, call: Call) -> None:
        self.process = process
        self.call = call
        self.is_late = False
        self.not_begun = NOT_BEGUN
        """The result of the run if no child begins it, as far as this one shows why."""
        self.answer: Future[Result] = Future()
        limit = call.task.timeout
        self._starts_within = STARTS_WITHIN if limit is None else max(STARTS_WITHIN, limit.total_seconds())
        self._starts_by = inf
        self._is_sent = False
        self._was_killed = False
        self._is_released = False
        self._killing = threading.Lock()

    def send(self) -> None:
        """Begins it, unless it was killed; if that fails, it is over.

        A child that was killed while it started, when there was no process yet, is not called, and killed here.
        """
        with self._killing:
            if self._was_killed:
                return
            self._starts_by = time.monotonic() + self._starts_within
        try:
            self.process.start()
            with self._killing:
                if not self._was_killed:
                    self.process.call(self.call).add_done_callback(self._take)
        except Exception as error:  # noqa: BLE001 - whatever it is, this run learns of it, and the next child starts
            self.refuse(error)
        with self._killing:
            self._is_sent = True
            if self._was_killed:
                self.process.kill()

    def refuse(self, error: Exception) -> None:
        """Ends it, since its child cannot be started."""
        self.not_begun = Failure(describe(error.with_traceback(None)))
        self._settle(error)

    def kill(self) -> None:
        """Kills the child, for a reason that the run's ``interruption`` has, unless the child is released.

        A run that has not been sent to it is over: it does not wait for the child to start.
        """
        with self._killing:
            if self._is_released:
                return
            self._was_killed = True
            self.process.kill()
            if self._is_sent:
                return
        self._settle(ProcessLookupError("it was not started"))

    def _take(self, answer: Future[Result]) -> None:
        error = answer.exception()
        self._settle(answer.result() if error is None else error)

    def _settle(self, outcome: Result | BaseException) -> None:
        with suppress(InvalidStateError):
            if isinstance(outcome, BaseException):
                self.answer.set_exception(outcome)
            else:
                self.answer.set_result(outcome)

    def release(self) -> bool:
        """Lets go of the child, which may have another run from then on; returns whether it was killed."""
        with self._killing:
            self._is_released = True
            return self._was_killed

    def look(self, run: Run) -> None:
        """Tells the child its lease, and the run what the child reports; kills a child that takes too long to start."""
        shared = self.process.shared
        shared.lease = run.lease
        if self._has_begun:
            run.reported = shared.reported or run.reported
        if not self.running_since and time.monotonic() >= self._starts_by:
            self.is_late = True
            self.kill()

    @property
    def running_since(self) -> float:
        """See ``Child.running_since``."""
        return self.process.shared.running_since if self._has_begun else 0.0

    @property
    def place(self) -> str:
        """See ``Child.place``."""
        if self.process.pid is None:
            return "child process, which is still to start"
        is_starting = "" if self.running_since else ", which is still starting"
        return f"child process, pid {self.process.pid}{is_starting}"

    @property
    def is_over(self) -> bool:
        """Returns whether there is an answer, or there will be none."""
        return self.answer.done() or (self._is_sent and self.process.has_ended)

    def ended(self) -> Ended:
        """Returns how it ended, once it is over."""
        has_begun = self._has_begun
        error = self.answer.exception() if self.answer.done() else ProcessLookupError()
        if error is None:
            return Ended(self.answer.result(), has_begun, None)
        exit_code = self.process.exit_code
        if exit_code is None and has_begun and self._is_sent and not self.process.has_ended:
            # It lives: its own code has raised, where no code of a task is at fault.
            return Ended(Failure(describe(error)), has_begun, None)
        return Ended(None, has_begun, exit_code)

    @property
    def _has_begun(self) -> bool:
        return self.process.shared.begun == self.call.number


def _event_of(answer: Future[Result]) -> asyncio.Event:
    """Returns an event of the running loop that is set when the answer is there."""
    event, loop = asyncio.Event(), asyncio.get_running_loop()

    def tell(_: Future[Result]) -> None:
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(event.set)

    answer.add_done_callback(tell)
    return event
