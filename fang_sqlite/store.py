"""Defines the store of a pool on a file, for both modes: most methods are a function of one transaction."""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Concatenate, Final, ParamSpec, TypeVar
from uuid import UUID

from fang_core.backends.claims import Claim, ClaimRequest, LaneClaim, LaneRequest, Serves
from fang_core.backends.pools import Declaration, Live, PoolRecord, PruneRequest
from fang_core.backends.ticks import ScheduleState, Tick
from fang_core.backends.waking import OnListenLost, OnTold, OnWake
from fang_core.lifecycle import Outcome
from fang_core.monitoring.history import Flush, Flushed
from fang_core.schedules.stored import Verdict
from fang_sqlite.connections.access import Access, noted, read, written
from fang_sqlite.connections.file import File, clock
from fang_sqlite.connections.transaction import Transaction
from fang_sqlite.listening.waking import Waking
from fang_sqlite.pools import pools, registering
from fang_sqlite.pools.heart import SqliteHeart
from fang_sqlite.reading import history
from fang_sqlite.records import micros
from fang_sqlite.tasks import claiming, completing, flow, lanes, pruning, schedules

_ADOPTED_AT_ONCE: Final = 2_000

P = ParamSpec("P")
T = TypeVar("T")


class SqliteStore:
    """A ``Store`` over a file."""

    def __init__(self, file: File, access: Access, waking: Waking, on_close: Callable[[], None] | None = None) -> None:
        """``on_close`` is called once, when the store closes: the queue lets go of the file with its last store."""
        self._file = file
        self._access = access
        self._waking = waking
        self._on_close = on_close

    async def _write(self, verb: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs a verb in a transaction that writes."""
        return await self._access.run(lambda: written(self._file, verb, *args, **kwargs))

    async def _note(self, verb: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs a verb in a transaction that a power cut may undo, since that ends what it is about."""
        return await self._access.run(lambda: noted(self._file, verb, *args, **kwargs))

    async def _read(self, verb: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs a verb in a transaction that only reads."""
        return await self._access.look(lambda: read(self._file, verb, *args, **kwargs))

    # Claims -----------------------------------------------------------------------------------------------------------

    def ready(self, request: ClaimRequest, /) -> None:
        """See ``ClaimStore.ready``."""

    async def claim(self, request: ClaimRequest, /) -> Claim:
        """See ``ClaimStore.claim``. Nothing is left out because of ``after``."""
        return await self._access.run(self._claim, request)

    def _claim(self, request: ClaimRequest) -> Claim:
        looked, starts = read(self._file, claiming.look, request)
        return noted(self._file, claiming.claim, request, starts) if starts else looked

    async def claim_lanes(self, request: LaneRequest, /) -> LaneClaim:
        """See ``FlowStore.claim_lanes``."""
        return await self._access.run(self._claim_lanes, request)

    def _claim_lanes(self, request: LaneRequest) -> LaneClaim:
        looked, finds = read(self._file, lanes.look, request)
        return noted(self._file, lanes.claim_lanes, request) if finds else looked

    async def reconcile(self, pool_id: UUID, known: Sequence[UUID], /) -> int:
        """See ``ClaimStore.reconcile``."""
        return await self._note(claiming.reconcile, pool_id, known)

    async def has_taker(self, pool_id: UUID, tasks: Collection[Serves], /) -> bool:
        """See ``ClaimStore.has_taker``."""
        return await self._access.look(self._has_taker, pool_id, tasks)

    def _has_taker(self, pool_id: UUID, tasks: Collection[Serves]) -> bool:
        others = self._waking.waiting() - {pool_id}
        return bool(others) and read(self._file, registering.is_served, others, tasks)

    async def waiting_types(self, most: int, /) -> Mapping[str, bool] | None:
        """See ``ClaimStore.waiting_types``."""
        return await self._read(claiming.waiting_types, most)

    async def next_due(self, task_types: Sequence[str], kinds: Sequence[str], /) -> float | None:
        """See ``ClaimStore.next_due``."""
        return await self._read(claiming.next_due, task_types, kinds)

    async def complete(self, pool_id: UUID, outcomes: Sequence[Outcome], /, *, waits: bool = True) -> set[UUID]:
        """See ``OutcomeStore.complete``. No single row can be locked here."""
        return await self._write(completing.complete, pool_id, outcomes) if outcomes else set()

    # Pools ------------------------------------------------------------------------------------------------------------

    async def register(self, pool: PoolRecord, /) -> None:
        """See ``PoolStore.register``."""
        await self._note(registering.register, pool)

    async def update_kinds(self, pool_id: UUID, kinds: Sequence[str], isolated_kinds: Sequence[str] = (), /) -> bool:
        """See ``PoolStore.update_kinds``."""
        return await self._note(registering.update_kinds, pool_id, kinds, isolated_kinds)

    async def declare(self, declarations: Sequence[Declaration], /) -> None:
        """See ``PoolStore.declare``."""
        await self._write(flow.declare, declarations)

    async def tell_live(self, pool_id: UUID, live: Live, /) -> None:
        """See ``PoolStore.tell_live``."""
        await self._note(pools.tell_live, pool_id, live)

    async def unregister(self, pool_id: UUID, /) -> None:
        """See ``PoolStore.unregister``."""
        await self.set_waiting(pool_id, False)
        await self._note(registering.unregister, pool_id)
        await self._access.look(self._file.forget, pool_id)

    def heart(self, locks: bool, /) -> SqliteHeart:
        """See ``PoolStore.heart``."""
        return SqliteHeart(self._file, locks=locks)

    # Waking -----------------------------------------------------------------------------------------------------------

    def listen(
        self, task_types: Sequence[str], on_wake: OnWake, on_told: OnTold, on_listen_lost: OnListenLost, /
    ) -> None:
        """See ``WakeStore.listen``."""
        self._waking.listen(self, task_types, on_wake, on_told, on_listen_lost)

    async def set_waiting(self, pool_id: UUID, waiting: bool, /) -> None:
        """See ``WakeStore.set_waiting``."""
        await self._access.look(self._set_waiting, pool_id, waiting)

    def _set_waiting(self, pool_id: UUID, waiting: bool) -> None:
        with self._file.diagnosing():
            self._waking.set_waiting(self, pool_id, waiting)

    async def tell_types(self, task_types: Sequence[str], /) -> None:
        """See ``FlowStore.tell_types``."""
        await self._access.run(self._tell_types, task_types)

    def _tell_types(self, task_types: Sequence[str]) -> None:
        with self._file.reading() as tx:
            tx.tell_types(task_types)
        self._waking.tell(tx)

    # Task types -------------------------------------------------------------------------------------------------------

    async def adopt(self, task_types: Sequence[str], limit: int, /) -> bool:
        """See ``FlowStore.adopt``."""
        return await self._access.run(self._adopt, task_types, limit)

    def _adopt(self, task_types: Sequence[str], limit: int) -> bool:
        has_to = read(self._file, flow.has_to_adopt, task_types)
        return noted(self._file, flow.adopt, task_types, limit) if has_to else True

    async def adopt_all(self, task_type: str, /) -> None:
        """See ``FlowStore.adopt_all``."""
        while not await self.adopt([task_type], _ADOPTED_AT_ONCE):
            pass

    # Schedules --------------------------------------------------------------------------------------------------------

    async def declare_schedules(
        self, declared: Mapping[str, Mapping[str, str]], dropped: Sequence[str], again: bool = False, /
    ) -> None:
        """See ``ScheduleStore.declare_schedules``."""
        await self._write(schedules.declare, declared, dropped, again)

    async def read_schedules(
        self, names: Sequence[str], task_types: Sequence[str] = (), known: str = "", /
    ) -> ScheduleState:
        """See ``ScheduleStore.read_schedules``."""
        return await self._access.run(self._read_schedules, names, task_types, known)

    def _read_schedules(self, names: Sequence[str], task_types: Sequence[str], known: str) -> ScheduleState:
        state = read(self._file, schedules.read, names, task_types, known)
        new = set(names) - state.last_ticks.keys()
        if not new:
            return state
        written(self._file, schedules.begin, new)
        return read(self._file, schedules.read, names, task_types, known)

    async def tick(self, tick: Tick, /) -> bool | None:
        """See ``ScheduleStore.tick``."""
        return await self._access.run(self._tick, tick)

    def _tick(self, tick: Tick) -> bool:
        return read(self._file, schedules.is_to_tick, tick) and written(self._file, schedules.tick, tick)

    async def tick_stored(self, tick: Tick, /) -> Verdict:
        """See ``ScheduleStore.tick_stored``."""
        return await self._access.run(self._tick_stored, tick)

    def _tick_stored(self, tick: Tick) -> Verdict:
        verdict = read(self._file, schedules.judge, tick)
        return written(self._file, schedules.tick_stored, tick) if verdict in schedules.WRITTEN else verdict

    # Upkeep -----------------------------------------------------------------------------------------------------------

    async def prune(self, request: PruneRequest, /) -> int:
        """See ``UpkeepStore.prune``. Gives back free pages, too, in steps between which other connections may write."""
        count = await self._note(pruning.prune, request)
        steps = 0 if count >= request.limit else pruning.STEPS
        while steps and await self._read(pruning.has_much_free):
            await self._note(pruning.give_back)
            steps -= 1
        return count

    async def unknown_kinds(self, task_types: Sequence[str], /) -> list[str]:
        """See ``UpkeepStore.unknown_kinds``."""
        return await self._read(claiming.unknown_kinds, task_types)

    async def unserved_types(self, due_for: timedelta, /) -> list[str]:
        """See ``UpkeepStore.unserved_types``."""
        return await self._read(claiming.unserved_types, micros(clock() - due_for))

    async def tell_time(self) -> datetime:
        """See ``HistoryStore.tell_time``."""
        return clock()

    async def flush_stats(self, writer: UUID, flush: Flush, /) -> Flushed:
        """See ``HistoryStore.flush_stats``."""
        return await self._note(history.flush, writer, flush)

    async def fold_stats(self, keep: timedelta | None, limit: int, /) -> int:
        """See ``HistoryStore.fold_stats``."""
        folded = await self._read(history.look, keep, limit)
        if folded.changes:
            await self._note(history.fold, folded)
        return folded.number

    async def close(self) -> None:
        """Ends listening."""
        on_close, self._on_close = self._on_close, None
        await self._access.finish(self._close, on_close)

    def _close(self, on_close: Callable[[], None] | None) -> None:
        self._waking.unlisten(self)
        if on_close is not None:
            on_close()
