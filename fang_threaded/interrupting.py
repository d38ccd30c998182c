"""Interrupts runs in threads, by raising an exception in them. The record of decisions has why it is done this way.

One thread of the pool's, the interrupter, does that for all workers. It and a worker agree on whether the exception is
raised by a handshake without a lock, since a thread in which an exception may be raised anywhere must not take one:

- A worker sets ``current`` to the run, runs it, sets ``current`` to None, waits until ``is_sending`` is False, and
  clears what was raised and has not arrived.
- The interrupter sets ``is_sending``, and then looks whether ``current`` still is that run; if so, it raises. Then it
  resets ``is_sending``.

So either the interrupter sees that the run is over, or the worker sees that it has to wait. A run gets one exception,
and one more for each higher reason. At most one of them is on its way when a run ends: a later one replaces it.

It strikes in code of the task alone. While the thread is in this library, in the logging module or in an import, or at
work on a lock or in a pool of connections, where an exception would leave that taken or a connection lent, the
interrupter tries again a little later, as it does in a block of ``uninterruptible``.
"""

import ctypes
import gc
import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from math import inf
from queue import Empty, SimpleQueue
from types import FrameType
from typing import Any, Final, NamedTuple

from fang_core.logs import SafeLogger
from fang_core.runs.interrupt import INTERRUPTED, Interrupt, Interrupted, Interruption
from fang_core.runs.run import Run

logger = SafeLogger("fang_threaded")

_FIRST_WAIT: Final = 0.001
_LONGEST_WAIT: Final = 0.05
"""Seconds until the interrupter tries again to strike a run that is in code that must not be struck."""

_LONGEST_SLEEP: Final = 3_600.0
"""Seconds; Python cannot wait for thousands of years."""

_OURS: Final = frozenset({"fang_core", "fang_postgres", "fang_sqlite", "fang_redis", "fang_threaded", "fang_isolation"})
_UNSAFE: Final = _OURS | {"logging", "weakref", "_weakrefset"}
"""Packages that must not be struck, nor what they call, within a task's own code. Python swallows what is raised in
the callbacks of weak references."""
_LENDS: Final = frozenset({"psycopg_pool", "sqlalchemy.pool", "sqlalchemy.util.queue"})
"""Packages that lend connections: one that is struck on its way would never come back. Nor is their wait for one
struck: that would end it only when there is one."""
_WAITS: Final = frozenset({"wait", "join", "_wait_for_tstate_lock"})
"""Functions of ``threading`` that may be struck: they wait, and then undo what they did."""

_set_async_exc: Final = ctypes.pythonapi.PyThreadState_SetAsyncExc
_set_async_exc.argtypes = [ctypes.c_ulong, ctypes.py_object]
_set_async_exc.restype = ctypes.c_int
_NOTHING: Final = ctypes.py_object()


class Interruptee:
    """The part of a worker that the handshake is about."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.current: Run | None = None
        """The run that may be struck; only the worker's thread sets it."""
        self.is_sending = False
        """Whether the interrupter looks at ``current``, or raises; only the interrupter sets it."""
        self.is_given_up = False
        """Whether the run counts as stuck: its outcome was written, and the worker has a successor."""
        self.thread: threading.Thread

    def hold_back(self, run: Run) -> None:
        """See ``Interruptible.hold_back``."""
        if not self._has(run):
            return
        before = run.held_back
        try:
            run.held_back = before + 1
            while self.is_sending:
                time.sleep(0)
            _let_arrive()
        except Interrupted:
            run.held_back = before
            raise

    def let_through(self, run: Run, *, is_raising: bool) -> None:
        """See ``Interruptible.let_through``."""
        if not self._has(run):
            return
        interruption = run.interruption
        if run.held_back == 1 and not is_raising and interruption is not None and not interruption.is_struck:
            # While held_back is 1 the interrupter does not strike, unless it had begun to: that was waited for.
            interruption.is_struck = True
            run.held_back = 0
            raise INTERRUPTED[interruption.why]
        run.held_back -= 1

    def _has(self, run: Run) -> bool:
        return self.current is run and threading.get_ident() == self.thread.ident

    def settle(self) -> None:
        """Waits, once ``current`` is None, until nothing more can strike; call it again if something does meanwhile."""
        while self.is_sending:
            time.sleep(0)
        _set_async_exc(threading.get_ident(), _NOTHING)


