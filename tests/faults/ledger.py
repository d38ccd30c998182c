"""What runs and producers say of themselves, in files outside of Postgres.

Each line is one ``write(2)`` to a file opened with O_APPEND, so that lines of many processes never mix, and what was
written before a SIGKILL is there. Times are CLOCK_MONOTONIC, which on one machine is the same for all processes.
"""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple
from uuid import UUID

from fang_core.lifecycle import Snooze
from fang_core.record import ClaimedTask
from fang_core.runs.run import current_run

Event = Literal["start", "completing", "ok", "failed", "snoozed", "cancelled", "stuck", "died"]
"""``completing``: the run is about to complete its task in a transaction of its own. ``cancelled`` is a run that a
CancelledError has left: the pool's at its stop, or its own. ``stuck``: its pool gave it up, and it goes on.
``died``: its pool says that the child process died that it was in."""


class Entry(NamedTuple):
    """One line of the ledger: a run has started, is completing its task, or has ended in one of four ways.

    ``transaction`` is the one that it completes its task in.
    """

    task: UUID
    attempt: int
    event: Event
    at: float
    pid: int
    pool: UUID | None
    transaction: int | None = None


class Acknowledgement(NamedTuple):
    """A producer was told that its insert stands; or it does not know (``known`` false)."""

    task: UUID
    known: bool
    at: float


class Appender:
    """Appends JSON lines; made before a fork or after, by any number of processes."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def append(self, *values: Any) -> None:
        line = json.dumps(values, default=str).encode() + b"\n"
        written = os.write(self._descriptor, line)
        assert written == len(line)

    def close(self) -> None:
        os.close(self._descriptor)


class Ledger:
    """The runs' file. ``pool_id`` says which pool this process runs at the moment."""

    def __init__(self, path: Path, pool_id: Callable[[], UUID | None]) -> None:
        self._appender = Appender(path)
        self._pool_id = pool_id

    def write(self, event: Event, transaction: int | None = None) -> None:
        """Of the run that this is called in."""
        self.write_of(current_run().task, event, transaction)

    def write_of(self, task: ClaimedTask, event: Event, transaction: int | None = None) -> None:
        """Of any run of this process."""
        now = time.monotonic()
        self._appender.append(task.id, task.attempt, event, now, os.getpid(), self._pool_id(), transaction)

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """A run, from its start to its end; nothing is written at the end where the process dies in between."""
        self.write("start")
        try:
            yield
            self.write("ok")  # in here: a run that is interrupted before it returns has another last word
        except Snooze:
            self.write("snoozed")
            raise
        except BaseException as error:
            self.write("cancelled" if type(error).__name__ == "CancelledError" else "failed")
            raise


class Acknowledgements:
    """The producers' file."""

    def __init__(self, path: Path) -> None:
        self._appender = Appender(path)

    def write(self, task: UUID, *, known: bool = True) -> None:
        self._appender.append(task, known, time.monotonic())

    def close(self) -> None:
        self._appender.close()


def read_ledger(path: Path) -> list[Entry]:
    return [
        Entry(UUID(task), attempt, event, at, pid, UUID(pool) if pool else None, transaction)
        for task, attempt, event, at, pid, pool, transaction in _lines(path)
    ]


def read_acknowledgements(path: Path) -> list[Acknowledgement]:
    return [Acknowledgement(UUID(task), known, at) for task, known, at in _lines(path)]


def _lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []
