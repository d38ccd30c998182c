"""``fang worker``: pools of either mode, several at once in one process, until SIGTERM or Ctrl-C, or all are stopped.

One event loop in the main thread holds all async pools, and starts and stops the threaded ones.
"""

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, Final, TypeVar

from fang_cli.ending import end_in_peace
from fang_cli.logs import applications_logging
from fang_cli.patience import Interrupted, Patience
from fang_cli.targets import Target, find_targets, is_async
from fang_core.config import EXIT_RUNS_LEFT
from fang_core.errors import BackendError, BackendUnavailable
from fang_core.logs import SafeLogger
from fang_threaded.signals import Signals

logger = SafeLogger("fang_cli")

T = TypeVar("T")

_CHECKING: Final = 2.0
"""Seconds that a queue has to read the version of the tables, beside those that its servers have to answer a connect.

Over an Engine of the application's it would wait for ever."""

_UNWINDING: Final = 1.0
"""Seconds that asyncio tasks, and then threads, which runs have left behind, have to end."""


def run_worker(
    names: Sequence[str],
    log_level: str | None = None,
    *,
    log_tracebacks: bool = False,
    wait_for_database: float = 0.0,
) -> int:
    """Runs the pools that are named until SIGTERM or SIGINT, and stops them gracefully; the exit code.

    With ``log_tracebacks`` each pool has that option, whatever it was made with. A database that does not answer is
    waited for, for ``wait_for_database`` seconds.

    Where a task or a hook of ``Events`` stops a pool the others go on: the process ends once all of them have ended.

    Nothing is started unless every name is a pool's and every queue can be opened. A second signal ends the process at
    once. Where runs have not ended at the end of their pool's grace period, the process ends here, with exit code 75;
    where some were not written the code is the same.
    """
    with applications_logging(log_level):
        targets = find_targets(names)
    if log_tracebacks:
        for target in targets:
            target.pool.options = replace(target.pool.options, log_tracebacks=True)
    executor = ThreadPoolExecutor(thread_name_prefix="asyncio")
    with Signals(lambda: _begin_last_call(targets), shares=False) as signals, asyncio.Runner() as runner:
        runner.get_loop().set_default_executor(executor)  # as asyncio makes one, but here its threads can be waited for
        _wake_after_the_last(targets, signals)
        if _run(runner, _serve(targets, signals, wait_for_database)):
            os._exit(EXIT_RUNS_LEFT)  # an ordinary exit would wait for runs, or run finalizers under running threads
        code = 0 if all(target.pool.is_clean for target in targets) else EXIT_RUNS_LEFT
        if _run(runner, _end_leftovers(executor)):
            os._exit(code)  # no run is left, but an ordinary exit would wait for what runs have left behind
        end_in_peace()
    return code


def _begin_last_call(targets: Sequence[Target]) -> None:
    """On the first signal, wherever the main thread hangs."""
    for target in targets:
        target.pool.begin_last_call()


def _wake_after_the_last(targets: Sequence[Target], signals: Signals) -> None:
    """Ends the wait for a signal when each of the pools has been stopped, by whomever."""
    unstopped = {target.name for target in targets}

    def stopped(name: str) -> None:
        unstopped.discard(name)
        if not unstopped:
            signals.wake()

    for target in targets:
        target.pool.on_stop(partial(stopped, target.name))


async def _serve(targets: Sequence[Target], signals: Signals, wait_for_database: float) -> bool:
    """Opens the queues, runs the pools until the first signal or the last stop, stops them; whether runs go on."""
    stopping = _in_thread(signals.wait)
    patience = Patience(wait_for_database, stopping)
    opened = [target for target in _one_for_each_queue(targets) if not target.pool.queue.is_open]
    started: list[Target] = []
    runs_go_on = False
    try:
        # All of them before any pool: none has begun to work when another's database is found to be down.
        await _all_or_none(patience.answer(target.name, partial(_open, target, patience)) for target in opened)
        for target in targets:
            await patience.answer(target.name, partial(_start, target))
            started.append(target)
        await stopping
        if signals.ends_process:
            logger.info(
                "stopping: runs have until the end of the grace period; a second signal ends the process at once, and "
                "what has not ended then runs again, uncharged"
            )
    except Interrupted:
        logger.info("stopping: a signal came before all pools had started")
    finally:
        signals.wake()  # for the thread that waits
        await _all(_call(target, target.pool.stop) for target in started)
        runs_go_on = any(await _all(_call(target, target.pool.runs_go_on) for target in started))
        if not runs_go_on:
            await _all(_call(target, target.pool.queue.close) for target in opened)
    return runs_go_on


