"""Worker processes of either mode: started, signalled, restarted, and looked at through /proc."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

from fang_core.tasks.registry import Mode
from tests.faults.nursery import Nursery

START_SECONDS: Final = 60.0


class Vitals(NamedTuple):
    """What a process holds, as /proc says."""

    descriptors: int
    threads: int
    kilobytes: int


class Worker:
    """One process that runs a pool."""

    def __init__(self, nursery: Nursery, mode: Mode, given: dict[str, Any], log: Path, slack: float) -> None:
        self._nursery = nursery
        self._slack = slack
        self.mode = mode
        self.given = given
        self.log = log
        self.pid = nursery.start({**given, "mode": mode, "log": str(log)})

    @property
    def exit_code(self) -> int | None:
        """None while it runs; that of a signal is negative."""
        while self._nursery.hear(0):
            pass
        return self._nursery.ended.get(self.pid)

    def await_ready(self) -> "Worker":
        self._until(lambda: self.pid in self._nursery.ready or self.pid in self._nursery.ended, START_SECONDS)
        assert self.exit_code is None, f"a worker ended with {self.exit_code} before it was ready:\n{self.said()}"
        return self

    def ends(self, within: float) -> int:
        """Its exit code, once it has one."""
        assert self._until(lambda: self.pid in self._nursery.ended, within + self._slack), (
            f"a worker still ran after {within} s:\n{self.said()}"
        )
        return self._nursery.ended[self.pid]

    def send(self, number: signal.Signals) -> None:
        if self.exit_code is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Returns when it has ended."""
        self.send(signal.SIGKILL)
        self.ends(60)

    def said(self) -> str:
        """Its log so far."""
        return self.log.read_text() if self.log.exists() else ""

    def vitals(self) -> Vitals:
        """All zero once it has ended."""
        process = Path("/proc", str(self.pid))
        try:
            status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
            kilobytes = int(status["VmRSS"].split()[0])
            return Vitals(len(list((process / "fd").iterdir())), int(status["Threads"]), kilobytes)
        except (KeyError, OSError):
            return Vitals(0, 0, 0)

    def _until(self, holds: Callable[[], bool], within: float) -> bool:
        deadline = time.monotonic() + within
        while not holds():
            if not self._nursery.hear(deadline - time.monotonic()):
                return holds()
        return True


class Fleet:
    """The workers of one fault. None of them outlives it."""

    def __init__(self, nursery: Nursery, directory: Path, given: dict[str, Any], slack: float = 0.0) -> None:
        self._nursery = nursery
        self._slack = slack
        self._directory = directory
        self.given = {**given, "directory": str(directory)}
        """For all that are started from now on."""
        self.workers: list[Worker] = []

    def start(self, mode: Mode, *, nursery: Nursery | None = None, **given: Any) -> Worker:
        """One more, from a nursery of its own if one is given; it is not ready yet.

        ``given`` is what ``worker.Given`` has, beyond what the fleet gives to all.
        """
        log = self._directory / f"worker-{len(self.workers)}.log"
        self.workers.append(Worker(nursery or self._nursery, mode, {**self.given, **given}, log, self._slack))
        return self.workers[-1]

    @property
    def alive(self) -> list[Worker]:
        return [worker for worker in self.workers if worker.exit_code is None]

    def stop(self, within: float = 30) -> list[int]:
        """SIGTERM to all; the exit codes of those that were alive."""
        alive = self.alive
        for worker in alive:
            worker.send(signal.SIGTERM)
        return [worker.ends(within) for worker in alive]

    def close(self) -> None:
        for worker in self.alive:
            worker.kill()
