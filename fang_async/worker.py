"""A worker: one long-lived asyncio task that takes claimed tasks and runs each in itself, in a context of its own.

A task of asyncio's for each run would cost five microseconds more. What simpler loops get wrong, and this one does not:

- Context variables that one run sets are seen by the next. Here every step of a run is taken inside its own context.
- A cancellation that a run leaves behind strikes the next one. Here the one that the pool asked for is absorbed; after
  any other the worker hands over its outcome and ends, and the pool replaces it.
- SystemExit, KeyboardInterrupt and the like would end the loop. Here they are outcomes.
"""

import asyncio
import os
import time
import types
from collections.abc import Coroutine, Generator
from contextlib import suppress
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any

from fang_core.codec import decode
from fang_core.events import Events
from fang_core.forks import end_if_child
from fang_core.lifecycle import NOT_RUN, SUCCESS, Result, result_of
from fang_core.run import CURRENT_RUN, Run
from fang_core.runnable import AsyncRunnable

if TYPE_CHECKING:
    from fang_async.crew import Crew
    from fang_async.shift import Shift


class Worker:
    """Runs tasks until the pool stops. No exception of a run ends it; whatever else does has it replaced."""

    def __init__(self, shift: "Shift", crew: "Crew", number: int) -> None:
        self._shift = shift
        self._crew = crew
        self._kinds = shift.kinds
        self._queue = shift.queue
        self._process = os.getpid()
        self._cut_short = False
        self._current: Run | None = None
        self.task = asyncio.create_task(self._loop(), name=f"fang-worker-{number}")

    def cut_short(self) -> None:
        """Cancels the run that is under way, for the pool's sake. If it ends by that, its task is given back; if it
        answers otherwise, its answer counts."""
        if self._current is not None and not self._cut_short:
            self._cut_short = True
            self.task.cancel()

    async def _loop(self) -> None:
        shift, crew, waiting = self._shift, self._crew, self._crew.waiting
        events, feed, ended = shift.events, shift.claimer.feed, shift.supply.ended
        me = asyncio.current_task()
        assert me is not None
        while True:
            while waiting:
                if time.monotonic() >= crew.slice_end:
                    await crew.breathe()
                    continue
                run = waiting.popleft()
                run.started = True
                started = time.monotonic()
                result: Result | None = None
                try:
                    feed(len(waiting))
                    if events:
                        events.emit(Events.run_started, run.task)
                        started = time.monotonic()
                    result = await self._run(run)
                    if self._cut_short:
                        await _absorb(me)
                        self._cut_short = False
                finally:
                    # Also where this very loop fails: no claimed task goes without an outcome.
                    crew.ended_runs += 1
                    ended(run, result, time.monotonic() - started)
                    result = None  # a failure's exception keeps all frames of its run, until the next run
                if me.cancelling():
                    return
            feed(0)
            if shift.stopping.is_set():
                return
            await crew.rest()

    async def _run(self, run: Run) -> Result:
        self._current = run
        try:
            runnable = decode(self._kinds.classes[run.task.kind], run.task.payload)
            assert isinstance(runnable, AsyncRunnable)
            context = copy_context()
            context.run(CURRENT_RUN.set, run)
            coroutine = context.run(runnable.run, self._queue)
            try:
                waiting_for = context.run(coroutine.send, None)
            except StopIteration:
                pass  # it never suspended
            else:
                self._crew.wake_one()
                await _resume(coroutine, context, waiting_for)
        except BaseException as error:  # noqa: BLE001 - every exception of a run is an outcome
            end_if_child(self._process, error)
            if self._cut_short and _is_cancellation(error):
                return NOT_RUN
            return result_of(error, self._kinds.module_of(run.task.kind))
        finally:
            run.over = True
            self._current = None
        end_if_child(self._process)
        return SUCCESS


@types.coroutine
def _resume(coroutine: Coroutine[Any, Any, None], context: Context, waiting_for: Any) -> Generator[Any, Any, None]:
    """Drives a coroutine that has suspended once already, every step of it inside its context."""
    while True:
        try:
            value = yield waiting_for
        except GeneratorExit:
            context.run(coroutine.close)
            raise
        except BaseException as error:  # noqa: BLE001 - it is the coroutine's to handle
            step: Any = coroutine.throw
            value = error
        else:
            step = coroutine.send
        try:
            waiting_for = context.run(step, value)
        except StopIteration:
            return


def _is_cancellation(error: BaseException) -> bool:
    """Whether the run ended by its cancellation, and said nothing of its own."""
    if isinstance(error, BaseExceptionGroup):
        return all(map(_is_cancellation, error.exceptions))
    return isinstance(error, asyncio.CancelledError)


async def _absorb(me: "asyncio.Task[Any]") -> None:
    """Leaves no cancellation behind for the next run: neither the count nor one still to be delivered."""
    with suppress(asyncio.CancelledError):
        await asyncio.sleep(0)
    while me.cancelling():
        me.uncancel()
