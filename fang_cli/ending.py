"""SIGTERM before anything runs that has to be stopped in order: the command just ends, as process 1 too."""

import signal
from typing import Final, NoReturn

ENDED_BY_SIGTERM: Final = 128 + signal.SIGTERM


class Ended(SystemExit):
    """SIGTERM has come. A SystemExit, which event loops do not keep to themselves."""


def end_at_sigterm() -> None:
    """Has SIGTERM end the command from now on, by ``Ended``; to be called before anything that takes time.

    The kernel has no default action for process 1, which a container's command often is: it would not notice a signal
    that comes while the libraries or the application are imported.
    """
    if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _end)


def check_ended() -> None:
    """Raises ``Ended`` if it was raised before, in code that catches everything."""
    if _CAME:
        raise Ended


_CAME: Final[list[int]] = []


def _end(number: int, _frame: object) -> NoReturn:
    _CAME.append(number)
    raise Ended