def _one_for_each_queue(targets: Sequence[Target]) -> list[Target]:
    return list({id(target.pool.queue): target for target in targets}.values())


async def _open(target: Target, patience: Patience) -> None:
    queue = target.pool.queue
    with _named(target):
        try:
            opening = asyncio.wait_for(_call(target, queue.open), queue.connects_within + _CHECKING)
            await patience.unless_interrupted(opening)
        except TimeoutError:
            raise BackendUnavailable("the database does not answer in time") from None


async def _start(target: Target) -> None:
    # Not given up at a signal: a pool may have registered, and claimed.
    with _named(target):
        await _call(target, target.pool.start)


@contextmanager
def _named(target: Target) -> Iterator[None]:
    """Says whose database it is that is down."""
    try:
        yield
    except BackendError as error:
        raise type(error)(f"{target.name}: {error}") from error


async def _end_leftovers(executor: ThreadPoolExecutor) -> bool:
    """Cancels the asyncio tasks that runs have left behind, waits for the threads; whether something does not end."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=_UNWINDING)
    threads = _in_thread(executor.shutdown)
    await asyncio.wait({threads}, timeout=_UNWINDING)
    unended = sum(not task.done() for task in tasks)
    if unended:
        logger.warning("asyncio tasks that runs have left behind and that do not end: %d", unended)
    if not threads.done():
        logger.warning("threads that runs have left behind do not end")
    return unended > 0 or not threads.done()


# Both modes from one loop ---------------------------------------------------------------------------------------------


def _run(runner: asyncio.Runner, main: Coroutine[Any, Any, T]) -> T:
    """Runs it to its end, whatever other tasks of the loop raise.

    An asyncio task that a run has left behind and that raises SystemExit stops the loop under everyone: it goes on.
    """
    loop = runner.get_loop()
    task = loop.create_task(main)
    while not task.done():
        try:
            loop.run_until_complete(task)
        except (SystemExit, KeyboardInterrupt) as error:
            logger.error("an asyncio task outside of any run raised %s; the pools go on", type(error).__name__)
    return task.result()


async def _call(target: Target, method: Callable[[], Any]) -> Any:
    """A method of the target's pool or queue, in the way of its mode."""
    return await (method() if is_async(target.pool) else _in_thread(method))


def _in_thread(function: Callable[[], T]) -> "asyncio.Future[T]":
    """Runs it in a daemon thread of its own: the loop's executor may be full of what runs do, and exit waits for it."""
    future: Future[T] = Future()

    def call() -> None:
        future.set_running_or_notify_cancel()
        try:
            future.set_result(function())
        except BaseException as error:  # noqa: BLE001 - whoever awaits it gets it
            future.set_exception(error)

    threading.Thread(target=call, name="fang-call", daemon=True).start()
    return asyncio.wrap_future(future)


async def _all_or_none(calls: Iterator[Coroutine[Any, Any, object]]) -> None:
    """All of them at once, until one fails; then gives the others up and raises its error."""
    tasks = [asyncio.create_task(call) for call in calls]
    if not tasks:
        return
    done, others = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    for task in others:
        task.cancel()
    if others:
        await asyncio.wait(others, timeout=_UNWINDING)
    # Asks every task: asyncio would log the error of one that was never asked, with a traceback.
    errors = [task.exception() for task in (*done, *others) if task.done() and not task.cancelled()]
    for error in filter(None, errors):
        raise error


async def _all(calls: Iterator[Coroutine[Any, Any, T]]) -> list[T]:
    """All of them at once, each to its end; then raises the first error, if there was one."""
    results = await asyncio.gather(*calls, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results  # type: ignore[return-value]
