"""Ends the command at SIGTERM while nothing runs that must be stopped in order, as process 1 too.

Also handles signals that come while the command ends anyway, and holds those that come before a supervisor can take
them. This module imports nothing that takes time.

While an application is imported its code may catch the exception of a signal, such as by an ``except BaseException``
that is there for something else, and go on for minutes. So the exception is raised again, unless that code cleans up;
in the end the process ends without it.
"""

import _thread
import atexit
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from time import monotonic, sleep
from typing import Any, Final, NoReturn

from fang_cli.exit_codes import INTERRUPTED

ENDED_BY_SIGTERM: Final = 128 + signal.SIGTERM

HELD: Final = () if sys.platform == "win32" else (signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU)
"""The signals that control the supervisor of ``fang worker --processes``; their default action would end or stop it."""

_COUNTS_AGAIN_AFTER: Final = 1.0  # seconds, as for running pools: see fang_core.pool.signals
_GOES_ON_FOR: Final = 0.4
"""How long an import may go on, in seconds, after it has caught the exception: most are over then, and end in order."""
_CLEANS_UP_FOR: Final = 5.0
"""How long it may handle the exception."""
_RAISED_AGAIN: Final = 2
_COMMAND: Final[list[int]] = []  # the pid of the command's process
_EXIT_CODES: Final[dict[int, int]] = {signal.SIGINT: INTERRUPTED}
_CAME: Final[list[int]] = []
_ENDS_SINCE: Final[list[float]] = []
_IMPORTS: Final[list[int]] = []  # the thread that imports an application
_AGAIN: Final[list[int]] = []  # a signal of ours that is on its way to that thread


class Ended(SystemExit):
    """Raised when SIGTERM has come. A SystemExit, since event loops let that through."""


def end_at_sigterm(exit_code: int = ENDED_BY_SIGTERM) -> None:
    """Makes SIGTERM end the command from now on, by ``Ended``; call it before anything that takes time.

    A Ctrl-C that Python cannot raise is remembered for ``check_ended``, too.

    The kernel has no default action for process 1, which a container's command often is: a signal that comes while the
    libraries or the application are imported would have no effect.
    """
    _COMMAND.append(os.getpid())
    _EXIT_CODES[signal.SIGTERM] = exit_code
    sys.unraisablehook = partial(_tell_of_unraisable, sys.unraisablehook)
    atexit.register(_ignore_signals)  # the first function registered is the last one called
    if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _end)


@contextmanager
def insisting() -> Iterator[None]:
    """Makes SIGTERM and Ctrl-C end the command while the block imports an application, which may catch what they raise.

    Does nothing unless the process is the command's.
    """
    if os.getpid() not in _COMMAND:
        yield
        return
    _IMPORTS.append(_thread.get_ident())
    is_taken = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if is_taken:
        signal.signal(signal.SIGINT, _end)
    try:
        yield
    finally:
        _IMPORTS.clear()
        if is_taken and signal.getsignal(signal.SIGINT) is _end:
            signal.signal(signal.SIGINT, signal.default_int_handler)


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
        raise _error_of(_CAME[-1])


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
    if _IMPORTS:
        _thread.start_new_thread(_insist, (number, _IMPORTS[0]))  # threading might wait for a lock of who was stopped
    raise _error_of(number)


def _error_of(number: int) -> BaseException:
    return KeyboardInterrupt() if number == signal.SIGINT else Ended(_EXIT_CODES[number])


def _insist(number: int, thread: int) -> None:
    """Raises the signal's exception again in the thread if it goes on with its import. Ends the process in the end."""
    for times_left in reversed(range(_RAISED_AGAIN + 1)):
        since = monotonic()
        while monotonic() - since < (_CLEANS_UP_FOR if _is_handled(thread) else _GOES_ON_FOR):
            sleep(0.05)
            if not _IMPORTS:
                return
        if times_left:
            _AGAIN[:] = [number]
            _send(number, thread)
    if number == signal.SIGINT:
        os.write(2, b"interrupted\n")  # sys.stderr may be locked
    os._exit(_EXIT_CODES[number])


def _is_handled(thread: int) -> bool:
    """Returns whether the thread is in an ``except`` or a ``finally`` that the exception of a signal has led to."""
    found: Any = sys._current_exceptions().get(thread)
    error: BaseException | None = found[1] if isinstance(found, tuple) else found  # Python 3.11 has tuples
    for _ in range(100):  # contexts that were set by hand may be a ring
        if error is None or isinstance(error, KeyboardInterrupt | Ended):
            break
        error = error.__context__
    return error is not None


def _send(number: int, thread: int) -> None:
    if sys.platform == "win32":
        _thread.interrupt_main(number)
    else:
        signal.pthread_kill(thread, number)  # which ends a sleep, too


def _tell_of_unraisable(tell: Callable[[Any], object], unraisable: Any) -> None:
    """Says nothing of a signal's error that could not be raised, as in the callback of a weak reference: the command
    ends when ``check_ended`` is called."""
    if unraisable.exc_type is KeyboardInterrupt:
        _CAME.append(signal.SIGINT)
    elif unraisable.exc_type is not Ended:
        tell(unraisable)


def _end_unless_just_told(number: int, _frame: object) -> None:
    if _AGAIN:
        _AGAIN.clear()
        if _IMPORTS:
            raise _error_of(number)
        return
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
