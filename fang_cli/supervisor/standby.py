"""Starts a worker process ahead of its database, so that it has imported its libraries when the tables are there.

The process imports the application on request, with the variables as they are then; see
``fang_cli.worker.standing_by``. This module imports nothing that takes time.
"""

import json
import os
import signal
import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, Self

from fang_cli.supervisor.report import STANDBY
from fang_cli.supervisor.spawning import spawn, worker_command

NUMBER: Final = 1
"""The place that the process fills."""


class Standby:
    """A process of ``fang worker`` that waits while the block is entered, and ends with it unless it was told to go.

    Args:
        arguments: of ``fang worker``.
    """

    def __init__(self, arguments: Sequence[str]) -> None:
        self._command = worker_command(arguments, is_reloading=True)
        self._environment = dict(os.environ)
        self._pid: int | None = None

    def __enter__(self) -> Self:
        self._channel, theirs = socket.socketpair()
        # If there can be no more processes, the supervisor tells of it when it needs one.
        with theirs, suppress(OSError):
            self._pid = spawn(self._command, theirs, NUMBER, {STANDBY: "1"})
        return self

    def __exit__(self, *_: object) -> None:
        if self._pid is None:
            return
        self._channel.close()
        with suppress(ChildProcessError):  # the supervisor has reaped it; its number may be another process' by now
            if os.waitpid(self._pid, os.WNOHANG)[0] == 0:
                os.kill(self._pid, signal.SIGTERM)
                os.waitpid(self._pid, 0)

    def take(self, command: tuple[str, ...], number: int) -> tuple[int, socket.socket] | None:
        """Tells the process to import the application, and gives it away: its pid, and the supervisor's socket.

        Returns None if no process was started for this command and place, or if it has ended or was given away.
        """
        if self._pid is None or number != NUMBER or command != self._command:
            return None
        changed = {name: value for name, value in os.environ.items() if self._environment.get(name) != value}
        try:
            self._channel.sendall(json.dumps(changed).encode() + b"\n")
        except OSError:  # it has ended
            return None
        pid, self._pid = self._pid, None
        return pid, self._channel