def _let_arrive() -> None:
    """Has an exception that was raised in this thread arrive: Python looks for one at each turn of a loop."""
    for _ in range(2):
        pass


class _Request(NamedTuple):
    worker: Interruptee
    run: Run
    interruption: Interruption


class Interrupter:
    """A thread that interrupts runs; it starts when it is first needed.

    Args:
        workers: returns the workers there are, those that were given up too.
        stuck_after: for how many seconds after its interruption a run may go on.
        on_stuck: called with a worker that was given up, and its run.
    """

    def __init__(
        self,
        workers: Callable[[], Iterable[Interruptee]],
        stuck_after: float,
        on_stuck: Callable[[Any, Run], None],
    ) -> None:
        self._workers = workers
        self._stuck_after = stuck_after
        self._on_stuck = on_stuck
        self._inbox: SimpleQueue[_Request | None] = SimpleQueue()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._is_refused = False  # the thread is needed, and there was none to be had
        self._is_closed = False
        self._looks_at = inf

    def interrupt(self, run: Run, why: Interrupt, reason: str) -> bool:
        """See ``Workers.interrupt``."""
        worker, interruption = run.taken_by, Interruption(why, reason, time.monotonic())
        if not isinstance(worker, Interruptee) or worker.current is not run or not interruption.applies_to(run):
            return False
        self._wake(_Request(worker, run, interruption))
        return True

    def watch(self, deadline: float) -> None:
        """Interrupts the current run of the worker that calls this at its deadline, a time of the monotonic clock."""
        if deadline < self._looks_at:
            self._wake(None)

    def try_again(self) -> None:
        """Starts the thread if it is needed and could not be started before; any thread may call this."""
        if self._is_refused and not self._is_closed:
            self._start()

    def close(self) -> None:
        """Ends the thread, when no worker is left to interrupt."""
        self._is_closed = True
        self._inbox.put(None)

    def _wake(self, request: _Request | None) -> None:
        """Passes on a request, or has the thread look at the workers; starts it, if that has not been done."""
        if request is not None or self._thread is not None:
            self._inbox.put(request)
        if self._thread is None:
            self._start()

    def _start(self) -> None:
        with self._starting:
            if self._thread is not None:
                return
            thread = threading.Thread(target=self._loop, name="fang-interrupter", daemon=True)
            try:
                thread.start()
            except RuntimeError as refused:  # the limit of threads is reached
                if not self._is_refused:
                    logger.error("runs cannot be interrupted until there is a thread for that: %s", refused)
                self._is_refused = True
                return
            if self._is_refused:
                logger.warning("runs can be interrupted again")
            self._thread, self._is_refused = thread, False
            self._inbox.put(None)  # it looks at all runs that are under way

    def _loop(self) -> None:
        while not self._is_closed:
            with suppress(Empty):
                seconds = min(_LONGEST_SLEEP, max(0.0, self._looks_at - time.monotonic()))
                request = self._inbox.get(timeout=seconds)
                if request is not None:
                    _note(*request)
            self._looks_at = inf  # before it looks: a run that begins meanwhile wakes it
            now = time.monotonic()
            self._looks_at = min((self._look(worker, now) for worker in self._workers()), default=inf)

    def _look(self, worker: Interruptee, now: float) -> float:
        """Does what is to be done to the worker's run now; returns when to look again."""
        run = worker.current
        if run is None:
            return inf
        if run.interruption is None:
            limit = run.task.timeout
            if limit is None:
                return inf
            deadline = run.limited_since(now) + limit.total_seconds()
            if now < deadline:
                return deadline
            _note(worker, run, Interruption(Interrupt.TIME_LIMIT, "", now))
        interruption = run.interruption
        return inf if interruption is None else self._press(worker, run, interruption, now)

    def _press(self, worker: Interruptee, run: Run, interruption: Interruption, now: float) -> float:
        """Strikes an interrupted run, if that has not been done, and gives it up in time; returns when to look again.

        One that was given up in a place that must not be struck is struck when it leaves that.
        """
        give_up_at = inf if worker.is_given_up else interruption.asked_at + self._stuck_after
        if now >= give_up_at:
            if not _give_up(worker, run):
                return inf
            self._on_stuck(worker, run)
            give_up_at = inf
        if interruption.is_struck or _strike(worker, run, interruption):
            return give_up_at
        waited = now - interruption.asked_at
        return min(give_up_at, now + min(_LONGEST_WAIT, max(_FIRST_WAIT, waited)))


