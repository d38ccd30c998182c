"""A runtime whose time and whose order a test decides: no thread, no event loop, and no second of real time passes."""

from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from math import inf
from types import coroutine
from typing import Any, Final, NamedTuple, TypeVar
from uuid import UUID

from fang_core import Runnable
from fang_core.backends.capabilities import Capabilities
from fang_core.backends.claims import NO_TRANSACTIONS, Claim, ClaimRequest, LaneClaim, LaneRequest
from fang_core.backends.pools import Declaration, PoolRecord, Rescued
from fang_core.backends.ticks import ScheduleState
from fang_core.events import EventBus
from fang_core.lifecycle import SUCCESS, Outcome
from fang_core.liveness import Beat, BeatRequest, Pulse
from fang_core.logs import SafeLogger
from fang_core.messages import Delivery
from fang_core.monitoring.history import Flush, Flushed
from fang_core.pool.workers import OnEnded, OnTaken
from fang_core.record import ClaimedTask
from fang_core.runs.interrupt import Interrupt
from fang_core.runs.run import Run
from fang_core.tasks.insertion import Rules
from fang_core.tasks.registry import Mode

T = TypeVar("T")

NOW: Final = datetime(2026, 1, 1, tzinfo=UTC)


class Claimed(Runnable):
    def run(self, queue: Any) -> None: ...


def claim(*numbers: int, crashes: int = 0, group_limit: int | None = None) -> Claim:
    tasks = [
        ClaimedTask(UUID(int=100 + n), "Claimed", "{}", 1, 0, 20, crashes, "common", 0, NOW, group_limit=group_limit)
        for n in numbers
    ]
    return Claim(tasks, NOW, NO_TRANSACTIONS, registered=True)


def numbers_of(task_ids: Sequence[UUID]) -> list[int]:
    """Of tasks that ``claim`` made."""
    return [task_id.int - 100 for task_id in task_ids]


class FakeEvent:
    def __init__(self) -> None:
        self._is_set = False

    def is_set(self) -> bool:
        return self._is_set

    def set(self) -> None:
        self._is_set = True

    def clear(self) -> None:
        self._is_set = False


class Waiting(NamedTuple):
    event: FakeEvent
    until: float


@coroutine
def suspend(waiting: Waiting) -> Generator[Waiting, bool, bool]:
    return (yield waiting)


class FakeService:
    """A coroutine, and what it waits for."""

    def __init__(self, main: Coroutine[Any, Any, Any], name: str) -> None:
        self.name = name
        self.ended = FakeEvent()
        self.result: Any = None
        self._main = main
        self._waiting: Waiting | None = None  # until it has begun
        self.join_until: Callable[[FakeEvent, float | None], Coroutine[Any, Any, bool]]

    @property
    def has_ended(self) -> bool:
        return self.ended.is_set()

    is_cancelling = False

    async def join(self, within: float | None = None) -> bool:
        return await self.join_until(self.ended, within)

    def cancel(self) -> None:
        self._main.close()
        self.ended.set()

    @property
    def wakes_at(self) -> float:
        return inf if self.has_ended or self._waiting is None else self._waiting.until

    def step(self, now: float) -> bool:
        """Lets it go on until it waits again; returns whether it could."""
        waiting = self._waiting
        if self.has_ended or (waiting is not None and not waiting.event.is_set() and now < waiting.until):
            return False
        try:
            self._waiting = self._main.send(None if waiting is None else waiting.event.is_set())
        except StopIteration as end:
            self.result = end.value
            self.ended.set()
        except BaseException:
            self.ended.set()
            raise
        return True


class FakeRuntime:
    """Runs services in turns: ``settle`` until all of them wait, ``advance`` until some time has passed."""

    mode: Mode = "threaded"
    is_closed = False

    def __init__(self) -> None:
        self.now = 1_000.0
        self.logger = SafeLogger("tests.pool")
        self.services: list[FakeService] = []
        self.refused: str | None = None
        """The name of a service that cannot be started."""

    def monotonic(self) -> float:
        """Stands in for that of ``time``."""
        return self.now

    async def aside(self, work: Callable[[], None], name: str) -> None:
        work()

    # What a test calls ------------------------------------------------------------------------------------------------

    def settle(self) -> None:
        steps = 0
        while sum(service.step(self.now) for service in tuple(self.services)):
            steps += 1
            assert steps < 1_000, "a service goes on without end, and waits for nothing"

    def advance(self, seconds: float) -> None:
        end = self.now + seconds
        self.settle()
        while (then := min((service.wakes_at for service in self.services), default=inf)) <= end:
            self.now = max(self.now, then)
            self.settle()
        self.now = end

    def begin(self, main: Coroutine[Any, Any, Any]) -> FakeService:
        """Has a call go on beside the services."""
        service = self.spawn(lambda: main, "the test's")
        self.settle()
        return service

    def call(self, main: Coroutine[Any, Any, T]) -> T:
        """Returns what a call returns that has to wait for nothing but the services."""
        service = self.begin(main)
        assert service.has_ended
        result: T = service.result
        return result

    @property
    def serving(self) -> list[str]:
        """The services that have not ended, in the order of their start."""
        return [service.name for service in self.services if not service.has_ended]

    # What services call -----------------------------------------------------------------------------------------------

    def event(self) -> FakeEvent:
        return FakeEvent()

    async def wait(self, event: Any, seconds: float | None = None) -> bool:
        return await suspend(Waiting(event, inf if seconds is None else self.now + seconds))

    async def yield_now(self) -> None:
        await suspend(Waiting(FakeEvent(), self.now))

    def spawn(self, main: Callable[[], Coroutine[Any, Any, None]], name: str) -> FakeService:
        if name == self.refused:
            raise RuntimeError("can't start new thread")
        service = FakeService(main(), name)
        service.join_until = self.wait
        self.services.append(service)
        return service

    def spawn_thread(
        self, main: Callable[[Any], Coroutine[Any, Any, None]], name: str, *, at_end: Callable[[], None]
    ) -> FakeService:
        async def to_the_end() -> None:
            try:
                await main(self)
            finally:
                at_end()

        return self.spawn(to_the_end, name)

    def call_soon(self, function: Callable[[], object]) -> None:
        function()

    def event_bus(self, events: EventBus) -> EventBus:
        return events


