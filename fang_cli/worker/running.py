"""Runs ``fang worker``: pools of either mode in one process, until SIGTERM or Ctrl-C, or until all are stopped.

One event loop in the main thread runs all async pools, and starts and stops the threaded ones.
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
from fang_cli.targets import Target, find_targets, is_async
from fang_cli.worker.logs import applications_logging
from fang_cli.worker.serving import NO_PORTS, Ports, serving
from fang_cli.worker.supervised import SupervisorLink
from fang_cli.worker.waiting import DatabaseWait, Interrupted
from fang_core.config import EXIT_RUNS_LEFT, EXIT_STUCK
from fang_core.driving import drive
from fang_core.errors import BackendError, BackendUnavailable
from fang_core.logs import SafeLogger
from fang_threaded.signals import Signals

logger = SafeLogger("fang_cli")

T = TypeVar("T")

_CHECKING: Final = 2.0
"""Seconds that a queue has to read the version of the tables, besides the time its servers have to answer a connect.

Without a limit, a queue on the application's Engine might never stop waiting."""

_UNWINDING: Final = 1.0
"""Seconds that asyncio tasks, and then threads, have to end if runs have left them behind."""


def run_worker(
    names: Sequence[str],
    log_level: str | None = None,
    *,
    log_tracebacks: bool = False,
    wait_for_database: float = 0.0,
    supervisor: SupervisorLink | None = None,
    ports: Ports = NO_PORTS,
) -> int:
    """Runs the named pools until SIGTERM or SIGINT, and stops them gracefully; returns the exit code.

    With ``log_tracebacks`` each pool has that option, whatever it was made with. It waits up to ``wait_for_database``
    seconds for a database that does not answer. ``supervisor`` gets reports on the pools, and stops them when it ends.
    ``ports`` are answered from when the pools are imported until they have ended.

    If a task or a hook of ``Events`` stops a pool, the other pools go on: the process ends when all have ended.

    Nothing is started unless every name is a pool's and every queue can be opened. A second signal ends the process at
    once. If runs have not ended at the end of their pool's grace period, the process ends here, with exit code 75; if
    outcomes were not written, the code is the same. If more runs are stuck than a pool's ``max_stuck`` allows, all
    pools are stopped, and the code is 71.
    """
    with applications_logging(log_level):
        targets = find_targets(names)
    if log_tracebacks:
        for target in targets:
            target.pool.options = replace(target.pool.options, log_tracebacks=True)
    executor = ThreadPoolExecutor(thread_name_prefix="asyncio")
    with Signals(lambda: _begin_last_call(targets), shares=False) as signals, asyncio.Runner() as runner:
        runner.get_loop().set_default_executor(executor)  # like asyncio's own, but here its threads can be joined
        _wake_after_the_last(targets, signals)
        with serving(targets, ports, runner.get_loop()) as port:
            if supervisor is not None:
                supervisor.loaded(targets, on_gone=partial(_stop, targets, signals), port=port)
            if _run(runner, _serve(targets, signals, wait_for_database, supervisor)):
                os._exit(_exit_code(targets))  # an ordinary exit waits for runs, or runs finalizers under their threads
        code = _exit_code(targets)
        if _run(runner, _end_leftovers(executor)):
            os._exit(code)  # no run is left, but an ordinary exit would wait for threads that runs left behind
        end_in_peace()
        if supervisor is not None:
            supervisor.leaving()
    return code


def _exit_code(targets: Sequence[Target]) -> int:
    """Returns the most telling of the pools' exit codes: runs were stuck, or runs are left."""
    codes = {target.pool.exit_code for target in targets}
    return next((code for code in (EXIT_STUCK, EXIT_RUNS_LEFT) if code in codes), 0)


def _begin_last_call(targets: Sequence[Target]) -> None:
    """Bounds the life of the process at the first signal, wherever the main thread hangs."""
    for target in targets:
        target.pool.begin_last_call()


def _stop(targets: Sequence[Target], signals: Signals) -> None:
    """Stops as the first signal does."""
    _begin_last_call(targets)
    signals.wake()


