"""Receives signals as a file does: a supervisor waits for them together with its processes."""

import os
import signal
from typing import Final, Self

from fang_cli.ending import HELD, let_signals_in

HANDLED: Final = (
    signal.SIGTERM,
    signal.SIGINT,
    *HELD,
    signal.SIGCHLD,
)


class SignalInbox:
    """Handles these signals while it is entered, in the main thread: they only end a wait for ``fileno()``."""

    def __enter__(self) -> Self:
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)
        self._former_wakeup = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        self._former = {number: signal.signal(number, _ignored) for number in HANDLED}
        let_signals_in()
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._former_wakeup)
        os.close(self._read)
        os.close(self._write)

    def fileno(self) -> int:
        """Returns the descriptor that is readable when a signal has come."""
        return self._read

    def take(self) -> list[int]:
        """Returns the signals that have come since the last call, each time that one came."""
        try:
            return list(os.read(self._read, 65_536))  # a byte for each
        except BlockingIOError:
            return []


def _ignored(_number: int, _frame: object) -> None:
    """Stands in for the default action. The wake-up descriptor has the signal."""
