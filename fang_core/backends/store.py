"""Defines the methods of a backend that pools call, by role. Pools import these protocols and never a backend.

The methods are coroutines in both modes, so that the services of a pool are written once. What they take and return
stands in ``claims``, ``pools``, ``ticks`` and ``waking``.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol
from uuid import UUID

from fang_core.backends.capabilities import Capabilities
from fang_core.backends.claims import Claim, ClaimRequest, LaneClaim, LaneRequest, ReadyClaim, Serves
from fang_core.backends.pools import Declaration, Live, PoolRecord, PruneRequest, Rescued
from fang_core.backends.ticks import ScheduleState, Tick
from fang_core.backends.waking import OnListenLost, OnTold, OnWake
from fang_core.lifecycle import Outcome
from fang_core.liveness import Beat, BeatRequest, Pulse
from fang_core.monitoring.history import Flush, Flushed
from fang_core.record import Task
from fang_core.schedules.stored import Verdict
from fang_core.tasks.async_queueable import AsyncQueueable
from fang_core.tasks.insertion import Rules
from fang_core.tasks.queueable import Queueable


class Heart(Protocol):
    """Gives a pool's sign of life, on a connection of its own, from a thread of its own.

    In an asyncio pool that thread has its own event loop, on which all calls are made.
    """

    async def beat(self, request: BeatRequest, /) -> Beat:
        """Raises the pool's counter, and returns the state of all other pools and the messages for this one."""
        ...

    async def rescue(self, dead: Sequence[Pulse], /) -> list[Rescued]:
        """Takes back the tasks of dead pools, if their counters still stand, and then removes their records.

        The ``max_crashes`` in a pool's record decides when its tasks are failed as crashed. If a task is locked just
        then, the record stays, as ``DECLARED_DEAD``, until a later rescue has taken all of the pool's tasks.
        """
        ...

    async def rescue_orphans(self, max_crashes: int, /) -> list[Rescued]:
        """Takes back tasks that are held by pools without a record, by the rescuer's own ``max_crashes``."""
        ...

    async def close(self) -> None:
        """Gives back the connection, and with it the lock. Idempotent."""
        ...


class ClaimStore(Protocol):
    """Lets a pool claim tasks, and check which it holds."""

    async def claim(self, request: ClaimRequest, /) -> Claim:
        """Marks due tasks as in progress for this pool, raising each one's ``attempt``."""
        ...

    def ready(self, request: ClaimRequest, /) -> ReadyClaim | None:
        """Prepares a claim for ``on_wake`` to send; None if it would gain nothing. It need not be sent."""
        ...

    async def reconcile(self, pool_id: UUID, known: Sequence[UUID], /) -> int:
        """Gives back, uncharged, tasks that the pool holds and that are not among ``known``; returns how many.

        Call it while no claim of the pool is under way.
        """
        ...

    async def has_taker(self, pool_id: UUID, tasks: Collection[Serves], /) -> bool:
        """Returns whether another pool may have a free worker for a task of one of these.

        Such a pool has announced that it waits; a pool that does not listen never announces it, and may have one too.
        """
        ...

    async def waiting_types(self, most: int, /) -> Mapping[str, bool] | None:
        """Returns all task types with waiting tasks, served by a pool or not, and whether the first of a lane is due.

        Returns None if there are ``most`` lanes with such tasks or more.
        """
        ...

    async def next_due(self, task_types: Sequence[str], kinds: Sequence[str], /) -> float | None:
        """Returns the seconds until the next of these tasks that is not due yet; None if none is known."""
        ...


class OutcomeStore(Protocol):
    """Lets a pool write the outcomes of its runs. ``claim`` and ``complete`` may be called at the same time."""

    async def complete(self, pool_id: UUID, outcomes: Sequence[Outcome], /, *, waits: bool = True) -> set[UUID]:
        """Writes outcomes, each one if its task is still held under the same attempt by this pool.

        Returns the ids of the written outcomes. Each id has one outcome; the batch is one transaction. Rows that some
        other session has locked hold up no other outcome: the backend waits for them a moment at most, or, without
        ``waits``, not at all.

        Raises ``RowsLocked``, which says what was written and which tasks are locked and still held;
        ``StatementRefused`` if a value is at fault and nothing was written; another ``BackendError`` if the call has to
        be repeated: the batch may have been written, except after ``NotConnected``.
        """
        ...


