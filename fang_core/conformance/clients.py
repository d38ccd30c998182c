"""Gives tests a pool without workers, as a backend sees it: its record, its store and its heart."""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from fang_core.backends.claims import Claim, ClaimRequest, LaneClaim, LaneRequest, Positions, Serves
from fang_core.backends.pools import Declaration, Live, PoolRecord, PruneRequest, Rescued
from fang_core.backends.ticks import ScheduleState, Tick
from fang_core.backends.waking import LateRows
from fang_core.flow.limits import FlowRule, rules_as_json
from fang_core.lifecycle import Outcome
from fang_core.liveness import Beat, BeatRequest, Pulse
from fang_core.monitoring.history import Flush, Flushed
from fang_core.record import ClaimedTask, TaskState
from fang_core.schedules.stored import Verdict
from fang_core.tasks.registry import Mode

MANY = 1_000


class Client:
    """Calls the methods of a store, in the name of one pool.

    Args:
        call: drives a method to its end.
        store: the store, which the client closes.
        record: fields of the pool's record.
    """

    def __init__(self, call: Callable[..., Any], store: Any, mode: Mode, **record: Any) -> None:
        fields = {"task_types": ("common",), "kinds": (), "workers": 1, **record}
        self.record = PoolRecord(uuid4(), mode, "host", 1, **fields)
        self.id = self.record.id
        self.store = store
        self._call = call
        self._heart: Any = None

    # The pool's record ------------------------------------------------------------------------------------------------

    def register(self) -> None:
        self._call(self.store.register, self.record)

    def update_kinds(self, *kinds: str, isolated: Sequence[str] = ()) -> None:
        self._call(self.store.update_kinds, self.id, kinds, isolated)

    def declare(self, *rules: FlowRule, kind: str, task_type: str, again: bool = False) -> None:
        """Declares the limits of one kind."""
        self._call(self.store.declare, [Declaration(task_type, {kind: rules_as_json(rules)}, again)])

    def tell_live(self, live: Live) -> None:
        self._call(self.store.tell_live, self.id, live)

    def flush_stats(self, flush: Flush, writer: UUID | None = None) -> Flushed:
        """Flushes history, as the pool's own writer unless another is given."""
        reply: Flushed = self._call(self.store.flush_stats, writer or self.id, flush)
        return reply

    def tell_time(self) -> datetime:
        now: datetime = self._call(self.store.tell_time)
        return now

    def fold_stats(self, keep: timedelta | None = None, limit: int = MANY) -> int:
        folded: int = self._call(self.store.fold_stats, keep, limit)
        return folded

    def unregister(self) -> None:
        self._call(self.store.unregister, self.id)

    # Tasks ------------------------------------------------------------------------------------------------------------

    def request(
        self,
        limit: int = MANY,
        *,
        task_types: Sequence[str] | None = None,
        kinds: Sequence[str] | None = None,
        after: Positions | None = None,
        looks_back: bool = False,
        group_size: int = 1,
        isolated_kinds: tuple[str, ...] = (),
        retries_first: bool = False,
    ) -> ClaimRequest:
        """Returns a request for tasks, by default of the task types and kinds in the record."""
        return ClaimRequest(
            self.id,
            tuple(self.record.task_types if task_types is None else task_types),
            tuple(self.record.kinds if kinds is None else kinds),
            limit,
            after or {},
            looks_back,
            group_size,
            isolated_kinds,
            retries_first,
        )

    def ask(self, limit: int = MANY, **options: Any) -> Claim:
        """Claims with a ``request`` of these arguments."""
        claim: Claim = self._call(self.store.claim, self.request(limit, **options))
        return claim

    def claim(self, limit: int = MANY, **options: Any) -> list[ClaimedTask]:
        """Returns the tasks that ``ask`` has claimed."""
        return self.ask(limit, **options).tasks

    def lanes(
        self, limit: int = MANY, *, task_type: str | None = None, kinds: Sequence[str] | None = None, **fields: Any
    ) -> LaneRequest:
        """Returns a request for tasks of a managed type, by default of the last task type in the record."""
        wanted = self.record.task_types[-1] if task_type is None else task_type
        return LaneRequest(self.id, wanted, tuple(self.record.kinds if kinds is None else kinds), limit, **fields)

    def claim_lanes(self, limit: int = MANY, **options: Any) -> LaneClaim:
        """Claims with a request of ``lanes``."""
        claim: LaneClaim = self._call(self.store.claim_lanes, self.lanes(limit, **options))
        return claim

    def adopt(self, *task_types: str, most: int = MANY) -> None:
        """Calls ``adopt`` until it has come to the end; each call looks at this many tasks."""
        while not self._call(self.store.adopt, task_types, most):
            pass

    def adopt_all(self, task_type: str) -> None:
        self._call(self.store.adopt_all, task_type)

    def tell_types(self, *task_types: str) -> None:
        self._call(self.store.tell_types, task_types)

    def complete(self, *outcomes: Outcome, waits: bool = True) -> set[UUID]:
        written: set[UUID] = self._call(self.store.complete, self.id, outcomes, waits=waits)
        return written

    def end(self, task: ClaimedTask, state: TaskState | None = None, **fields: Any) -> bool:
        """Writes one outcome; returns whether it was written."""
        return self.complete(Outcome(task.id, task.attempt, state, **fields)) == {task.id}

    def reconcile(self, *known: ClaimedTask) -> int:
        count: int = self._call(self.store.reconcile, self.id, [task.id for task in known])
        return count

    # Periodic questions -----------------------------------------------------------------------------------------------

    def prune(
        self,
        *task_types: str,
        finished: timedelta | None = timedelta(0),
        failed: timedelta | None = timedelta(0),
        limit: int = MANY,
    ) -> int:
        count: int = self._call(self.store.prune, PruneRequest(task_types, finished, failed, limit))
        return count

    def read_schedules(self, *names: str, task_types: Sequence[str] = (), known: str = "") -> ScheduleState:
        state: ScheduleState = self._call(self.store.read_schedules, names, task_types, known)
        return state

    def declare_schedules(self, declared: Mapping[str, Mapping[str, str]], *dropped: str, again: bool = False) -> None:
        self._call(self.store.declare_schedules, declared, dropped, again)

    def tick(self, tick: Tick) -> bool:
        raised: bool = self._call(self.store.tick, tick)
        return raised

    def tick_stored(self, tick: Tick) -> Verdict:
        verdict: Verdict = self._call(self.store.tick_stored, tick)
        return verdict

    def waiting_types(self, most: int = MANY) -> Mapping[str, bool] | None:
        types: Mapping[str, bool] | None = self._call(self.store.waiting_types, most)
        return types

    def next_due(self) -> float | None:
        seconds: float | None = self._call(self.store.next_due, self.record.task_types, self.record.kinds)
        return seconds

    def unknown_kinds(self) -> set[str]:
        return set(self._call(self.store.unknown_kinds, self.record.task_types))

    def unserved_types(self, due_for: timedelta) -> list[str]:
        types: list[str] = self._call(self.store.unserved_types, due_for)
        return types

    # Waking -----------------------------------------------------------------------------------------------------------

    def listen(
        self, on_wake: Callable[[LateRows | None], None], on_told: Callable[[UUID], None] = lambda _: None
    ) -> None:
        self._call(self.store.listen, self.record.task_types, on_wake, on_told, lambda _: None)

    def set_waiting(self, waiting: bool) -> None:
        self._call(self.store.set_waiting, self.id, waiting)

    def has_taker(self, tasks: Collection[Serves]) -> bool:
        found: bool = self._call(self.store.has_taker, self.id, tasks)
        return found

    # Life and death ---------------------------------------------------------------------------------------------------

    def heart(self, locks: bool = True) -> Any:
        """Returns the heart, which is made when this is first called."""
        if self._heart is None:
            self._heart = self._call(self.store.heart, locks)
        return self._heart

    def beat(self, stopping: bool = False, **request: Any) -> Beat:
        """Beats with these fields of ``BeatRequest``."""
        beat: Beat = self._call(self.heart().beat, BeatRequest(self.id, stopping, **request))
        return beat

    def pulse(self, of: "Client") -> Pulse | None:
        """Beats, and returns the pulse of another pool; None if the beat does not show it."""
        return next((pulse for pulse in self.beat().pulses if pulse.pool_id == of.id), None)

    def rescue(self, *dead: Pulse) -> list[Rescued]:
        rescued: list[Rescued] = self._call(self.heart().rescue, dead)
        return rescued

    def rescue_orphans(self, max_crashes: int = 3) -> list[Rescued]:
        rescued: list[Rescued] = self._call(self.heart().rescue_orphans, max_crashes)
        return rescued

    def die(self) -> None:
        """Closes the heart, as the end of a process does; the record and the tasks stay."""
        heart, self._heart = self._heart, None
        if heart is not None:
            self._call(heart.close)

    def close(self) -> None:
        """Closes the heart and the store."""
        with suppress(Exception):  # a test may have broken the heart
            self.die()
        self._call(self.store.close)
