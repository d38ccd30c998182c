"""SIGTERM before anything runs that has to be stopped in order: the command just ends, as process 1 too.

And signals that come while the command ends anyway. This module imports nothing that takes time.
"""

import atexit
import os
import signal
from time import monotonic
from typing import Final, NoReturn

ENDED_BY_SIGTERM: Final = 128 + signal.SIGTERM

_COUNTS_AGAIN_AFTER: Final = 1.0  # seconds, as for pools that run: see fang_core.signals
_COMMAND: Final[list[int]] = []  # the process that is one
_CAME: Final[list[int]] = []
_ENDS_SINCE: Final[list[float]] = []


class Ended(SystemExit):
    """SIGTERM has come. A SystemExit, which event loops do not keep to themselves."""


def end_at_sigterm() -> None:
    """Has SIGTERM end the command from now on, by ``Ended``; to be called before anything that takes time.

    The kernel has no default action for process 1, which a container's command often is: it would not notice a signal
    that comes while the libraries or the application are imported.
    """
    _COMMAND.append(os.getpid())
    atexit.register(_ignore_signals)  # the first that is registered is the last that is called
    if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _end)


def check_ended() -> None:
    """Raises ``Ended`` if it was raised before, in code that catches everything."""
    if _CAME:
        raise Ended


def end_in_peace() -> None:
    """The command ends now: SIGTERM and SIGINT do nothing for the next second. A later one ends the process.

    A process group and its supervisor send two within milliseconds. The second would turn a clean exit code into that
    of a signal, or leave a traceback.
    """
    if not _COMMAND:  # the process is another's
        return
    _ENDS_SINCE[:] = [monotonic()]
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end_unless_just_told)


def _end(number: int, _frame: object) -> NoReturn:
    _CAME.append(number)
    end_in_peace()
    raise Ended


def _end_unless_just_told(number: int, _frame: object) -> None:
    if monotonic() - _ENDS_SINCE[0] < _COUNTS_AGAIN_AFTER:
        return
    if os.getpid() == 1:  # for which the kernel has no default action
        os._exit(128 + number)
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)


def _ignore_signals() -> None:
    """Python gives all but ignored signals their default action before the process is gone."""
    if _ENDS_SINCE:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
