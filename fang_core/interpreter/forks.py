"""Keeps a process that was forked, without exec, from using its copies of the parent's connections and threads.

None of the parent's threads goes on in the child, but the sockets of the parent's connections are shared: a child that
writes to them speaks for the parent, and one that only keeps them open hides the parent's death from the server.
"""

import os
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar
from weakref import ref

T = TypeVar("T")

_COUNTS = {"begun": 0, "ended": 0}  # counts forks; Python code of other threads may run between begin and end
_PROCESS = [os.getpid()]  # its number, which runs compare: to ask the system for it takes longer
# Keyed by identity: a subclass of one of our classes may compare by value, or have no hash.
_OWNERS: dict[int, tuple[Callable[[], Any], Callable[[Any], None]]] = {}


def in_child(owner: T, act: Callable[[T], None]) -> None:
    """Calls ``act(owner)`` in each child that is forked while the owner lives, before other Python code runs in it.

    ``act`` must take no lock: the thread that holds it does not exist in the child, and will never release it.
    """
    number = id(owner)
    _OWNERS[number] = (ref(owner, lambda _: _OWNERS.pop(number, None)), act)


class ForkWatch:
    """Tells whether this process was forked while an object was being made that has not called ``in_child`` yet."""

    def __init__(self) -> None:
        self._begun, self._is_forking = _COUNTS["begun"], _COUNTS["begun"] != _COUNTS["ended"]

    def has_forked(self) -> bool:
        """Returns whether a child may have a copy of an object that was made since this watch was."""
        return self._is_forking or self._begun != _COUNTS["begun"]


def process_number() -> int:
    """Returns the number of this process, for ``end_if_child``."""
    return _PROCESS[0]


def end_if_child(parent: int, error: BaseException | None = None) -> None:
    """Ends this process at once if a run has forked it: then it is a child in which the copy of that run has ended.

    Otherwise the child would go on as a worker, and run its copies of the tasks that wait in the parent. The exit code
    is that of a ``SystemExit``, 1 after any other error, otherwise 0.
    """
    if _PROCESS[0] == parent:
        return
    code: Any = 0
    if isinstance(error, SystemExit):
        code = error.code or 0
    elif error is not None:
        code = 1
        with suppress(Exception):
            traceback.print_exception(error)
    with suppress(Exception):
        sys.stderr.flush()
    os._exit(code & 0xFF if isinstance(code, int) else 1)


def imports_main() -> bool:
    """Returns whether this process is a child of multiprocessing that is importing the main module of its parent."""
    process = sys.modules.get("multiprocessing.process")
    return process is not None and getattr(process.current_process(), "_inheriting", False)


def _forked() -> None:
    _PROCESS[0] = os.getpid()
    # A list keeps each owner alive until all have been called: asyncpg finalizes a connection by taking its socket out
    # of the epoll, which the parent shares; once the socket has been replaced, that has no effect.
    _COUNTS["ended"] = _COUNTS["begun"]  # forks that other threads have begun happen in the parent only
    owners = [(find(), act) for find, act in list(_OWNERS.values())]
    for owner, act in owners:
        with suppress(Exception):  # the remaining owners must still be called
            act(owner)


def _count(what: str) -> None:
    _COUNTS[what] += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=partial(_count, "begun"), after_in_parent=partial(_count, "ended"), after_in_child=_forked
    )
