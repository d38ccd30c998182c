"""Runs a child process: one task after the other, until the pool's process ends."""

import asyncio
import fcntl
import importlib
import os
import pickle
import resource
import select
import signal
import sys
import threading
import time
from contextlib import suppress
from multiprocessing import parent_process
from typing import Final

from fang_core.errors import UsageError
from fang_core.lifecycle import Result
from fang_core.runs.execution import Execution
from fang_core.runs.run import Lease, Run
from fang_core.tasks.registry import REGISTRY
from fang_core.tasks.runnable import BaseRunnable
from fang_isolation.calls import Call, Setup
from fang_isolation.fork_server import SIGNALS
from fang_isolation.shared_memory import SharedMemory

_MEMORY: Final = resource.RLIMIT_DATA if sys.platform == "linux" else resource.RLIMIT_AS
"""Linux counts the memory that a process may write to; elsewhere only its whole address space can be limited."""


class Child:
    """Runs the tasks of this process."""

    def __init__(self, setup: Setup, shared: SharedMemory) -> None:
        self._shared = shared
        # One loop serves all runs, so that what one of them connects is there for the next.
        self._runner = asyncio.Runner() if setup.mode == "async" else None
        self._execution = _Execution(self._class_of, setup.make_queue(), middleware=setup.middleware)
        self._call: Call

    def perform(self, call: Call) -> Result:
        """Runs a task to its end, and returns the result; of an exception, that has its texts alone."""
        self._call = call
        self._shared.begun = call.number
        run = _ChildRun(call, self._shared)
        try:
            if self._runner is None:
                return self._execution.perform(run)
            return self._runner.run(self._execution.perform_async(run))
        finally:
            _limit_memory(None)
            for stream in (sys.stdout, sys.stderr):
                with suppress(Exception):  # the process may be killed at any time from now on
                    stream.flush()

    def _class_of(self, kind: str) -> type[BaseRunnable]:
        """Imports the class of the task, and limits the memory from then on."""
        call = self._call
        if call.module != "__main__":  # which was imported, under another name, when the process started
            importlib.import_module(call.module)
        cls = REGISTRY.get(kind)
        if cls is None:
            raise UsageError(f"kind {kind} cannot run in a child process: its module {call.module} does not define it")
        cls.model_rebuild()
        self._shared.running_since = time.monotonic()
        _limit_memory(call.memory_limit)
        return cls


class _Execution(Execution):
    def _result_of(self, run: Run, error: BaseException) -> Result:
        _limit_memory(None)  # there may be none left to describe the error
        return super()._result_of(run, error)

    def _module_of(self, kind: str) -> str:
        cls = REGISTRY.get(kind)
        return "" if cls is None else cls.__module__


class _ChildRun(Run):
    """Holds what a run in this process knows of itself."""

    __slots__ = ("_shared",)

    def __init__(self, call: Call, shared: SharedMemory) -> None:
        self._shared = shared
        super().__init__(call.task, call.pool_id, call.retention_mode)

    @property
    def completed(self) -> bool:
        return self._shared.completed

    @completed.setter
    def completed(self, value: bool) -> None:
        self._shared.completed = value

    @property
    def lease(self) -> Lease:
        return self._shared.lease

    def progress(self, done: float, total: float | None = None, text: str = "") -> None:
        super().progress(done, total, text)
        if self.reported is not None and not self.over:  # a thread that is left of a former run tells nothing of this
            self._shared.reported = self.reported


def _limit_memory(limit: int | None) -> None:
    _, most = resource.getrlimit(_MEMORY)
    if limit is None or (most != resource.RLIM_INFINITY and limit > most):
        limit = most
    resource.setrlimit(_MEMORY, (limit, most))


# Called in the process, by name ---------------------------------------------------------------------------------------

_CHILD: Child


def begin(setup: bytes, shared: SharedMemory) -> None:
    """Is called first."""
    global _CHILD  # noqa: PLW0603 - one for the process
    os.setpgid(0, 0)  # neither Ctrl-C nor its like reach it, and the programs that it starts can be killed with it
    for number in SIGNALS:
        signal.signal(number, _ignore)  # not SIG_IGN, which these programs would inherit
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    _end_with_parent()
    _CHILD = Child(pickle.loads(setup), shared)


def perform(call: Call) -> Result:
    """Runs the task of a call; see ``Child.perform``."""
    return _CHILD.perform(call)


def _ignore(*_: object) -> None:
    """Does nothing: the pool decides when its children end."""


def _end_with_parent() -> None:
    """Has the system kill this process when its parent ends, even by SIGKILL, and whatever code runs here."""
    parent = parent_process()
    assert parent is not None
    ends = parent.sentinel  # of a pipe whose other end is the parent's alone
    if hasattr(fcntl, "F_SETSIG"):
        fcntl.fcntl(ends, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(ends, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(ends, fcntl.F_SETFL, fcntl.fcntl(ends, fcntl.F_GETFL) | os.O_ASYNC)
        if select.select([ends], [], [], 0)[0]:
            _die()
    else:
        threading.Thread(target=_die_at, args=(ends,), name="fang-parent", daemon=True).start()


def _die_at(ends: int) -> None:
    select.select([ends], [], [])
    _die()


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
