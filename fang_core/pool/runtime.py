"""Defines what a mode gives to the services of a pool: events, waiting, and a way to run them.

The services are coroutines that import neither asyncio nor threading. ``fang_async.runtime`` runs each as an asyncio
task. ``fang_core.pool.threads`` runs each on a thread of its own, and there nothing ever suspends: whatever a service
awaits blocks its thread instead, so that one ``send(None)`` takes a coroutine to its end.
"""

from collections.abc import Awaitable, Callable, Coroutine, Iterable
from types import FrameType
from typing import Any, Protocol, TypeAlias, TypeVar

from fang_core.events import EventBus
from fang_core.logs import SafeLogger
from fang_core.tasks.registry import Mode

T = TypeVar("T")

Main: TypeAlias = Callable[[], Coroutine[Any, Any, None]]
"""Makes the coroutine that is the whole life of a service."""


class Event(Protocol):
    """A flag that a service waits for with ``Runtime.wait``."""

    def is_set(self) -> bool:
        """Returns whether it is set."""
        ...

    def set(self) -> None:
        """Sets it, and ends every wait for it."""
        ...

    def clear(self) -> None:
        """Resets it."""
        ...


class Service(Protocol):
    """Something that a runtime runs."""

    @property
    def has_ended(self) -> bool:
        """Returns whether it has returned or was cancelled to its end."""
        ...

    @property
    def is_cancelling(self) -> bool:
        """Returns whether a cancellation was requested; never of a thread."""
        return False

    async def join(self, within: float | None = None) -> bool:
        """Waits until the service has ended, for ``within`` seconds at most; returns whether it has.

        Returns at once if the service itself calls it.
        """
        ...

    def cancel(self) -> None:
        """Cancels it, if the mode can: a thread goes on until it notices that it must end."""
        return


class Runtime(Protocol):
    """Runs the services of one lifetime of a pool. Call its methods, and set its events, only where the pool lives: on
    the pool's event loop, or on any thread of a pool of threads. ``call_soon`` may be called anywhere."""

    @property
    def mode(self) -> Mode:
        """Returns the mode whose tasks its workers run."""
        ...

    @property
    def logger(self) -> SafeLogger:
        """Returns the mode's logger."""
        ...

    @property
    def is_closed(self) -> bool:
        """Returns whether nothing can run here any more, because the event loop is closed."""
        return False

    def event(self) -> Event:
        """Makes an event."""
        ...

    async def wait(self, event: Event, seconds: float | None = None) -> bool:
        """Waits for the event, for ``seconds`` at most; returns whether it was set."""
        ...

    async def yield_now(self) -> None:
        """Lets other tasks or threads that are ready run first."""
        ...

    def spawn(self, main: Main, name: str) -> Service:
        """Runs a service as a task of the loop, or on a thread.

        Raises ``RuntimeError`` if no thread can be started.
        """
        ...

    def spawn_thread(self, main: "ThreadMain", name: str, *, at_end: Callable[[], None]) -> Service:
        """Runs a service on a thread of its own in both modes, so that a run that blocks the loop does not stop it.

        ``main`` gets the runtime of that thread, with which it must wait. ``at_end`` is called where the pool lives.
        """
        ...

    async def aside(self, work: Callable[[], None], name: str) -> None:
        """Does slow work that waits for nothing of the pool's, without holding up anything else where the pool lives.

        A thread of this name does it for an event loop; if the process can have no more threads, the loop does it.
        """
        work()

    def frames(self) -> Iterable[FrameType]:
        """Returns the frames of the event loop's thread, innermost first; none for a pool of threads."""
        return ()

    def call_soon(self, function: Callable[[], object]) -> None:
        """Calls a function where the pool lives, at once if possible; does nothing if that has ended."""
        function()

    def event_bus(self, events: EventBus) -> EventBus:
        """Returns an event bus that calls the listeners of this one where the pool lives."""
        return events


ThreadMain: TypeAlias = Callable[[Runtime], Coroutine[Any, Any, None]]
"""Makes the coroutine that is the whole life of a service on a thread of its own, from the runtime of that thread."""


class Lock(Protocol):
    """A lock of the mode."""

    async def hold(self, work: Callable[[], Awaitable[T]]) -> T:
        """Returns what ``work`` returns; holds the lock meanwhile."""
        ...
