"""Ends the command at SIGTERM while nothing runs that must be stopped in order, as process 1 too.

Also handles signals that come while the command ends anyway, and holds those that come before a supervisor can take
them. This module imports nothing that takes time.
"""

import atexit
import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any, Final, NoReturn

ENDED_BY_SIGTERM: Final = 128 + signal.SIGTERM

HELD: Final = () if sys.platform == "win32" else (signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU)
"""The signals that control the supervisor of ``fang worker --processes``; their default action would end or stop it."""

_COUNTS_AGAIN_AFTER: Final = 1.0  # seconds, as for running pools: see fang_core.pool.signals
_COMMAND: Final[list[int]] = []  # the pid of the command's process
_CAME: Final[list[int]] = []
_ENDS_SINCE: Final[list[float]] = []


class Ended(SystemExit):
    """Raised when SIGTERM has come. A SystemExit, since event loops let that through."""


def end_at_sigterm() -> None:
    """Makes SIGTERM end the command from now on, by ``Ended``; call it before anything that takes time.

    A Ctrl-C that Python cannot raise is remembered for ``check_ended``, too.

    The kernel has no default action for process 1, which a container's command often is: a signal that comes while the
    libraries or the application are imported would have no effect.
    """
    _COMMAND.append(os.getpid())
    sys.unraisablehook = partial(_tell_of_unraisable, sys.unraisablehook)
    atexit.register(_ignore_signals)  # the first function registered is the last one called
    if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _end)


def hold_signals() -> None:
    """Holds the signals that tell a supervisor something, until ``let_signals_in`` is called.

    They may come before the command knows whether it is a supervisor, and its libraries take time to import.
    """
    if HELD:
        signal.pthread_sigmask(signal.SIG_BLOCK, HELD)


def let_signals_in() -> None:
    """Lets in the signals that were held, those too that have come meanwhile."""
    if HELD:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD)


def check_ended() -> None:
    """Raises ``Ended`` again if it was raised before, in code that caught it, or a Ctrl-C that could not be raised."""
    if _CAME:
        raise KeyboardInterrupt if _CAME[-1] == signal.SIGINT else Ended


def end_in_peace() -> None:
    """Ignores SIGTERM and SIGINT for the next second, as the command ends now. A later one ends the process.

    A process group and its supervisor send two signals within milliseconds. The second would turn a clean exit code
    into that of a signal, or leave a traceback.
    """
    if not _COMMAND:  # the process is not the command's
        return
    _ENDS_SINCE[:] = [monotonic()]
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end_unless_just_told)


def _end(number: int, _frame: object) -> NoReturn:
    _CAME.append(number)
    end_in_peace()
    raise Ended


def _tell_of_unraisable(tell: Callable[[Any], object], unraisable: Any) -> None:
    """Says nothing of a signal's error that could not be raised, as in the callback of a weak reference: the command
    ends when ``check_ended`` is called."""
    if unraisable.exc_type is KeyboardInterrupt:
        _CAME.append(signal.SIGINT)
    elif unraisable.exc_type is not Ended:
        tell(unraisable)


def _end_unless_just_told(number: int, _frame: object) -> None:
    if monotonic() - _ENDS_SINCE[0] < _COUNTS_AGAIN_AFTER:
        return
    if os.getpid() == 1:  # for which the kernel has no default action
        os._exit(128 + number)
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)


def _ignore_signals() -> None:
    """Ignores them: Python gives all but ignored signals their default action before the process is gone."""
    if _ENDS_SINCE:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
