"""Claims due tasks for a pool: how many, when to look again, and how it is woken."""

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from fang_async.completer import wait_for
from fang_core.caution import Caution
from fang_core.claiming import Claims
from fang_core.demand import Idle
from fang_core.errors import BackendError, FangError
from fang_core.events import Events
from fang_core.liveness import EVERY
from fang_core.logs import SafeLogger
from fang_core.outage import Outage
from fang_core.record import ClaimedTask
from fang_core.store import Behind, Claim

if TYPE_CHECKING:
    from fang_async.shift import Shift

logger = SafeLogger("fang_async")

SHORTEST_SLEEP: Final = 0.001
"""Seconds: clocks of different machines pass the same moment a little apart."""

LONGEST_WAIT: Final = 1.0
"""Seconds for which a pool that wants nothing is content not to be told that it does."""

RECONCILE_EVERY: Final = 30.0
"""Seconds between two looks for tasks that are held in the pool's name and not known to it."""


class Claimer:
    """One asyncio task that feeds the workers of a pool."""

    def __init__(self, shift: "Shift") -> None:
        self._shift = shift
        self._claims = Claims(shift.options.task_types, time.monotonic())
        self._idle = Idle(shift.options.sleep_params, listens=shift.options.listen)
        self._outage = Outage(logger, "pool %s claims again")
        self._knows_kinds = True
        self._announced: bool | None = False  # None where the reply was lost
        self._woken = asyncio.Event()
        self._hungry = asyncio.Event()
        self._waits_for_hunger = False
        self._low = 0
        self._reconcile_at = time.monotonic() + RECONCILE_EVERY

    def start(self) -> None:
        """Starts the task, and listens for inserts."""
        loop = asyncio.get_running_loop()

        def on_wake(behind: Behind | None) -> None:
            if behind is not None:
                self._claims.tell(behind)
            if _is_running(loop):
                self._woken.set()
                return
            with suppress(RuntimeError):  # the loop is closed: nobody is left to wake
                loop.call_soon_threadsafe(self._woken.set)

        if self._shift.options.listen:
            self._shift.store.listen(self._shift.options.task_types, on_wake, self._on_silence)
        self._task = asyncio.create_task(self._loop(), name="fang-claimer")

    def _on_silence(self, error: BackendError) -> None:
        self._shift.events.emit(Events.backend_failed, self._shift.id, error)

    @property
    def abstains(self) -> bool:
        """Whether it leaves suspects to others, until the pool is idle."""
        return self._claims.caution.abstains

    def wake(self) -> None:
        """Has it look again at once."""
        self._woken.set()
        self._hungry.set()

    def feed(self, waiting: int) -> None:
        """A worker took a task, so many are left: too few, perhaps."""
        if self._waits_for_hunger and waiting <= self._low:
            self._hungry.set()

    def wake_if_hungry(self) -> None:
        """Outcomes were written: there may be room for more, or nothing left to wait for."""
        if self._waits_for_hunger:
            self._hungry.set()

    async def close(self, within: float) -> None:
        """Ends it; a claim that is under way has so many seconds. The pool is stopping."""
        self.wake()
        await asyncio.wait([self._task], timeout=within)
        self._task.cancel()

    @property
    def is_over(self) -> bool:
        """Whether it has ended, or is being cancelled."""
        return self._task.done() or self._task.cancelling() > 0

    async def _loop(self) -> None:
        while not self._shift.stopping.is_set():
            try:
                await self._turn()
            except Exception as error:  # noqa: BLE001 - a claimer outlives whatever its backend does
                self._failed(error)
                await self._sleep(self._outage.failed(time.monotonic()))

    async def _turn(self) -> None:
        shift = self._shift
        if shift.dead_id == shift.id:
            await shift.be_reborn()
            self._claims.caution = Caution()  # it holds no suspect now that has not begun
            self._announced = False
        await self._give_back_overdue()
        if shift.is_cut_off():
            await self._sleep(EVERY)  # others may take the pool for dead: no claim would be safe
            return
        if time.monotonic() >= self._reconcile_at:
            await self._reconcile()
        if shift.holdings.has_suspect:
            self._mind_suspect()
            await self._wait_for_hunger()
            return
        wanted = shift.supply.wanted(time.monotonic())
        if not wanted:
            await self._wait_for_hunger()
            return
        drains = shift.drains_at_their_end()  # before the claim, which then sees what was inserted before each
        claim = await self._claim(wanted, whole=bool(drains))
        self._outage.over(time.monotonic(), shift.id)
        if claim.tasks:
            await self._found(claim.tasks)
        elif claim.registered:
            for drained in drains:
                drained.set()
            await self._found_nothing(claim.snapshot)

    async def _found(self, tasks: list[ClaimedTask]) -> None:
        is_busy = self._idle.found()
        self._shift.supply.hand_out(tasks, self._shift.id, time.monotonic())
        self._shift.events.emit(Events.tasks_claimed, self._shift.id, len(tasks))
        if is_busy:
            await self._say_busy()
        else:
            await asyncio.sleep(0)  # the run goes first: there is hardly more to claim

    async def _found_nothing(self, snapshot: str) -> None:
        if await self._announce(True):
            self._idle.announced(time.monotonic())
        elif not self._claims.again_at_once():
            seconds = await self._seconds_to_sleep(snapshot)
            await self._sleep(min(seconds, self._claims.caution.until_allowed(time.monotonic())))

    async def _claim(self, wanted: int, *, whole: bool) -> Claim:
        shift = self._shift
        if shift.learn_kinds():
            self._knows_kinds = False
            self._claims.forget()  # it has passed them
        if not self._knows_kinds:
            await shift.store.learn(shift.id, tuple(sorted(shift.kinds.classes)))
            self._knows_kinds = True
            if self._announced:
                self._announced = None  # to be said again: who inserted these kinds before did not know of it
        await self._look_at_types(whole=whole)
        began = time.monotonic()
        request = self._claims.request(
            shift.id,
            tuple(shift.kinds.classes),
            wanted,
            is_idle=not shift.holdings,
            has_apart=shift.holdings.has_apart,
            whole=whole,
            mono=began,
        )
        claim = await shift.store.claim(request)
        self._claims.claimed(request, claim, began=began, ended=time.monotonic())
        if not claim.registered:
            shift.dead_id = shift.id
        return claim

    async def _look_at_types(self, *, whole: bool) -> None:
        """Where the pool serves many: which of them have tasks."""
        began = time.monotonic()
        if self._claims.serving.looks(began, whole=whole):
            found = await self._shift.store.waiting_types(self._claims.serving.most)
            self._claims.looked(found, began=began, ended=time.monotonic())

    def _mind_suspect(self) -> None:
        """Begins the suspect once it is alone, or gives it back where that takes too long."""
        shift, now = self._shift, time.monotonic()
        if shift.supply.begin_suspect(now):
            self._claims.caution.began()
        elif self._claims.caution.is_over(now):
            shift.supply.give_up_suspect()
            seconds = self._claims.caution.went_back(now)
            logger.info(
                "pool %s gives a suspect back, since other runs go on; it claims none for %.0f s", shift.id, seconds
            )

    async def _give_back_overdue(self) -> None:
        shift = self._shift
        overdue = shift.supply.overdue(time.monotonic())
        if overdue.tasks and (
            overdue.goes_anyhow or shift.is_cut_off() or await shift.store.has_taker(shift.id, overdue.tasks)
        ):
            count = shift.supply.give_back_overdue(time.monotonic())
            logger.debug("pool %s gives back %d tasks that waited too long for a worker", shift.id, count)

    async def _reconcile(self) -> None:
        """Gives back what a claim took whose reply was lost. No claim is under way here."""
        shift = self._shift
        count = await shift.store.reconcile(shift.id, shift.holdings.known())
        self._reconcile_at = time.monotonic() + RECONCILE_EVERY
        if count:
            logger.warning("pool %s gave back what it held and did not know of, tasks: %d", shift.id, count)

    async def _announce(self, waiting: bool) -> bool:
        """Says whether the pool waits to be woken; whether that was news."""
        shift = self._shift
        if not shift.options.listen or waiting is self._announced:
            return False
        self._announced = None
        await shift.store.announce(shift.id, waiting)
        self._announced = waiting
        return True

    async def _wait_for_hunger(self) -> None:
        """Until a worker finds little left; see ``feed``."""
        await self._say_busy()
        self._hungry.clear()
        self._low = self._shift.supply.low_stock()
        self._waits_for_hunger = True
        if not self._has_work() and not self._shift.stopping.is_set():  # again: a worker may just have ended
            now = time.monotonic()
            seconds = min(LONGEST_WAIT, self._shift.supply.patience(now), self._claims.caution.until_over(now))
            await wait_for(self._hungry, seconds)
        self._waits_for_hunger = False

    async def _say_busy(self) -> None:
        """Where that fails the pool is woken in vain, until it succeeds."""
        with suppress(FangError):
            await self._announce(False)

    def _has_work(self) -> bool:
        return self._shift.holdings.suspect_may_begin or self._shift.supply.wanted(time.monotonic()) > 0

    async def _seconds_to_sleep(self, snapshot: str) -> float:
        """Until the next poll, or until a task is due before: it notified when it was inserted, if at all."""
        seconds = self._idle.sleep(snapshot, time.monotonic())
        if self._idle.is_settling:
            return seconds
        due = await self._shift.store.next_due(self._claims.serving.waiting, tuple(self._shift.kinds.classes))
        return seconds if due is None else min(seconds, max(due, SHORTEST_SLEEP))

    async def _sleep(self, seconds: float) -> None:
        await wait_for(self._woken, min(seconds, self._shift.supply.patience(time.monotonic())))
        if not self._shift.stopping.is_set():
            self._woken.clear()

    def _failed(self, error: Exception) -> None:
        self._reconcile_at = 0.0  # its claim may have been committed all the same
        self._claims.forget()
        if isinstance(error, FangError):
            logger.warning("pool %s could not claim and tries again: %s", self._shift.id, error)
        else:
            logger.exception("pool %s could not claim and tries again", self._shift.id, exc_info=error)
        self._shift.events.emit(Events.backend_failed, self._shift.id, error)


def _is_running(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether it is this loop that calls; on the same thread there may be another one by now."""
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False