def _wake_after_the_last(targets: Sequence[Target], signals: Signals) -> None:
    """Ends the wait for a signal when all pools have been stopped, by any caller, or one has too many stuck runs."""
    unstopped = {target.name for target in targets}

    def stopped(name: str) -> None:
        unstopped.discard(name)
        if not unstopped:
            signals.wake()

    for target in targets:
        target.pool.on_stop(partial(stopped, target.name))
        target.pool.on_too_many_stuck(partial(_stop, targets, signals))


async def _serve(
    targets: Sequence[Target], signals: Signals, wait_for_database: float, supervisor: SupervisorLink | None
) -> bool:
    """Opens the queues, runs the pools until the first signal or the last stop, and stops them; returns whether runs go
    on."""
    stopping = _in_thread(lambda: drive(signals.wait()))
    patience = DatabaseWait(wait_for_database, stopping)
    opened = [target for target in _one_for_each_queue(targets) if not target.pool.queue.is_open]
    started: list[Target] = []
    runs_go_on = False
    try:
        # All queues before any pool: no pool has begun to work if another's database is down.
        await _all_or_none(patience.answer(target.name, partial(_open, target, patience)) for target in opened)
        for target in targets:
            await patience.answer(target.name, partial(_start, target))
            started.append(target)
        if supervisor is not None:
            supervisor.ready()
        await stopping
        if signals.ends_process:
            logger.info(
                "stopping: runs have until the end of the grace period; a second signal ends the process at once, and "
                "tasks that have not ended then run again, uncharged"
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


async def _open(target: Target, patience: DatabaseWait) -> None:
    queue = target.pool.queue
    with _named(target):
        try:
            opening = asyncio.wait_for(_call(target, queue.open), queue.connects_within + _CHECKING)
            await patience.unless_interrupted(opening)
        except TimeoutError:
            raise BackendUnavailable("the database does not answer in time") from None


async def _start(target: Target) -> None:
    # Not cancelled at a signal: a pool may have registered, and claimed.
    with _named(target):
        await _call(target, target.pool.start)


@contextmanager
def _named(target: Target) -> Iterator[None]:
    """Adds the pool's name to the error of a database that is down."""
    try:
        yield
    except BackendError as error:
        raise type(error)(f"{target.name}: {error}") from error


async def _end_leftovers(executor: ThreadPoolExecutor) -> bool:
    """Cancels asyncio tasks that runs have left behind, and waits for their threads; returns whether any do not end."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=_UNWINDING)
    threads = _in_thread(executor.shutdown)
    await asyncio.wait({threads}, timeout=_UNWINDING)
    unended = sum(not task.done() for task in tasks)
    if unended:
        logger.warning("%d asyncio tasks that runs have left behind do not end", unended)
    if not threads.done():
        logger.warning("threads that runs have left behind do not end")
    return unended > 0 or not threads.done()


# Both modes from one loop ---------------------------------------------------------------------------------------------


def _run(runner: asyncio.Runner, main: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine to its end, whatever other tasks of the loop raise.

    An asyncio task that a run has left behind may raise SystemExit, which stops the loop: this runs the loop again.
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
    """Calls a method of the target's pool or queue, in the way of its mode."""
    return await (method() if is_async(target.pool) else _in_thread(method))


def _in_thread(function: Callable[[], T]) -> "asyncio.Future[T]":
    """Runs a function in a daemon thread of its own: runs may fill the loop's executor, and the exit waits for that."""
    future: Future[T] = Future()

    def call() -> None:
        future.set_running_or_notify_cancel()
        try:
            future.set_result(function())
        except BaseException as error:  # noqa: BLE001 - raised where the future is awaited
            future.set_exception(error)

    threading.Thread(target=call, name="fang-call", daemon=True).start()
    return asyncio.wrap_future(future)


async def _all_or_none(calls: Iterator[Coroutine[Any, Any, object]]) -> None:
    """Runs all calls at once; if one fails, cancels the rest and raises its error."""
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
    """Runs all calls at once, each to its end; then raises the first error, if there was one."""
    results = await asyncio.gather(*calls, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results  # type: ignore[return-value]
