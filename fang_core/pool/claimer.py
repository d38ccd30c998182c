"""Claims due tasks for a pool, as ``ClaimPolicy`` says: how many, and when to look again."""

import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import Final, Protocol

from fang_core.backends.claims import Claim, ClaimRequest, LaneClaim
from fang_core.backends.store import ClaimStore, FlowStore, PoolStore, WakeStore
from fang_core.backends.waking import LateRows, OnTold
from fang_core.claims.dispatch import Dispatch, Overdue
from fang_core.claims.expiry import ClaimTime
from fang_core.claims.inflight import InFlight
from fang_core.claims.policy import (
    ClaimLanes,
    ClaimPolicy,
    ClaimUpTo,
    Do,
    Sleep,
    Step,
    TellTypes,
    WaitForCapacity,
)
from fang_core.config import PoolOptions
from fang_core.errors import BackendError, FangError
from fang_core.events import EventBus, Events
from fang_core.pool.drains import PLAIN, Drain, Drains, adopt_before
from fang_core.pool.identity import PoolIdentity
from fang_core.pool.outage import Outage
from fang_core.pool.recorded_kinds import RecordedKinds
from fang_core.pool.runtime import Event, Runtime, Service
from fang_core.pool.standby import Sent, Standby

SHORTEST_SLEEP: Final = 0.001
"""The shortest sleep until a task is due, in seconds: the clocks of two machines differ a little."""

NOTHING_FREED: Final[Mapping[str, int]] = MappingProxyType({})

MOST_LANES_IN_DRAINS: Final = 10_000
"""A drain looks for due tasks of a full type among this many lanes at most; if there are more, it assumes some."""


class ClaimerStore(ClaimStore, FlowStore, PoolStore, WakeStore, Protocol):
    """The part of a backend that a claimer uses."""


