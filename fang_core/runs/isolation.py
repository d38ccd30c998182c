"""Imports ``fang_isolation``, which runs tasks in child processes, when a pool first needs it."""

import pickle
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from importlib.util import find_spec
from threading import Lock, Thread
from typing import Any, Protocol, TypeAlias

from fang_core.config import PoolOptions
from fang_core.errors import MissingExtra, UsageError
from fang_core.lifecycle import NOT_RUN, Failure, Result
from fang_core.logs import SafeLogger
from fang_core.runs.run import Run
from fang_core.tasks.runnable import BaseRunnable

logger = SafeLogger("fang_core")


class Isolation(Protocol):
    """Runs tasks of one lifetime of a pool in child processes."""

    def perform(self, run: Run, cls: type[BaseRunnable]) -> Result:
        """Runs a task of this class in a child, and waits for the result.

        Raises ``Interrupted`` if the run was interrupted, and so its child killed.
        """
        ...

    async def perform_async(self, run: Run, cls: type[BaseRunnable]) -> Result:
        """Does the same on an event loop; the child is killed if the caller is cancelled."""
        ...

    def close(self) -> None:
        """Ends the children that are left."""
        ...


Aside: TypeAlias = Callable[[Callable[[], None], str], Awaitable[None]]
"""Does what takes long, in a thread of this name if an event loop would wait for it; see ``Runtime.aside``."""


class Isolates:
    """Knows which tasks a pool runs in child processes, and makes the isolation when the first of them runs.

    These are the tasks of classes with ``isolation="process"``, and suspects of all classes that a child can import, if
    their runs would lack nothing there that they have in the pool.

    Args:
        make: imports and makes the isolation; raises ``MissingExtra`` or ``UsageError`` if it cannot be used.
        aside: calls that where no event loop waits for it.
        takes_suspects: whether suspects whose classes do not ask for isolation are isolated; see ``takes_suspects``.
    """

    def __init__(self, make: Callable[[], Isolation], aside: Aside, *, takes_suspects: bool = False) -> None:
        self._make = make
        self._aside = aside
        self._takes_suspects = takes_suspects
        self._making = Lock()
        self._isolation: Isolation | None = None
        self._withdrawn: set[str] = set()
        self._is_expecting = False
        self.kinds: frozenset[str] = frozenset()
        """The kinds whose suspects are isolated."""

    def serve(self, classes: Mapping[str, type[BaseRunnable]]) -> None:
        """Decides for which of these classes suspects are isolated."""
        self.kinds = frozenset(
            kind
            for kind, cls in classes.items()
            if cls.__fang_isolated__ or (self._takes_suspects and kind not in self._withdrawn and _is_importable(cls))
        )

    def get(self) -> Isolation:
        """Returns the isolation; the first call takes long. Raises ``MissingExtra`` or ``UsageError``."""
        with self._making:
            if self._isolation is None:
                self._isolation = self._make()
            return self._isolation

    async def get_aside(self) -> Isolation:
        """Does what ``get`` does where the pool lives, and holds no event loop up."""
        if self._isolation is None:
            await self._aside(self._get_if_possible, "fang-isolation")
        return self.get()

    def expect(self, kind: str) -> None:
        """Makes the isolation, in a thread of its own, if a task of this kind may be the next suspect: what runs then
        need not wait for that."""
        if self._is_expecting or self._isolation is not None or kind not in self.kinds:
            return
        with suppress(RuntimeError):  # the system has no thread left, perhaps by that task: a run that needs it says so
            Thread(target=self._get_if_possible, name="fang-isolation", daemon=True).start()
            self._is_expecting = True

    def _get_if_possible(self) -> None:
        with suppress(MissingExtra, UsageError):  # a run that needs it says so
            self.get()

    def settle(self, cls: type[BaseRunnable], kind: str, result: Result) -> Result:
        """Returns the result of a run that was isolated.

        A suspect whose class does not ask for isolation may have failed because something is missing in a child that
        this process has set up. So it goes back, and later suspects of its kind run in the pool itself.
        """
        if cls.__fang_isolated__ or not isinstance(result, Failure) or result.delay is not None:
            return result
        if kind in self.kinds:
            self._withdrawn.add(kind)
            self.kinds -= {kind}
            logger.info("suspects of kind %s run in the pool itself now: one failed in a child process", kind)
        return NOT_RUN

    async def check(self, classes: Iterable[type[BaseRunnable]]) -> None:
        """Raises ``MissingExtra`` or ``UsageError`` if one of the classes asks for isolation and cannot have it."""
        for cls in classes:
            if cls.__fang_isolated__:
                try:
                    await self.get_aside()
                except MissingExtra as error:
                    raise MissingExtra(f"{cls.__name__} has isolation='process': {error}") from None

    def close(self) -> None:
        """Ends the children."""
        if self._isolation is not None:
            self._isolation.close()


def takes_suspects(queue: Any, options: PoolOptions) -> bool:
    """Returns whether runs in a child have all that they have in this pool, and the extra is installed."""
    make_queue = getattr(queue, "recipe", None)
    if not options.isolate_suspects or make_queue is None or options.lifespan is not None:
        return False
    if not all(map(find_spec, ("fang_isolation", "pebble"))):
        return False
    try:
        pickle.dumps((make_queue, options.middleware))
    except Exception:  # noqa: BLE001 - whatever it is, it stays here
        return False
    return True


def _is_importable(cls: type[BaseRunnable]) -> bool:
    """Returns whether another process finds the class under its name in its module."""
    module = sys.modules.get(cls.__module__)
    if module is None or cls.__module__ in {"__main__", "__mp_main__"} or getattr(module, "__spec__", None) is None:
        return False
    found: Any = module
    for name in cls.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is cls