class PoolStore(Protocol):
    """Makes a pool known to the other pools, and lets it watch them."""

    async def register(self, pool: PoolRecord, /) -> None:
        """Makes the pool known; it can claim from now on. Repeating it is harmless."""
        ...

    async def update_kinds(self, pool_id: UUID, kinds: Sequence[str], isolated_kinds: Sequence[str] = (), /) -> bool:
        """Writes these kinds into the pool's record; returns whether there is one: another pool may have removed it."""
        ...

    async def declare(self, declarations: Sequence[Declaration], /) -> None:
        """Puts the limits, rates and fairness of a registered pool's classes in force; returns when they hold.

        Limits that were set at run time override them. What is declared for kinds that no registered pool knows is
        dropped.
        """
        ...

    async def tell_live(self, pool_id: UUID, live: Live, /) -> None:
        """Stores what the pool does now, in place of its last report; does nothing if its record is gone."""
        ...

    async def unregister(self, pool_id: UUID, /) -> None:
        """Removes the pool's record, and its report."""
        ...

    def heart(self, locks: bool, /) -> Heart:
        """Returns the pool's heart. Without ``locks`` it takes no lock."""
        ...


class WakeStore(Protocol):
    """Lets inserts wake a pool that waits."""

    def listen(
        self, task_types: Sequence[str], on_wake: OnWake, on_told: OnTold, on_listen_lost: OnListenLost, /
    ) -> None:
        """Calls ``on_wake`` after inserts of due tasks of these types, until ``close()``; ``on_wake`` must not block.

        It may be called too often, and a call may be lost: pools also poll. Inserts wake only while a pool of their
        type has announced that it waits; writers of rows behind cursors always do, and say where the rows are.

        ``on_told`` is called, under the same rules, when any pool of the backend gets a message.

        ``on_listen_lost`` is called, with the reason, each time that inserts cannot wake the pool for a while.
        """
        ...

    async def set_waiting(self, pool_id: UUID, waiting: bool, /) -> None:
        """Announces that the pool waits to be woken, or no longer does."""
        ...


class ScheduleStore(Protocol):
    """Turns the ticks of schedules into tasks."""

    async def declare_schedules(
        self, declared: Mapping[str, Mapping[str, str]], dropped: Sequence[str], again: bool = False, /
    ) -> None:
        """Writes what classes say of their schedules, by name, and that other classes have none; see ``declaration``.

        It is for lists of schedules: pools tick by the code of the class. A schedule that is new begins now. What is
        declared ``again`` is written only where nothing is: a newer release may have declared other times meanwhile.
        """
        ...

    async def read_schedules(
        self, names: Sequence[str], task_types: Sequence[str] = (), known: str = "", /
    ) -> ScheduleState:
        """Reads the last ticks of schedules of classes, and the schedules of these task types in the backend.

        A schedule of a class that is new to the backend begins now. ``known`` is the ``version`` of the last answer.
        """
        ...

    async def tick(self, tick: Tick, /) -> bool | None:
        """Inserts the tick's task, and raises the schedule's last tick, if that is earlier; returns whether it did.

        It returns None, and writes nothing, if another process is just writing to the schedule: ask again a bit later.

        It is for a schedule of a class: if a person has paused it, or put another in its place, nothing is written. If
        an equal unique task waits or runs, a due tick is left out; a tick that lies ahead must be tried again.
        """
        ...

    async def tick_stored(self, tick: Tick, /) -> Verdict:
        """Does the same for a schedule in the backend, if that is still as the pool has read it."""
        ...


class FlowStore(Protocol):
    """Lets pools claim from task types that are paused, or have limits, rates or fairness: managed types."""

    async def claim_lanes(self, request: LaneRequest, /) -> LaneClaim:
        """Marks due tasks of a managed type as in progress for this pool, as far as the type's settings allow.

        No limit and no rate is ever exceeded, whatever other pools claim at the same time. It never waits for them.
        """
        ...

    async def adopt(self, task_types: Sequence[str], limit: int, /) -> bool:
        """Has claims find the waiting tasks of managed types that have no lane: they get the lane ``''``.

        These are tasks that were inserted before their type was managed, or by Rust. It looks at ``limit`` tasks, goes
        on where the last call ended, and notifies the pools of the type. Returns whether it has come to the end.
        """
        ...

    async def adopt_all(self, task_type: str, /) -> None:
        """Does the same with all tasks of one type, however many there are."""
        ...

    async def tell_types(self, task_types: Sequence[str], /) -> None:
        """Makes all listening pools of these types look for tasks: ``on_wake`` gets ``LateRows`` of the type.

        A pool does that when its runs have freed slots that it has no use for.
        """
        ...