class FakeStore:
    """Answers each verb with what a test has put into ``replies``, or else with the verb's usual reply."""

    def __init__(self, runtime: FakeRuntime) -> None:
        self._runtime = runtime
        self.calls: list[tuple[Any, ...]] = []
        self.replies: dict[str, deque[Any]] = {}

    def reply(self, verb: str, *replies: Any) -> None:
        """An exception is raised; for an event the verb waits before it gives its next reply."""
        self.replies.setdefault(verb, deque()).extend(replies)

    def fail(self, verb: str, error: BaseException, times: int = 1) -> None:
        self.reply(verb, *[error] * times)

    @property
    def verbs(self) -> list[str]:
        return [verb for verb, *_ in self.calls]

    def called(self, *verbs: str) -> list[tuple[Any, ...]]:
        return [call for call in self.calls if call[0] in verbs]

    async def _answer(self, usual: Any, verb: str, *arguments: Any) -> Any:
        self.calls.append((verb, *arguments))
        await self._runtime.yield_now()
        replies = self.replies.get(verb)
        while replies:
            reply = replies.popleft()
            if isinstance(reply, BaseException):
                raise reply
            if not isinstance(reply, FakeEvent):
                return reply
            await self._runtime.wait(reply)
        return usual


class FakeFlowStore(FakeStore):
    """Has also the verbs of managed types, of which there are none unless a reply names some."""

    async def claim_lanes(self, request: LaneRequest, /) -> LaneClaim:
        usual = LaneClaim([], NOW, NO_TRANSACTIONS, True, room=request.limit)
        reply: LaneClaim = await self._answer(usual, "claim_lanes", request.task_type, request.limit)
        return reply

    async def tell_types(self, task_types: Sequence[str], /) -> None:
        await self._answer(None, "tell_types", tuple(task_types))

    async def adopt(self, task_types: Sequence[str], limit: int, /) -> bool:
        is_over: bool = await self._answer(True, "adopt", tuple(task_types), limit)
        return is_over

    async def adopt_all(self, task_type: str, /) -> None:
        await self._answer(None, "adopt_all", task_type)


class FakeLock:
    def __init__(self, runtime: FakeRuntime) -> None:
        self._runtime = runtime
        self._is_free = FakeEvent()
        self._is_free.set()

    async def hold(self, work: Callable[[], Awaitable[T]]) -> T:
        while not self._is_free.is_set():
            await self._runtime.wait(self._is_free)
        self._is_free.clear()
        try:
            return await work()
        finally:
            self._is_free.set()


class FakeHeart:
    """Beats for whatever pool is registered; tells of each beat, and of its end."""

    def __init__(self, calls: list[tuple[Any, ...]]) -> None:
        self._calls = calls
        self.gone: set[UUID] = set()
        """Pools without a record."""
        self.messages: list[Delivery] = []

    async def beat(self, request: BeatRequest, /) -> Beat:
        self._calls.append(("beat", request.pool_id, request.stopping))
        return Beat(request.pool_id not in self.gone, 1e6, [], messages=self.messages)

    async def rescue(self, dead: Sequence[Pulse], /) -> list[Rescued]:
        raise AssertionError("no pool is dead")

    async def rescue_orphans(self, max_crashes: int, /) -> list[Rescued]:
        return []

    async def close(self) -> None:
        self._calls.append(("heart closed",))


class FakeRunQueue:
    """Runs that wait for a worker; there are no workers but the test."""

    def __init__(self) -> None:
        self.runs: list[Run] = []
        self.ended_runs = 0
        self.filled = FakeEvent()

    @property
    def backlog(self) -> int:
        return len(self.runs)

    def put(self, runs: list[Run]) -> None:
        self.runs += runs
        self.filled.set()

    def take_back(self, count: int) -> Iterator[Run]:
        for _ in range(count):
            yield self.runs.pop(0)


