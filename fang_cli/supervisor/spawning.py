"""Starts worker processes, whose first words come over a socket pair. This module imports nothing that takes time."""

import os
import sys
from collections.abc import Mapping, Sequence
from socket import socket
from typing import Final

from fang_cli.supervisor.report import PROCESS, SUPERVISOR

_OF_SUPERVISORS: Final = frozenset({"FANG_PROCESSES", "FANG_MAX_TASKS", "FANG_MAX_MEMORY"})
"""Variables that make a process a supervisor."""


def worker_command(arguments: Sequence[str], *, is_reloading: bool) -> tuple[str, ...]:
    """Returns the command of a process that runs ``fang worker`` with these arguments."""
    # Bytecode is matched by the second in which a file was written: it may be that of a moment before.
    bytecode = ("-B",) if is_reloading else ()
    return (sys.executable, "-P", *bytecode, "-m", "fang_cli", "worker", *arguments)


def spawn(command: tuple[str, ...], theirs: socket, number: int, more: Mapping[str, str] | None = None) -> int:
    """Starts a process and returns its pid. Raises ``OSError`` if there can be no more.

    The process has a process group of its own: Ctrl-C in a terminal is for the supervisor. ``theirs`` is its end of
    the pair, and ``more`` are variables that it gets besides those of this process.
    """
    theirs.set_inheritable(True)
    ours = {name: value for name, value in os.environ.items() if name not in _OF_SUPERVISORS}
    return os.posix_spawn(
        command[0],
        command,
        {**ours, SUPERVISOR: str(theirs.fileno()), PROCESS: str(number), **(more or {})},
        file_actions=[(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)],
        setpgroup=0,
    )
