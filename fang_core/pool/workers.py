"""Defines what a pool asks of its workers, and what the workers of both modes share."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import count, islice
from logging import ERROR, WARNING
from threading import Lock
from typing import Any, ClassVar, NamedTuple, Protocol, TypeAlias

from fang_core.claims.dispatch import RunQueue
from fang_core.config import PoolOptions
from fang_core.events import EventBus, Events
from fang_core.failurelog import about, run_number
from fang_core.lifecycle import Result
from fang_core.logs import SafeLogger
from fang_core.pool.identity import PoolIdentity
from fang_core.runs.interrupt import Interrupt
from fang_core.runs.interrupted import result_of_stuck
from fang_core.runs.isolation import Isolates
from fang_core.runs.location import place_of
from fang_core.runs.run import Run
from fang_core.tasks.middleware import Middleware
from fang_core.tasks.registry import Kinds

OnTaken: TypeAlias = Callable[[int], None]
"""Called when a worker looks for a run, with the number of runs that wait."""

OnEnded: TypeAlias = Callable[[Run, Result | None, float], None]
"""Called when a run has ended, with its result, which is None if the worker itself failed, and its seconds."""

OnFewer: TypeAlias = Callable[[], None]
"""Called when a worker could not go on, nor be replaced: there is one less."""

OnTooManyStuck: TypeAlias = Callable[[], None]
"""Called when more runs are stuck than the pool's ``max_stuck`` allows."""


class Workers(RunQueue, Protocol):
    """The workers of one lifetime of a pool, threads or asyncio tasks, and the runs that wait for one of them."""

    def start(
        self,
        *,
        on_taken: OnTaken,
        on_ended: OnEnded,
        is_over: Callable[[], bool],
        held: Callable[[], int],
        on_fewer: OnFewer,
        on_too_many_stuck: OnTooManyStuck,
    ) -> None:
        """Starts the workers. Raises ``RuntimeError`` if no thread can be started.

        Args:
            held: returns how many tasks the pool holds.
            is_over: whether a worker that cannot go on is not to be replaced, since the pool stops.
        """
        ...

    size: int
    """How many runs there may be at once."""

    missing: int
    """How many workers there are too few, since they could not be replaced."""

    def refill(self) -> bool:
        """Starts the workers that are missing, if it can; returns whether there are more now. Call it where the pool
        lives."""
        ...

    def resize(self, number_of_workers: int) -> None:
        """Adds workers, or lets some go: idle ones at once, busy ones when their run has ended.

        Call it where the pool lives. Raises ``RuntimeError`` if not all of them could be started; ``size`` is then how
        many there are.
        """
        ...

    @property
    def stuck(self) -> int:
        """The number of runs that go on though they were interrupted, and that no worker counts as its own."""
        ...

    def interrupt(self, run: Run, why: Interrupt, reason: str = "") -> bool:
        """Interrupts a run, if it is under way and was not interrupted before for the same or a higher reason.

        Returns whether it does. Call it where the pool lives: on the event loop, or on any thread. A threaded run
        cannot be interrupted for a shutdown.
        """
        ...

    def interrupt_all(self, why: Interrupt) -> None:
        """Interrupts every run that is under way; see ``interrupt``."""
        ...

    def executing(self) -> Run | None:
        """Returns the run whose code the event loop executes now, if it is one; any thread may call this."""
        return None

    def look(self) -> None:
        """Is called before each beat, on the heart's thread: tries again what a lack of threads has prevented."""
        ...

    def is_caller(self) -> bool:
        """Returns whether one of their runs calls this."""
        ...

    async def stop(self, deadline: float) -> int:
        """Ends each worker when its run has ended; returns how many runs had not ended at the deadline."""
        ...

    async def join(self) -> None:
        """Waits until the last worker has ended."""
        ...


class Duties(NamedTuple):
    """Holds what each worker of a pool gets."""

    kinds: Kinds
    queue: Any
    """What runs are given."""
    events: EventBus
    on_taken: OnTaken
    on_ended: OnEnded
    middleware: Sequence[Middleware]
    """Goes around each run."""
    isolates: Isolates | None


