"""Defines what a process knows of its supervisor, and reports to it each second. Each report says everything, so that
the next one makes up for one that is lost."""

import json
import os
from typing import Final, NamedTuple, Self

SUPERVISOR: Final = "FANG_SUPERVISOR_FD"
"""The variable that gives a process the number of its descriptor, and that the process removes."""

PROCESS: Final = "FANG_PROCESS"
"""The variable that tells a process its number, from 1 on; an application may read it."""

STANDBY: Final = "FANG_STANDBY"
"""The variable that has a process wait for a word of its supervisor before it imports the application, and that the
process removes."""

EVERY: Final = 1.0
"""Seconds between two reports."""


def mark() -> str:
    """Returns the number of this process among those of a supervisor, as ``"[2] "``; an empty text without one."""
    number = os.environ.get(PROCESS)
    return f"[{number}] " if number else ""


class Report(NamedTuple):
    """One line on the socket.

    Attributes:
        ready: whether all pools have started.
        leaving: whether all pools have stopped, so that nothing but the end of the interpreter is left.
        ended_runs: how many runs have ended in this process.
        lease: the shortest lease of its pools, in seconds.
        grace_period: the longest grace period of its pools, in seconds.
        port: where it answers its supervisor about metrics and probes; 0 if it does not.
    """

    ready: bool
    leaving: bool
    ended_runs: int
    lease: float
    grace_period: float
    port: int = 0

    def line(self) -> bytes:
        """Returns it as a line of JSON."""
        return json.dumps(self._asdict()).encode() + b"\n"

    @classmethod
    def read(cls, line: bytes) -> Self:
        """Returns the report of a line, whatever else a later version has put into it. Raises ``ValueError``."""
        found = json.loads(line)
        try:
            given = {name: kind for name, kind in cls.__annotations__.items() if name in found or name != "port"}
            return cls(**{name: kind(found[name]) for name, kind in given.items()})
        except (KeyError, TypeError) as error:
            raise ValueError(f"no report: {line[:100]!r}") from error