class FullStore(FakeFlowStore):
    """All that a pool asks of its backend."""

    def __init__(self, runtime: FakeRuntime) -> None:
        super().__init__(runtime)
        self.made_heart = FakeHeart(self.calls)

    def heart(self, locks: bool, /) -> FakeHeart:
        return self.made_heart

    async def register(self, pool: PoolRecord, /) -> None:
        await self._answer(None, "register", pool.id)

    async def declare(self, declarations: Sequence[Declaration], /) -> None:
        await self._answer(None, "declare", *declarations)

    async def unregister(self, pool_id: UUID, /) -> None:
        await self._answer(None, "unregister", pool_id)

    async def close(self) -> None:
        await self._answer(None, "close")

    def ready(self, _: ClaimRequest, /) -> Any: ...

    async def claim(self, request: ClaimRequest, /) -> Claim:
        reply: Claim = await self._answer(claim(), "claim", request.pool_id)
        return reply

    async def reconcile(self, pool_id: UUID, known: Sequence[UUID], /) -> int:
        count: int = await self._answer(0, "reconcile", pool_id, numbers_of(known))
        return count

    async def complete(self, pool_id: UUID, outcomes: Sequence[Outcome], /, *, waits: bool = True) -> set[UUID]:
        task_ids = [outcome.id for outcome in outcomes]
        written: set[UUID] = await self._answer(set(task_ids), "complete", pool_id, numbers_of(task_ids))
        return written

    def listen(self, *_: Any) -> None: ...

    async def set_waiting(self, *_: Any) -> None: ...

    async def tell_live(self, *_: Any) -> None: ...

    async def next_due(self, *_: Any) -> None: ...

    async def waiting_types(self, *_: Any) -> None: ...

    async def has_taker(self, *_: Any) -> bool:
        return False

    async def update_kinds(self, *_: Any) -> bool:
        return True

    async def declare_schedules(self, declared: Mapping[str, Any], *_: Any) -> None:
        await self._answer(None, "declare_schedules", *declared)

    async def read_schedules(self, names: Sequence[str], *_: Any) -> ScheduleState:
        return ScheduleState(NOW, dict.fromkeys(names, NOW))

    async def tick(self, *_: Any) -> bool:
        return True

    async def prune(self, *_: Any) -> int:
        return 0

    async def unknown_kinds(self, *_: Any) -> list[str]:
        return []

    unserved_types = unknown_kinds

    async def tell_time(self) -> datetime:
        return NOW

    async def flush_stats(self, _writer: UUID, flush: Flush, /) -> Flushed:
        await self._answer(None, "flush_stats", *sorted(flush.rows))
        return Flushed(NOW, True)

    async def fold_stats(self, *_: Any) -> int:
        return 0


class FakeQueue:
    """What a pool is made with."""

    capabilities = Capabilities(outlives_processes=True, wakes=True)
    rules = Rules()

    def __init__(self, runtime: FakeRuntime) -> None:
        self.runtime = runtime
        self.full_store = FullStore(runtime)


class FakeWorkers(FakeRunQueue):
    """Take and end runs when a test says so."""

    is_called_by_run = False
    stuck = 0

    def __init__(self, _kinds: Any, queue: FakeQueue, options: Any, **_: Any) -> None:
        super().__init__()
        self.size = options.number_of_workers
        self.missing = 0
        self._runtime = queue.runtime
        self._calls = queue.full_store.calls
        self._running: list[Run] = []
        self._rests = self._runtime.event()
        self._rests.set()
        self._on_taken: OnTaken
        self._on_ended: OnEnded

    # What a test calls ------------------------------------------------------------------------------------------------

    def take(self) -> Run:
        run = self.runs.pop(0)
        run.began = 1.0
        self._running.append(run)
        self._rests.clear()
        self._on_taken(self.backlog)
        return run

    def end_all(self) -> None:
        """Ends all runs that were taken."""
        for run in self._running:
            run.over = True
            self.ended_runs += 1
            self._on_ended(run, SUCCESS, 1.0)
        self._running.clear()
        self._rests.set()
        self._runtime.settle()

    # What a pool calls ------------------------------------------------------------------------------------------------

    def start(self, *, on_taken: OnTaken, on_ended: OnEnded, is_over: Callable[[], bool], **_: Any) -> None:
        self._calls.append(("workers started",))
        self._on_taken, self._on_ended = on_taken, on_ended

    def look(self) -> None: ...

    def resize(self, number_of_workers: int) -> None:
        if number_of_workers > 1_000:
            raise RuntimeError("can't start new thread")
        self.size = number_of_workers

    def interrupt_all(self, why: Interrupt) -> None:
        self._calls.append(("runs interrupted", why))

    def is_caller(self) -> bool:
        return self.is_called_by_run

    async def stop(self, deadline: float) -> int:
        self._calls.append(("workers stopped",))
        await self._runtime.wait(self._rests, deadline - self._runtime.now)
        return len(self._running)

    async def join(self) -> None:
        await self._runtime.wait(self._rests)