class BaseWorkers(ABC):
    """Keeps as many workers as the pool is to have, and replaces those that cannot go on; the modes start them."""

    _logger: ClassVar[SafeLogger]

    def __init__(
        self,
        kinds: Kinds,
        queue: Any,
        options: PoolOptions,
        *,
        identity: PoolIdentity,
        events: EventBus,
        isolates: Isolates | None = None,
    ) -> None:
        self._kinds = kinds
        self._queue = queue
        self._options = options
        self._isolates = isolates
        self._identity = identity
        self._events = events
        self._stuck: dict[Any, Run] = {}  # by the worker that the run does not give back
        self._changing = Lock()  # held while workers are added, replaced or let go
        self._has_begun = False
        self._held: Callable[[], int] = lambda: 0  # until it starts
        self.size = options.number_of_workers
        """See ``Workers.size``."""
        self.missing = 0
        """See ``Workers.missing``."""
        self.surplus = 0
        """How many workers are to end before they take another run."""
        self.is_stopping = False
        """Whether a worker ends if no run waits."""
        self._set_up()

    def start(
        self,
        *,
        on_taken: OnTaken,
        on_ended: OnEnded,
        is_over: Callable[[], bool],
        held: Callable[[], int],
        on_fewer: OnFewer,
        on_too_many_stuck: OnTooManyStuck,
    ) -> None:
        """See ``Workers.start``."""
        self._is_over = is_over
        self._held = held
        self._on_fewer = on_fewer
        self._on_too_many_stuck = on_too_many_stuck
        self._duties = Duties(
            self._kinds, self._queue, self._events, on_taken, on_ended, self._options.middleware, self._isolates
        )
        with self._changing:
            self._has_begun = True
            self._fit()

    def resize(self, number_of_workers: int) -> None:
        """See ``Workers.resize``."""
        with self._changing:
            self.size, self.missing = number_of_workers, 0
            if self._has_begun and not self.is_stopping:
                self._fit()

    def refill(self) -> bool:
        """See ``Workers.refill``."""
        with self._changing:
            before, wanted = self.size, self.size + self.missing
            if wanted > before and not self.is_stopping:
                self.size = wanted
                with suppress(RuntimeError):  # the limit of threads is still reached
                    self._fit()
                self.missing = wanted - self.size
            started = self.size - before
        if started:
            self._logger.warning("%d workers take the places of those that could not be replaced", started)
        return started > 0

    def _fit(self) -> None:
        """Adds workers, or has some end, until there are ``size`` of them."""
        present = self._by_number()
        missing = self.size - (len(present) - self.surplus)
        if missing < 0:
            self.surplus -= missing
            self._wake_idle(-missing)
            return
        stay = min(missing, self.surplus)
        self.surplus -= stay
        free = (number for number in count() if number not in present)
        try:
            self._add(list(islice(free, missing - stay)))
        except RuntimeError as refused:  # the limit of threads is reached
            wanted, self.size = self.size, len(self._by_number()) - self.surplus
            raise RuntimeError(f"{self.size} of {wanted} workers could be started ({refused})") from refused

    @abstractmethod
    def _set_up(self) -> None:
        """Makes the queue of runs, empty, while there are no workers."""

    @abstractmethod
    def _by_number(self) -> Mapping[int, Any]:
        """Returns the workers by their numbers, without those whose runs are stuck."""

    @abstractmethod
    def _add(self, numbers: Sequence[int]) -> None:
        """Starts workers with these numbers. Raises ``RuntimeError`` if one fails; started ones go on."""

    @abstractmethod
    def _wake_idle(self, count: int) -> None:
        """Makes this many idle workers check whether they are surplus."""

    @property
    def stuck(self) -> int:
        """See ``Workers.stuck``."""
        return len(self._stuck)

    def executing(self) -> Run | None:
        """See ``Workers.executing``."""
        return None

    def look(self) -> None:  # noqa: B027 - there is nothing to try again
        """See ``Workers.look``."""

    def _give_up(self, worker: Any, run: Run) -> None:
        """Lets go of a run that does not end: writes its outcome, and ignores what it comes to. The worker has been
        replaced by now."""
        self._stuck[worker] = run
        run.is_lost = run.over = True
        now, interruption = time.monotonic(), run.interruption
        assert interruption is not None
        place = place_of(run, self._module_of(run))
        stands = "in its" if run.isolated else "at"
        self._logger.error(
            "task %s (%s): run %d goes on %.1f s after it was interrupted (%s)%s; another worker takes its place",
            run.task.id,
            run.task.kind,
            run_number(run.task),
            now - interruption.asked_at,
            interruption.why,
            f", {stands} {place}" if place else "",
            extra=about(run.task),
        )
        self._events.emit(Events.run_stuck, self._identity.id, run.task, place)
        self._duties.on_ended(run, result_of_stuck(run, place), now - run.began)
        allowed = self.size + self.missing if self._options.max_stuck is None else self._options.max_stuck
        if len(self._stuck) > allowed:
            self._logger.error("%d runs are stuck, and max_stuck is %d", len(self._stuck), allowed)
            self._on_too_many_stuck()

    def forget_stuck(self, worker: Any) -> None:
        """Is called when a stuck run has ended after all."""
        run = self._stuck.pop(worker, None)
        if run is not None:
            self._logger.info(
                "task %s: the run that was stuck has ended after %.1f s; what it came to is ignored",
                run.task.id,
                time.monotonic() - run.began,
                extra=about(run.task),
            )

    def _module_of(self, run: Run) -> str:
        cls = self._kinds.classes.get(run.task.kind)
        return "" if cls is None else cls.__module__

    def _tell_of_replacement(self, reason: str, error: BaseException | None) -> None:
        level = WARNING if error is None else ERROR
        self._logger.log(level, "a worker could not go on and is replaced (%s)", reason, exc_info=error)
        self._events.emit(Events.worker_replaced, self._identity.id, reason)


class MakeWorkers(Protocol):
    """A mode's class of workers."""

    def __call__(
        self,
        kinds: Kinds,
        queue: Any,
        options: PoolOptions,
        *,
        identity: PoolIdentity,
        events: EventBus,
        isolates: Isolates | None = None,
    ) -> Workers:
        """Makes workers that are not started yet; ``queue`` is what runs are given."""
        ...
