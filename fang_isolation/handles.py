"""Defines the queue that the runs of a child get: one of their own, which connects when it is used."""

import pickle
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn

from fang_core.errors import UsageError


def handle_of(queue: Any) -> Callable[[], Any]:
    """Returns a function that makes the queue of a child's runs, and can be pickled."""
    make = getattr(queue, "recipe", None)
    if make is None:
        return partial(NoQueue, "the queue of this pool has no address that a child process could connect to")
    try:
        pickle.dumps(make)
    except Exception as error:  # noqa: BLE001 - such as a password= that is no function of a module
        return partial(
            NoQueue, f"an argument of this pool's queue cannot go to a child process ({type(error).__name__})"
        )
    return make  # type: ignore[no-any-return]


class NoQueue:
    """Stands in for a queue that cannot be used in a child process."""

    def __init__(self, why: str) -> None:
        self._why = why

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        raise UsageError(f"{self._why}: give the pool a queue that was made from a URL, or do without it in this run")
