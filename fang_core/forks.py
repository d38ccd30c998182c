"""What a process that was forked, without exec, must not do with what it has a copy of.

Of the parent's threads none goes on in it, and of the parent's connections the sockets are the same: one that speaks on
them speaks for the parent, and one that merely keeps them keeps the server from seeing that the parent has died.
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

# By identity: a subclass of ours may compare by value, or have no hash.
_COUNTS = {"begun": 0, "ended": 0}  # of forks; Python code of other threads may run in between
_OWNERS: dict[int, tuple[Callable[[], Any], Callable[[Any], None]]] = {}


def in_child(owner: T, act: Callable[[T], None]) -> None:
    """Has ``act(owner)`` called in each child that is forked while the owner is there, before anything else runs in it.

    It must take no lock: in the child whoever held that will never let it go.
    """
    number = id(owner)
    _OWNERS[number] = (ref(owner, lambda _: _OWNERS.pop(number, None)), act)


class ForkWatch:
    """Tells whether this process was forked while something was under way in it that no owner stands for yet."""

    def __init__(self) -> None:
        self._begun, self._is_forking = _COUNTS["begun"], _COUNTS["begun"] != _COUNTS["ended"]

    def has_forked(self) -> bool:
        """Returns whether a child may have a copy of what was made since the watch was."""
        return self._is_forking or self._begun != _COUNTS["begun"]


def end_if_child(parent: int, error: BaseException | None = None) -> None:
    """Ends this process, at once, where it is not the parent, but a child into which a run was copied that has ended.

    Else the child would go on as a worker, and run its copies of what waits in the parent. The exit code is that of a
    ``SystemExit``, 1 after any other error, else 0.
    """
    if os.getpid() == parent:
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


def _forked() -> None:
    # A list, so that each stays until all have been told: asyncpg finalizes a connection by taking its socket out of
    # the epoll, which is the parent's as well; once the socket is another, that is in vain.
    _COUNTS["ended"] = _COUNTS["begun"]  # the forks of other threads are the parent's
    owners = [(find(), act) for find, act in list(_OWNERS.values())]
    for owner, act in owners:
        with suppress(Exception):  # the others' turn comes all the same
            act(owner)


def _count(what: str) -> None:
    _COUNTS[what] += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=partial(_count, "begun"), after_in_parent=partial(_count, "ended"), after_in_child=_forked
    )