class UpkeepStore(Protocol):
    """Does periodic upkeep."""

    async def prune(self, request: PruneRequest, /) -> int:
        """Deletes rows of these task types whose life ended long enough ago; returns how many.

        It also deletes what rates of single keys have left behind.
        """
        ...

    async def unknown_kinds(self, task_types: Sequence[str], /) -> list[str]:
        """Returns the kinds among the first due tasks of these types that no registered pool knows."""
        ...

    async def unserved_types(self, due_for: timedelta, /) -> list[str]:
        """Returns the task types with tasks that have been due for this long, and that no registered pool serves."""
        ...


class HistoryStore(Protocol):
    """Keeps what pools have counted."""

    async def tell_time(self) -> datetime:
        """Returns the backend's clock."""
        ...

    async def flush_stats(self, writer: UUID, flush: Flush, /) -> Flushed:
        """Replaces the rows that this writer has written for a minute; rows of other writers stay.

        Repeating it changes nothing. If the minute is longer ago than ``LATEST_WRITE``, it writes nothing: the minute
        may have been added up. One that lies ahead is written, since the backend's clock may have been set back.
        """
        ...

    async def fold_stats(self, keep: timedelta | None, limit: int, /) -> int:
        """Adds up the rows of minutes and hours, ``limit`` of these at most, and removes old ones; returns how many.

        Rows of a minute that is longer ago than ``MERGED_AFTER`` become one for each task type and kind, and when all
        minutes of an hour have, they are added up as those of the hour. Whole hours of minutes are removed after
        ``KEPT_MINUTES``, and hours after ``keep``, and both if that is less. If another process does it just now, it
        does nothing.
        """
        ...


class Store(
    ClaimStore, FlowStore, OutcomeStore, PoolStore, WakeStore, ScheduleStore, UpkeepStore, HistoryStore, Protocol
):
    """Gives a pool access to its backend, in both modes.

    In a pool of threads each method runs to its end on the thread that calls it, and so must never suspend; see
    ``fang_core.pool.runtime``.
    """

    async def close(self) -> None:
        """Gives back the store's connections and other resources. Idempotent."""
        ...


class Backend(Queueable, Protocol):
    """A queue that pools can run on."""

    @property
    def is_open(self) -> bool:
        """Returns whether the queue can be used now."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """The backend's optional abilities; they never change while the queue lives."""
        ...

    @property
    def connects_within(self) -> float:
        """Seconds within which one of the servers has answered a connect, if any answers."""
        ...

    @property
    def rules(self) -> Rules:
        """The queue's settings for every insert."""
        ...

    def open(self) -> None:
        """Connects and checks the schema. Idempotent."""
        ...

    def close(self) -> None:
        """Closes what the queue opened itself. Idempotent."""
        ...

    def tasks_of_kinds(self, kinds: Sequence[str], /, *, connection: Any = None) -> list[Task]:
        """Returns the rows of these kinds, in any state, in order of insertion, for tests: it may read all tasks."""
        ...

    def count_by_kind(self, *, connection: Any = None) -> dict[str, int]:
        """Returns the number of tasks of each kind: for tests."""
        ...

    def store(self) -> Store:
        """Returns a store for one pool, which closes it when it ends; a closed queue is open until then."""
        ...


class AsyncBackend(AsyncQueueable, Protocol):
    """A queue that pools of asyncio tasks can run on; see ``Backend``."""

    @property
    def is_open(self) -> bool:
        """See ``Backend.is_open``."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """See ``Backend.capabilities``."""
        ...

    @property
    def connects_within(self) -> float:
        """See ``Backend.connects_within``."""
        ...

    @property
    def rules(self) -> Rules:
        """See ``Backend.rules``."""
        ...

    async def open(self) -> None:
        """See ``Backend.open``."""
        ...

    async def close(self) -> None:
        """See ``Backend.close``."""
        ...

    async def tasks_of_kinds(self, kinds: Sequence[str], /, *, connection: Any = None) -> list[Task]:
        """See ``Backend.tasks_of_kinds``."""
        ...

    async def count_by_kind(self, *, connection: Any = None) -> dict[str, int]:
        """See ``Backend.count_by_kind``."""
        ...

    async def store(self) -> Store:
        """See ``Backend.store``."""
        ...
