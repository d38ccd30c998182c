"""A group of processes that is told the time; no process runs."""

import signal
import socket

from fang_cli.supervisor.process import Process
from fang_cli.supervisor.process_group import Limits, ProcessGroup
from fang_cli.supervisor.report import Report

LEASE, GRACE = 60.0, 25.0


class Fake(Process):
    """A process that notes the signals that it is sent, and takes as much memory as it is told to."""

    def __init__(self, pid: int, number: int, generation: int, now: float) -> None:
        ours, self.theirs = socket.socketpair()
        super().__init__(pid, ours, number, generation, now)
        self.sent: list[signal.Signals] = []
        self.taken = 0

    def _send(self, number: signal.Signals) -> None:
        self.sent.append(number)

    def memory(self) -> int:
        return self.taken

    def tells(
        self, *, ready: bool = True, leaving: bool = False, ended_runs: int = 0, now: float = 0.0, port: int = 0
    ) -> None:
        self.theirs.sendall(Report(ready, leaving, ended_runs, LEASE, GRACE, port).line())
        assert self.read(now)

    def close(self) -> None:
        self.theirs.close()
        self.channel.close()


class Told:
    """A group that is told the time, and each process that it has started, in order."""

    def __init__(self, processes: int, limits: Limits, *, is_reloading: bool = False) -> None:
        self.now = 1000.0
        self.started: list[Fake] = []
        self.fails = False
        self.group = ProcessGroup(self._spawn, processes, limits, is_reloading=is_reloading)

    def _spawn(self, number: int, generation: int, now: float) -> Process:
        if self.fails:
            raise OSError("no more processes")
        self.started.append(Fake(100 + len(self.started), number, generation, now))
        return self.started[-1]

    def look(self, seconds: float = 0.5, watched: float | None = None) -> None:
        self.now += seconds
        self.group.look(self.now, seconds if watched is None else watched)

    def starts(self) -> list[Fake]:
        """Those that one look starts."""
        before = len(self.started)
        self.look()
        return self.started[before:]

    def ends(self, process: Fake, code: int = 0) -> None:
        assert self.group.ended(process.pid, code, self.now) is process

    def all_ready(self) -> list[Fake]:
        """Starts all, and has them report that they are ready."""
        started = self.starts()
        for process in started:
            process.tells()
        self.look()
        return started


def replaces(told: Told, old: Fake) -> Fake:
    """Sees a whole replacement through: at each of its steps nothing else may happen."""
    (new,) = told.starts()
    assert new.number == old.number
    assert old.sent == []
    assert told.starts() == []
    new.tells()
    assert told.starts() == []
    assert old.sent == [signal.SIGTERM]
    told.look(20)
    told.ends(old)
    return new
