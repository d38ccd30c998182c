"""Starts child processes, which inherit no thread, no socket and no object of the pool's."""

import io
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import forkserver, popen_forkserver, popen_spawn_posix, spawn, util
from multiprocessing.context import SpawnContext, SpawnProcess, reduction, set_spawning_popen  # type: ignore[attr-defined]
from types import FunctionType, SimpleNamespace
from typing import Any, Final

from fang_core.interpreter.forks import in_child
from fang_isolation.fork_server import ForkServer, Lifeline, is_readable, own_server

STATUS_WITHIN: Final = 1.0
"""Seconds that a server has to tell the exit code of a child that has ended."""

UNKNOWN: Final = 255
"""Stands for the exit code of a child if it is unknown, as in multiprocessing."""


class OneProcess(SpawnContext):
    """A context of multiprocessing that starts a single process, and then refuses to replace it.

    Pebble would replace a process that has died. As it cannot, it tells the run that waits, at the latest 0.1 s after
    the death, whatever the exit code was: of a process that ended with 0 under a run it would not speak otherwise.

    Args:
        with_main: whether the process imports the main module of this one, as multiprocessing does: only for tasks that
            are defined there. It runs a script again that does not ask for its ``__name__``.
    """

    def __init__(self, *, with_main: bool) -> None:
        self._with_main = with_main
        self.process: SpawnProcess | None = None

    def Process(self, *args: Any, **kwargs: Any) -> SpawnProcess:  # type: ignore[override]  # noqa: N802
        """Makes the process. Raises ``OSError`` the second time."""
        if self.process is not None:
            raise OSError("the child process has ended")
        self.process = _Process(self._with_main, *args, **kwargs)
        return self.process


class _Process(SpawnProcess):
    def __init__(self, with_main: bool, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.with_main = with_main

    @staticmethod
    def _Popen(process_obj: Any) -> Any:  # noqa: N802
        server, with_main = own_server(), process_obj.with_main
        if server.is_usable:
            with suppress(OSError):
                return _Forked(process_obj, server, with_main=with_main)
        started = popen_spawn_posix.Popen(process_obj) if with_main else _Spawned(process_obj)
        in_child(started, _let_go)
        return started


def _let_go(started: Any) -> None:
    """Closes the pipe of a child in a process that the application has forked; see ``Lifeline``."""
    for each in started.finalizer._args or ():
        os.close(each)


def _preparation_without_main(name: str) -> dict[str, Any]:
    prepared = spawn.get_preparation_data(name)
    return {key: value for key, value in prepared.items() if not key.startswith("init_main_")}


_SPAWN = SimpleNamespace(**{**vars(spawn), "get_preparation_data": _preparation_without_main})


class _Spawned(popen_spawn_posix.Popen):
    """Starts an interpreter that leaves the main module alone: Python has no option for that."""

    _launch = FunctionType(
        popen_spawn_posix.Popen._launch.__code__,  # type: ignore[attr-defined]
        {**vars(popen_spawn_posix), "spawn": _SPAWN},
    )


class _Forked(popen_forkserver.Popen):
    """A process that the server of the pool has forked off.

    It is watched by a descriptor of its own, and not by the server's word: so it lives on if that is killed.
    """

    _fds: list[int]  # what the pickled process refers to

    def __init__(self, process_obj: Any, server: ForkServer, *, with_main: bool) -> None:
        self._server = server
        self._with_main = with_main
        self._polling = threading.Lock()
        super().__init__(process_obj)

    def _launch(self, process_obj: Any) -> None:
        prepare = spawn.get_preparation_data if self._with_main else _preparation_without_main
        data = io.BytesIO()
        set_spawning_popen(self)
        try:
            reduction.dump(dict(os.environ), data)
            reduction.dump(prepare(process_obj._name), data)
            reduction.dump(process_obj, data)
        finally:
            set_spawning_popen(None)
        (self.pid, self.sentinel, self._status), alive = self._server.fork(data.getvalue(), self._fds)
        self.finalizer = util.Finalize(self, _close, (alive, self.sentinel, self._status))

    def poll(self, flag: int = os.WNOHANG) -> int | None:
        """Returns the exit code, or None while the process lives; waits for it without ``WNOHANG``."""
        with self._polling:
            if self.returncode is None and is_readable(self.sentinel, 0 if flag == os.WNOHANG else None):
                self.returncode = self._exit_code()
            return self.returncode

    def _exit_code(self) -> int:
        if is_readable(self._status, STATUS_WITHIN):
            with suppress(OSError, EOFError):
                code: int = forkserver.read_signed(self._status)
                return code
        return UNKNOWN


def _close(alive: Lifeline, *descriptors: int) -> None:
    alive.close()
    for each in descriptors:
        os.close(each)


@contextmanager
def no_keyboard_interrupt() -> Iterator[None]:
    """Makes processes started meanwhile begin with SIGINT blocked, until they have their own handlers."""
    former = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)
