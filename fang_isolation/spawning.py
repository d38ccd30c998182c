"""Starts child processes: each is a new interpreter, which inherits no thread and no socket of the pool's."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import popen_spawn_posix, spawn
from multiprocessing.context import SpawnContext, SpawnProcess
from types import FunctionType, SimpleNamespace
from typing import Any


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
        self.process = SpawnProcess(*args, **kwargs) if self._with_main else _Process(*args, **kwargs)
        return self.process


class _Process(SpawnProcess):
    @staticmethod
    def _Popen(process_obj: Any) -> Any:  # noqa: N802
        return _Popen(process_obj)


def _preparation_without_main(name: str) -> dict[str, Any]:
    prepared = spawn.get_preparation_data(name)
    return {key: value for key, value in prepared.items() if not key.startswith("init_main_")}


_SPAWN = SimpleNamespace(**{**vars(spawn), "get_preparation_data": _preparation_without_main})


class _Popen(popen_spawn_posix.Popen):
    """Starts an interpreter that leaves the main module alone: Python has no option for that."""

    _launch = FunctionType(
        popen_spawn_posix.Popen._launch.__code__,  # type: ignore[attr-defined]
        {**vars(popen_spawn_posix), "spawn": _SPAWN},
    )


@contextmanager
def no_keyboard_interrupt() -> Iterator[None]:
    """Has a process that is started meanwhile begin with SIGINT blocked, until it has its own handlers."""
    former = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)
