"""Runs a claimed task and returns its result: both workers and ``testing.perform`` use an ``Execution``."""

import types
from collections.abc import Awaitable, Callable, Coroutine, Generator, Sequence
from contextvars import Context, copy_context
from functools import partial
from typing import Any

from fang_core.interpreter.forks import end_if_child, process_number
from fang_core.lifecycle import SUCCESS, Result, result_of
from fang_core.runs.interrupt import Interrupted, is_only
from fang_core.runs.interrupted import result_of_interrupted, result_of_interruption
from fang_core.runs.isolation import Isolates
from fang_core.runs.returned import refuse_undone
from fang_core.runs.run import CURRENT_RUN, Run
from fang_core.tasks.middleware import Middleware, run_inside, run_inside_async
from fang_core.tasks.payloads.codec import decode
from fang_core.tasks.runnable import BaseRunnable


class Execution:
    """Runs claimed tasks, one at a time, each in its own context: later runs do not see variables that a run sets.

    A child process into which a run was forked ends when the run does.

    Args:
        class_of: returns the class of a kind; raises ``KeyError`` if there is none.
        queue: handed to each ``run``.
        catches: the exceptions of a run that become its result; all other exceptions are raised.
        interruption: the mode's exception of a run that is interrupted. If nothing else ends such a run, its result is
            that of the interruption.
        on_suspended: called when an asyncio task suspends for the first time.
        middleware: goes around each run, outside the middleware of the task's class.
        isolates: runs in child processes the tasks that need one; None runs every task here.
    """

    def __init__(
        self,
        class_of: Callable[[str], type[BaseRunnable]],
        queue: Any,
        *,
        catches: type[BaseException] | tuple[type[BaseException], ...] = BaseException,
        interruption: type[BaseException] = Interrupted,
        on_suspended: Callable[[], None] = lambda: None,
        middleware: Sequence[Middleware] = (),
        isolates: Isolates | None = None,
    ) -> None:
        self._class_of = class_of
        self._queue = queue
        self._catches = catches
        self._interruption = interruption
        self._on_suspended = on_suspended
        self._middleware = tuple(middleware)
        self._isolates = isolates
        self._process = process_number()

    def perform(self, run: Run) -> Result:
        """Runs a threaded task to its end."""
        try:
            cls = self._class_of(run.task.kind)
            if (cls.__fang_isolated__ or run.isolated) and self._isolates is not None:
                run.isolated = True
                return self._isolates.settle(cls, run.task.kind, self._isolates.get().perform(run, cls))
            _, returned = self._begin(run, cls)
            if returned is not None:
                refuse_undone(returned)
        except self._catches as error:
            return self._result_of(run, error)
        finally:
            run.over = True
        end_if_child(self._process)
        return SUCCESS

    async def perform_async(self, run: Run) -> Result:
        """Runs an asyncio task to its end, in the asyncio task of the caller.

        An asyncio task for each run would cost five microseconds more. So every step of the run is taken here, inside
        its context.
        """
        try:
            cls = self._class_of(run.task.kind)
            if (cls.__fang_isolated__ or run.isolated) and self._isolates is not None:
                run.isolated = True
                self._on_suspended()
                result = await (await self._isolates.get_aside()).perform_async(run, cls)
                return self._isolates.settle(cls, run.task.kind, result)
            context, coroutine = self._begin(run, cls)
            try:
                waiting_for = context.run(coroutine.send, None)
            except StopIteration as end:  # it never suspended
                returned = end.value
            else:
                self._on_suspended()
                returned = await _resume(coroutine, context, waiting_for)
            if returned is not None:
                refuse_undone(returned)
        except self._catches as error:
            return self._result_of(run, error)
        finally:
            run.over = True
        end_if_child(self._process)
        return SUCCESS

    def interrupted(self, run: Run, error: BaseException) -> Result:
        """Returns the result of a run whose interruption, ``error``, ended ``perform`` itself."""
        return result_of_interruption(run, error, self._module_of(run.task.kind))

    def _begin(self, run: Run, cls: type[BaseRunnable]) -> tuple[Context, Any]:
        """Calls ``run`` of the task in its context. Returns the context, and what it returned: of an async one, the
        coroutine."""
        task: Any = decode(cls, run.task.payload)
        context = copy_context()
        context.run(CURRENT_RUN.set, run)
        inner = cls.__fang_options__.middleware
        if inner or self._middleware:
            middleware = self._middleware + inner
            call = partial(task.run, self._queue)
            if cls.__fang_mode__ == "async":
                return context, context.run(run_inside_async, middleware, run, partial(_awaited, call))
            return context, context.run(run_inside, middleware, run, partial(_called, call))
        return context, context.run(task.run, self._queue)

    def _result_of(self, run: Run, error: BaseException) -> Result:
        end_if_child(self._process, error)
        module = self._module_of(run.task.kind)
        if run.isolated:
            error = error.with_traceback(None)  # which shows how this process waited for the child
        if run.interruption is None:
            return result_of(error, module)
        return result_of_interrupted(run, error, module, said_nothing=is_only(error, self._interruption))

    def _module_of(self, kind: str) -> str:
        """Returns the module of the task's class, as its frames name it; empty if there is no such class."""
        try:
            return self._class_of(kind).__module__
        except KeyError:
            return ""


def _called(call: Callable[[], object]) -> None:
    """Calls a run inside its middleware, which sees what is wrong with what it returns."""
    refuse_undone(call())


async def _awaited(call: Callable[[], Awaitable[object]]) -> None:
    refuse_undone(await call())


@types.coroutine
def _resume(coroutine: Coroutine[Any, Any, Any], context: Context, waiting_for: Any) -> Generator[Any, Any, Any]:
    """Drives a coroutine that has suspended once already, every step of it inside its context."""
    while True:
        try:
            value = yield waiting_for
        except GeneratorExit:
            context.run(coroutine.close)
            raise
        except BaseException as error:  # noqa: BLE001 - the coroutine must handle it
            step: Any = coroutine.throw
            value = error
        else:
            step = coroutine.send
        try:
            waiting_for = context.run(step, value)
        except StopIteration as end:
            return end.value