class Claimer:
    """A service that claims tasks and hands them to the workers of a pool.

    Args:
        in_flight: the tasks that the pool holds.
        dispatch: decides how many tasks the pool wants, and takes the claimed ones.
        stopping: set when the pool claims no more.
        is_cut_off: returns whether other pools may have taken this one for dead, so that no claim would be safe.
        rejoin: registers the pool under another id after it was declared dead.
        on_told: see ``WakeStore.listen``.
    """

    def __init__(
        self,
        runtime: Runtime,
        store: ClaimerStore,
        identity: PoolIdentity,
        options: PoolOptions,
        *,
        kinds: RecordedKinds,
        in_flight: InFlight,
        dispatch: Dispatch,
        events: EventBus,
        stopping: Event,
        is_cut_off: Callable[[], bool],
        rejoin: Callable[[], Awaitable[None]],
        on_told: OnTold,
    ) -> None:
        self._runtime = runtime
        self._logger = runtime.logger
        self._store = store
        self._identity = identity
        self._options = options
        self._kinds = kinds
        self._in_flight = in_flight
        self._dispatch = dispatch
        self._events = events
        self._stopping = stopping
        self._is_cut_off = is_cut_off
        self._rejoin = rejoin
        self._on_told = on_told
        self._policy = ClaimPolicy(options, in_flight, dispatch, time.monotonic())
        self._outage = Outage(runtime.logger, "pool %s claims again")
        self._woken = runtime.event()
        self._standby = Standby(store, may_send=self._may_repeat_claims, on_sent_along=self._look_at_once)
        self._in_vain: ClaimRequest | None = None  # the last claim, if it has found nothing
        self._has_capacity = runtime.event()
        self._waits_for_workers: Event | None = None  # on_taken sets it when no more than _low tasks wait
        self._low = 0
        self._drains = Drains(runtime)
        self._service: Service | None = None
        self.claims = 0
        """How many claims were answered."""
        self._turned: float | None = None  # when this turn began; None while it rests
        self._in_their_order: set[str] = set()  # the types of which it was said that retries do not go first

    def start(self) -> None:
        """Starts the service, and listens for inserts."""
        if self._options.listen:
            self._store.listen(self._options.task_types, self._on_wake, self._on_told, self._on_listen_lost)
        self._service = self._runtime.spawn(self._loop, "fang-claimer")

    def _on_wake(self, late: LateRows | None) -> None:
        if late is None:
            self._standby.fire()
            self._look_at_once()
        else:
            self._policy.tell(late)
            self._runtime.call_soon(self._woken.set)

    def _look_at_once(self) -> None:
        """Ends a rest; any thread may call this."""
        self._policy.woke()
        self._runtime.call_soon(self._woken.set)

    def _may_repeat_claims(self) -> bool:
        """Returns whether the next claim would be as the last one; any thread may call this."""
        return not (self._kinds.may_change or self._stopping.is_set() or self._is_cut_off())

    def _on_listen_lost(self, error: BackendError) -> None:
        self._policy.listen_lost()
        self._events.emit(Events.backend_failed, self._identity.id, error)

    def wake(self) -> None:
        """Makes the claimer look for tasks at once."""
        self._standby.disarm()
        self._policy.woke()
        self._woken.set()
        self._has_capacity.set()

    def on_taken(self, waiting: int) -> None:
        """Is called when a worker has taken a task; ``waiting`` tasks are left for workers, perhaps too few."""
        if self._waits_for_workers is not None and waiting <= self._low:
            self._waits_for_workers.set()

    @property
    def managed(self) -> Collection[str]:
        """The task types that the pool knows to be managed; it is false if there are none."""
        return self._policy.managed

    def on_outcomes(self, freed: Mapping[str, int] = NOTHING_FREED) -> None:
        """Is called when outcomes were written: there may be room for more tasks, or nothing left to wait for.

        ``freed`` says how many runs of each managed type they ended.
        """
        if freed:
            self._policy.freed(freed)
        if (self._drains and not self._in_flight) or self._policy.calls_for_suspects:
            self._policy.look_at_all()
            self.wake()
        elif self._waits_for_workers is not None:
            self._waits_for_workers.set()
        elif freed:
            self._woken.set()

    async def tell_unused(self) -> None:
        """Notifies other pools of the slots that this one has left and does not use, since it has stopped."""
        task_types = self._policy.unused()
        if task_types:
            with suppress(FangError):
                await self._store.tell_types(task_types)

    async def drained(self) -> None:
        """Returns when no due task is left that may start and the pool holds none, or when the pool stops.

        Tasks of types that are paused or have a limit of 0 are left, and those whose keys have as many runs in other
        pools as they may. It waits for rates, for types that are full with runs of other pools, and while limits
        change.
        """
        drain = self._drains.begin()
        try:
            self._policy.look_at_all()
            self.wake()
            if not self._stopping.is_set():
                await self._runtime.wait(drain.over)
        finally:
            self._drains.remove(drain)

    def end_drains(self) -> None:
        """Ends every ``drained`` that still waits, as the pool has stopped."""
        self._drains.end_all()

    async def close(self, within: float) -> None:
        """Ends the service of a stopping pool; a claim that is under way has ``within`` seconds to end."""
        self.wake()
        if self._service is not None:
            await self._service.join(within)
            self._service.cancel()

    def failing(self, now: float) -> float | None:
        """Returns for how many seconds claims have failed; None if they are answered. Any thread may call this."""
        return self._outage.seconds(now)

    def claiming(self, now: float) -> float | None:
        """Returns how long the present turn has gone on; None while it rests on purpose. Any thread may call this."""
        turned = self._turned
        return None if turned is None else now - turned

    @property
    def is_over(self) -> bool:
        """Returns whether the service has ended, or is being cancelled."""
        return self._service is not None and (self._service.has_ended or self._service.is_cancelling)

    async def _loop(self) -> None:
        while not self._stopping.is_set():
            try:
                await self._turn()
            except Exception as error:  # noqa: BLE001 - a claimer survives every error of its backend
                self._failed(error)
                await self._sleep(self._outage.failed(time.monotonic()))

    async def _turn(self) -> None:
        self._turned = time.monotonic()
        if self._identity.is_dead:
            await self._rejoin()
            self._policy.rejoined()
        step = self._next_step()
        if isinstance(step, WaitForCapacity):
            await self._say_busy()
            self._has_capacity.clear()
            step = self._next_step()
        if self._watch_workers(step):
            step = self._next_step()  # again: a worker may just have ended
            self._watch_workers(step)
        try:
            await self._take(step)
        finally:
            self._waits_for_workers = None

    def _watch_workers(self, step: Step) -> bool:
        """Has ``on_taken`` end this step when few tasks wait for workers, if the next step may then be another one.

        Returns whether it does.
        """
        if isinstance(step, WaitForCapacity):
            self._low, self._waits_for_workers = step.low, self._has_capacity
        elif isinstance(step, Sleep) and self._policy.waits_for_workers:
            self._low, self._waits_for_workers = 0, self._woken
        else:
            self._waits_for_workers = None
        return self._waits_for_workers is not None

    def _next_step(self) -> Step:
        return self._policy.next_step(time.monotonic(), is_cut_off=self._is_cut_off())

    async def _take(self, step: Step) -> None:
        match step:
            case ClaimUpTo(limit):
                await self._fetch(limit)
            case ClaimLanes(task_type, limit):
                await self._fetch_lanes(task_type, limit)
            case TellTypes(task_types):
                began = time.monotonic()
                await self._store.tell_types(task_types)
                self._policy.told_others(began=began, ended=time.monotonic())
            case WaitForCapacity(seconds):
                self._turned = None
                if not self._stopping.is_set():
                    await self._runtime.wait(self._has_capacity, seconds)
            case Sleep(seconds, task_types):
                await self._rest(await self._until_due(seconds, task_types))
            case Overdue():
                await self._give_back_overdue(step)
            case Do.RECONCILE:
                await self._reconcile()
            case Do.BEGIN_SUSPECTS:
                if self._dispatch.begin_suspects(time.monotonic()):
                    self._policy.suspects_began()
            case Do.GIVE_UP_SUSPECTS:
                self._give_up_suspects()
            case Do.ANNOUNCE | Do.RENOUNCE:
                await self._announce(step is Do.ANNOUNCE)

    async def _fetch(self, limit: int) -> None:
        """Claims tasks, and hands them out."""
        drains = await self._prepare_claim()
        began = time.monotonic()
        request = self._policy.request(self._identity.id, self._kinds.names, limit, whole=bool(drains), now=began)
        claim = await self._store.claim(request)
        is_busy = self._claimed(request, claim, began, time.monotonic())
        await self._hand_out(claim, began, is_busy=is_busy)
        if claim.registered and not claim.tasks:
            self._found_empty(PLAIN, drains)

    def _claimed(self, request: ClaimRequest, claim: Claim, began: float, ended: float) -> bool:
        """Notes the answer to a claim from types that are not managed; returns whether the pool is busy."""
        self._in_vain = None if claim.tasks or not claim.registered else request
        return self._policy.claimed(request, claim, began=began, ended=ended)

    async def _fetch_lanes(self, task_type: str, limit: int) -> None:
        """Claims tasks of a managed type, and hands them out."""
        drains = await self._prepare_claim()
        began = time.monotonic()
        request = self._policy.lane_request(self._identity.id, task_type, self._kinds.names, limit, now=began)
        if request is None:
            self._found_empty(task_type, drains)
            return
        claim = await self._store.claim_lanes(request)
        if self._options.retries_first and claim.room is not None:
            self._say_that_retries_wait(task_type)
        is_busy, is_over, overlaps = self._policy.claimed_lanes(request, claim, began=began, ended=time.monotonic())
        if not claim.is_managed:
            self._drains.look_again_at_plain_types()
        await self._hand_out(claim, began, is_busy=is_busy)
        if is_busy and claim.is_counted and not overlaps:
            # Runs that take no time go first, so that the next claim is for their workers, too, and not for a few.
            await self._runtime.yield_now()
        if not drains or claim.tasks or not claim.registered:
            return
        if is_over or (claim.room == 0 and not await self._has_due(task_type)):
            self._found_empty(task_type, drains)

    def _say_that_retries_wait(self, task_type: str) -> None:
        if task_type not in self._in_their_order:
            self._in_their_order.add(task_type)
            self._logger.warning(
                "pool %s: retries_first has no effect on the task type %r, which has limits, rates or fairness",
                self._identity.id,
                task_type,
            )

    async def _prepare_claim(self) -> tuple[Drain, ...]:
        """Does what must be done before a claim, so that it finds all that it should.

        Returns the drains that the claim may end. They are read first, so that it sees every task that was inserted
        before they began.
        """
        drains = () if self._in_flight else self._drains.present()
        if self._kinds.learn(time.monotonic()):
            self._policy.has_new_kinds()
        await self._kinds.write()
        if drains:
            await adopt_before(drains, self._policy.managed, self._store)
        await self._look_at_types(whole=bool(drains))
        return drains

    def _found_empty(self, task_type: str, drains: Collection[Drain]) -> None:
        """Notes that a claim has found nothing that may start; ends the drains for which this was the last type."""
        for drain in drains:
            drain.empty.add(task_type)
            if self._policy.are_all_types(drain.empty):
                drain.over.set()

    async def _has_due(self, task_type: str) -> bool:
        """Returns whether tasks of a type are due, as far as the backend can tell at no great cost."""
        found = await self._store.waiting_types(MOST_LANES_IN_DRAINS)
        return found is None or found.get(task_type, False)

    async def _hand_out(self, claim: Claim | LaneClaim, began: float, *, is_busy: bool) -> None:
        """Hands out what a claim has brought, and notes whether it found the pool registered."""
        gave_back = bool(claim.tasks) and self._give_to_workers(claim, began)
        self._handed_out(claim, gave_back=gave_back)
        if not claim.tasks:
            return
        if is_busy:
            await self._say_busy()
        else:
            await self._runtime.yield_now()  # the run goes first: there is hardly more to claim

    def _give_to_workers(self, claim: Claim | LaneClaim, began: float) -> bool:
        """Hands out the tasks of a claim; returns whether some go back, see ``Dispatch.hand_out``."""
        self._drains.found_tasks()
        claimed = ClaimTime(claim.now, began)
        may_wait = isinstance(claim, Claim) or not claim.is_counted
        return self._dispatch.hand_out(claim.tasks, self._identity.id, claimed, time.monotonic(), may_wait=may_wait)

    def _handed_out(self, claim: Claim | LaneClaim, *, gave_back: bool) -> None:
        """Notes that the backend has answered, and that the tasks, if there are any, were handed out."""
        self.claims += 1
        self._outage.over(time.monotonic(), self._identity.id)
        if not claim.registered:
            self._identity.dead_id = self._identity.id
        if claim.tasks:
            self._policy.handed_out(time.monotonic(), gave_back=gave_back)
            self._events.emit(Events.tasks_claimed, self._identity.id, len(claim.tasks))

    async def _look_at_types(self, *, whole: bool) -> None:
        """Asks the backend which task types have tasks, if the pool serves many types."""
        began = time.monotonic()
        most = self._policy.looks_at_types(began, whole=whole)
        if most is not None:
            found = await self._store.waiting_types(most)
            self._policy.looked(found, began=began, ended=time.monotonic())

    def _give_up_suspects(self) -> None:
        self._dispatch.give_up_suspects()
        seconds = self._policy.suspects_went_back(time.monotonic())
        self._logger.info(
            "pool %s gives a suspect back that must run alone, since its other runs go on; it claims none for %.0f s",
            self._identity.id,
            seconds,
        )

    async def _give_back_overdue(self, overdue: Overdue) -> None:
        if overdue.goes_anyhow or self._is_cut_off() or await self._store.has_taker(self._identity.id, overdue.tasks):
            count = self._dispatch.give_back_overdue(time.monotonic())
            self._logger.debug(
                "pool %s gives back %d tasks that waited too long for a worker", self._identity.id, count
            )

    async def _reconcile(self) -> None:
        """Gives back the tasks of a claim whose reply was lost. No claim is under way here."""
        count = await self._store.reconcile(self._identity.id, self._in_flight.known())
        self._policy.reconciled(time.monotonic())
        if count:
            self._logger.warning(
                "pool %s gave back %d tasks of claims whose replies were lost", self._identity.id, count
            )

    async def _announce(self, waiting: bool) -> None:
        """Writes whether the pool waits to be woken, if that has changed."""
        if self._policy.announces(waiting):
            self._policy.announcing()
            await self._store.set_waiting(self._identity.id, waiting)
            self._policy.announced(waiting, time.monotonic())

    async def _say_busy(self) -> None:
        """Writes that the pool does not wait to be woken. If that fails, inserts wake it in vain until it succeeds."""
        with suppress(FangError):
            await self._announce(False)

    async def _until_due(self, seconds: float, task_types: tuple[str, ...]) -> float:
        """Returns how long to sleep: less if a task of these types is due before, since that wakes no pool."""
        if not task_types:
            return seconds
        due = await self._store.next_due(task_types, self._kinds.names)
        if due is None:
            return seconds
        due = max(due, SHORTEST_SLEEP)
        self._policy.falls_due(time.monotonic() + due)
        return min(seconds, due)

    async def _rest(self, seconds: float) -> None:
        """Sleeps; if the pool is woken, the last claim is made again at once."""
        request = self._in_vain
        if request is not None and request.pool_id == self._identity.id and self._policy.may_repeat:
            self._standby.arm(request, offers=self._options.listen)
        try:
            await self._sleep(seconds)
        finally:
            sent, is_woken_again = self._standby.take()
        if is_woken_again:
            self._woken.set()
        if sent is not None:
            await self._receive(sent)

    async def _receive(self, sent: Sent) -> None:
        """Hands out what a claim brings that was sent while the pool rested; what it means is noted afterwards."""
        request, ready, began = sent
        self._turned = began
        claim = await ready.answer()
        ended, gave_back = time.monotonic(), False
        if claim.tasks:
            gave_back = self._give_to_workers(claim, began)
            await self._runtime.yield_now()  # the run goes first
        self._claimed(request, claim, began, ended)
        self._handed_out(claim, gave_back=gave_back)

    async def _sleep(self, seconds: float) -> None:
        self._turned = None
        await self._runtime.wait(self._woken, min(seconds, self._policy.patience(time.monotonic())))
        if not self._stopping.is_set():
            self._woken.clear()

    def _failed(self, error: Exception) -> None:
        self._policy.failed()
        if not self._outage.is_to_tell(time.monotonic(), str(error)):
            pass
        elif isinstance(error, FangError):
            self._logger.warning("pool %s could not claim and tries again: %s", self._identity.id, error)
        else:
            self._logger.exception("pool %s could not claim and tries again", self._identity.id, exc_info=error)
        self._events.emit(Events.backend_failed, self._identity.id, error)