def _note(worker: Interruptee, run: Run, interruption: Interruption) -> None:
    """Marks the run as interrupted, if it is still under way and the reason is a higher one."""
    worker.is_sending = True
    try:
        if worker.current is run and interruption.applies_to(run):
            interruption.begin(run)
    finally:
        worker.is_sending = False


def _strike(worker: Interruptee, run: Run, interruption: Interruption) -> bool:
    """Raises in the worker's thread, or kills the child of the run, unless the run is over or must not be struck now.

    Returns whether it does.
    """
    thread, exception = worker.thread.ident, INTERRUPTED[interruption.why]
    assert thread is not None
    worker.is_sending = True
    try:
        if worker.current is not run or run.held_back or interruption.is_struck:
            return False
        if (child := run.child) is not None:  # the worker lets go of it at any time
            interruption.is_struck = True
            child.kill()
            return True
        frame = sys._current_frames().get(thread)
        step = -1 if frame is None else frame.f_lasti
        if frame is None or not _is_in_task(frame) or sys._current_frames().get(thread) is not frame:
            return False
        # Python switches threads at calls and at the turns of loops only: the other one does not run between this line
        # and the exception. If it has run since its frames were looked at, it has left that step.
        if worker.current is run and not run.held_back and not interruption.is_struck and frame.f_lasti == step:
            interruption.is_struck = True
            _set_async_exc(thread, exception)
        return interruption.is_struck
    finally:
        worker.is_sending = False


def _give_up(worker: Interruptee, run: Run) -> bool:
    """Marks the worker as given up, if the run is still under way; returns whether it is."""
    worker.is_sending = True
    try:
        worker.is_given_up = worker.current is run
    finally:
        worker.is_sending = False
    return worker.is_given_up


def _is_in_task(innermost: FrameType) -> bool:
    """Returns whether a thread that stands in this frame is in a task's own code, or in a library that it called."""
    if _leaves_things_half_done(innermost):
        return False
    frame: FrameType | None = innermost
    modules: list[str] = []
    of_collector = {getattr(callback, "__code__", None) for callback in tuple(gc.callbacks)}
    while frame is not None:
        if frame.f_code.co_name == "__del__" or frame.f_code.co_filename.startswith("<frozen importlib"):
            return False
        if frame.f_code in of_collector:  # Python swallows what is raised there, as in __del__
            return False
        modules.append(_module(frame))
        frame = frame.f_back
    # What started the thread comes first: threading, and a tool that wraps each thread, such as an error tracker's.
    while modules and _package(modules[-1]) not in _OURS:
        modules.pop()
    while modules and _package(modules[-1]) in _OURS:
        modules.pop()
    return bool(modules) and not any(_package(module) in _UNSAFE or _lends(module) for module in modules)


def _leaves_things_half_done(innermost: FrameType) -> bool:
    """Returns whether a context manager or a lock is just being entered or left."""
    module = _module(innermost)
    return module == "contextlib" or (module == "threading" and innermost.f_code.co_name not in _WAITS)


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__"))


def _package(module: str) -> str:
    return module.partition(".")[0]


def _lends(module: str) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in _LENDS)
