"""Represents a child process to its pool, which can call, kill and discard it."""

import atexit
import os
import signal
import threading
from concurrent.futures import Future
from contextlib import suppress
from weakref import WeakSet

from pebble import ProcessPool

from fang_core.lifecycle import Result
from fang_isolation import child
from fang_isolation.calls import Call
from fang_isolation.shared_memory import SharedMemory
from fang_isolation.spawning import OneProcess, no_keyboard_interrupt


class ChildProcess:
    """Runs one task at a time.

    Each has a ``ProcessPool`` of its own: the processes of one share a pipe and its locks, and one that is killed while
    it holds a lock would hold up all of them.

    Args:
        setup: the pickled ``Setup``.
    """

    def __init__(self, setup: bytes, *, with_main: bool) -> None:
        self._context = OneProcess(with_main=with_main)
        self._starting = threading.Lock()
        self.shared = SharedMemory(self._context)
        self._pool = ProcessPool(
            max_workers=1,
            initializer=child.begin,
            initargs=(setup, self.shared),
            context=self._context,
        )
        self.with_main = with_main
        self.calls = 0
        """How often it was called."""
        self._owner = os.getpid()
        _ALL.add(self)

    def start(self) -> None:
        """Starts the process, which may take a second; does nothing if it was started.

        Raises ``RuntimeError`` or ``OSError`` if it cannot be started, or was thrown away.
        """
        with self._starting, no_keyboard_interrupt():
            if not self._pool.active:  # which starts it
                raise RuntimeError("the child process has ended")

    def call(self, call: Call) -> Future[Result]:
        """Begins a call of the process, which was started. The future has the result; any exception in it means that
        the process has ended.

        Raises ``RuntimeError`` if the process has ended before.
        """
        self.calls = call.number
        self.shared.clear()
        return self._pool.schedule(child.perform, (call,))

    @property
    def pid(self) -> int | None:
        """Its id; None before it was started."""
        process = self._context.process
        return None if process is None else process.pid

    @property
    def exit_code(self) -> int | None:
        """Returns the exit code as multiprocessing does: negative for a signal; None if unknown, or while it lives."""
        process = self._context.process
        return None if process is None else process.exitcode

    @property
    def has_ended(self) -> bool:
        """Returns whether it cannot answer any more, once it was started."""
        return self.exit_code is not None or not self._pool.active

    def kill(self) -> None:
        """Kills it, with the programs that its run has started."""
        process = self._context.process
        if process is None or process.pid is None or process.exitcode is not None:
            return
        with suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        with suppress(OSError):  # it may not yet have a group of its own
            os.kill(process.pid, signal.SIGKILL)

    def throw_away(self) -> None:
        """Kills it, and has a thread clean up after it."""
        self.kill()
        with suppress(
            RuntimeError
        ):  # the system has no thread left: what is to clean up stays, the result of a run counts
            threading.Thread(target=self._clean_up, name="fang-child-ended", daemon=True).start()

    def _clean_up(self) -> None:
        with self._starting, suppress(RuntimeError):
            self._pool.stop()  # type: ignore[no-untyped-call]
            self._pool.join()


_ALL: WeakSet[ChildProcess] = WeakSet()


@atexit.register
def _kill_all() -> None:
    """Runs before Pebble asks each of them to end, and waits for three seconds."""
    for process in tuple(_ALL):
        if process._owner == os.getpid():
            process.kill()
