"""Represents one worker process to its supervisor."""

import os
import signal
import socket
from contextlib import suppress
from math import inf
from mmap import PAGESIZE
from pathlib import Path
from typing import Final, Self

from fang_cli.supervisor.report import Report
from fang_cli.supervisor.spawning import spawn
from fang_core.pool.base import EXIT_LATE

ENDS_WITHIN: Final = EXIT_LATE + 1.2
"""Seconds after its grace period at which a process that was told to stop is killed: by then it has ended itself,
unless none of its threads can run."""

STARTS_WITHIN: Final = 5.0
"""The same for a process that has not imported the application yet."""

LONGEST_REPORT: Final = 65_536
"""Bytes without the end of a line that are kept: a report is far shorter, so these are none."""

LEAVES_WITHIN: Final = 10.0
"""Seconds that an interpreter may take to end once all pools have stopped."""


class Process:
    """Runs from its start until the supervisor has reaped it. Times are seconds of the monotonic clock.

    Attributes:
        channel: the supervisor's end of the socket pair; closed if it can bring no more reports.
        number: of the place that it fills, from 1 on.
        generation: how many reloads had been asked for when it was started, or when one was given up.
        ready_at: when it was seen to be ready; infinite until then.
        report: its last report; None until it has imported the application.
        silent: for how many watched seconds it has not reported.
        tasks_limit: how many tasks it runs until it is replaced.
        memory_limit: the bytes above which it is replaced.
        is_stopping: whether the supervisor has told it to stop.
        is_killed: whether the supervisor has killed it.
    """

    def __init__(self, pid: int, channel: socket.socket, number: int, generation: int, now: float) -> None:
        self.pid = pid
        self.channel = channel
        self.channel.setblocking(False)
        self.number = number
        self.generation = generation
        self.started_at = now
        self.ready_at = inf
        self.report: Report | None = None
        self.silent = 0.0
        self.tasks_limit = self.memory_limit = inf
        self.is_killed = False
        self.is_stopping = False
        self._end_by = inf
        self._unread = b""

    @classmethod
    def start(cls, command: tuple[str, ...], number: int, generation: int, now: float) -> Self:
        """Starts a process. Raises ``OSError`` if there can be no more."""
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                pid = spawn(command, theirs, number)
        except BaseException:
            ours.close()
            raise
        return cls(pid, ours, number, generation, now)

    def __str__(self) -> str:
        return f"process {self.number}, pid {self.pid},"

    @property
    def is_ready(self) -> bool:
        """Returns whether its pools have started."""
        return self.report is not None and self.report.ready

    def read(self, now: float) -> bool:
        """Reads what it has reported; returns whether more may come."""
        try:
            data = self.channel.recv(65_536)
        except BlockingIOError:
            return True
        except OSError:
            return False
        *lines, unread = (self._unread + data).split(b"\n")
        self._unread = unread if len(unread) <= LONGEST_REPORT else b""
        for line in lines:
            with suppress(ValueError):  # if the application writes to descriptors that are not its own
                former, self.report = self.report, Report.read(line)
                self.silent = 0.0
                if self.report.leaving and not (former and former.leaving):
                    self._end_by = now + LEAVES_WITHIN
        return bool(data)

    def memory(self) -> int:
        """Returns the bytes of memory that it takes, as the kernel says; 0 if it has ended."""
        try:
            return int(Path(f"/proc/{self.pid}/statm").read_text("ascii").split()[1]) * PAGESIZE
        except (OSError, IndexError):
            return 0

    def stop(self, now: float) -> None:
        """Has it stop gracefully."""
        if not self.is_stopping:
            self.is_stopping = True
            grace = STARTS_WITHIN if self.report is None else self.report.grace_period + ENDS_WITHIN
            self._end_by = min(self._end_by, now + grace)
            self._send(signal.SIGTERM)

    def is_overdue(self, now: float) -> bool:
        """Returns whether it should have ended: it was told to stop, or its pools have stopped."""
        return now >= self._end_by

    def is_hung(self) -> bool:
        """Returns whether it has been ready, and silent for its lease: no thread of it has run any Python code."""
        report = self.report
        return report is not None and report.ready and not report.leaving and self.silent >= report.lease

    def kill(self) -> None:
        """Kills it. It is reaped later."""
        self.is_killed = True
        self._send(signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)  # it cannot be another one's: the supervisor has not reaped it yet
