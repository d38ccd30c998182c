"""Serves the supervisor of a process of ``fang worker --processes``: reports to it, and stops when it has gone."""

import os
import select
import signal
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Self

from fang_cli.supervisor.report import EVERY, STANDBY, SUPERVISOR, Report
from fang_cli.worker.standing_by import stand_by
from fang_core.errors import UsageError
from fang_core.logs import SafeLogger

if TYPE_CHECKING:
    from fang_cli.targets import Target

logger = SafeLogger("fang_cli")

_GONE: Final = b""


class SupervisorLink:
    """The end of a process of the socket pair that it shares with its supervisor, and the thread that serves it.

    The thread needs nothing but the interpreter: if the supervisor hears nothing, C code holds the GIL, or the process
    is stopped. The pool's heart would be no such sign, since it may wait for a database that does not answer.
    """

    def __init__(self, descriptor: int, *, waits: bool = False) -> None:
        os.set_inheritable(descriptor, False)
        self._socket = socket.socket(fileno=descriptor)
        if waits:
            stand_by(self._socket)
        self._socket.setblocking(False)
        self._targets: Sequence[Target] = ()  # none before the application is imported
        self._is_ready = self._is_leaving = False
        self._port = 0
        self._on_gone: Callable[[], None] = _end
        threading.Thread(target=self._serve, name="fang-supervised", daemon=True).start()

    @classmethod
    def from_environment(cls) -> Self | None:
        """Returns the link of a process that a supervisor has started, when it may import the application; None in any
        other.

        Raises ``UsageError`` if the variable is there, and its descriptor is not.
        """
        descriptor, waits = os.environ.pop(SUPERVISOR, None), os.environ.pop(STANDBY, None)
        if descriptor is None:
            return None
        try:
            return cls(int(descriptor), waits=waits is not None)
        except (ValueError, OSError):
            raise UsageError(f"{SUPERVISOR} is set by `fang worker --processes` alone: unset it") from None

    def loaded(self, targets: Sequence["Target"], on_gone: Callable[[], None], *, port: int = 0) -> None:
        """Reports on these pools from now on, and at which port they answer.

        Calls ``on_gone``, on the link's thread, when the supervisor has gone. Before this call its end ends
        the process.
        """
        self._targets, self._on_gone, self._port = targets, on_gone, port
        self._report()

    def ready(self) -> None:
        """Reports that all pools have started."""
        self._is_ready = True
        self._report()

    def leaving(self) -> None:
        """Reports that all pools have stopped: while the interpreter ends, this thread is silent."""
        self._is_leaving = True
        self._report()

    def _serve(self) -> None:
        while not self._has_gone():
            if self._targets:
                self._report()
        logger.warning("the supervisor has gone: stopping")
        self._on_gone()

    def _has_gone(self) -> bool:
        """Waits for the next report, or for the end of the supervisor, which sends nothing."""
        if not select.select([self._socket], [], [], EVERY)[0]:
            return False
        try:
            return self._socket.recv(1) == _GONE
        except OSError:  # reset, with reports unread
            return True

    def _report(self) -> None:
        pools = [target.pool for target in self._targets]
        report = Report(
            self._is_ready,
            self._is_leaving,
            sum(pool.ended_runs for pool in pools),
            min(pool.options.lease for pool in pools).total_seconds(),
            max(pool.options.grace_period for pool in pools).total_seconds(),
            self._port,
        )
        with suppress(OSError):  # full, since the supervisor is stopped; or closed, which the next wait shows
            self._socket.send(report.line())


def _end() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
