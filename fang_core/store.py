"""What a pool sees of a backend: its verbs, in both colours. Pools import these and never a backend."""

import os
import platform
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple, Protocol, TypeAlias
from uuid import UUID

from fang_core.config import DEFAULT_LEASE, DEFAULT_MAX_CRASHES
from fang_core.errors import BackendError
from fang_core.insertion import NewTask, Rules
from fang_core.lifecycle import Outcome
from fang_core.liveness import Beat, Pulse
from fang_core.queueable import AsyncQueueable, Queueable
from fang_core.record import ClaimedTask, Task, TaskState
from fang_core.registry import Mode


class PoolRecord(NamedTuple):
    """A pool as it registers itself. ``id`` is made anew for each start and never used again.

    By ``lease`` and ``max_crashes`` others judge this pool and what it held, whatever their own are.
    """

    id: UUID
    mode: Mode | Literal["manual"]
    host: str
    pid: int
    task_types: tuple[str, ...]
    kinds: tuple[str, ...]
    workers: int
    lease: timedelta = DEFAULT_LEASE
    max_crashes: int = DEFAULT_MAX_CRASHES


def manual_pool(pool_id: UUID) -> PoolRecord:
    """What a queue registers as, to hold the tasks that are fetched by hand."""
    return PoolRecord(pool_id, "manual", platform.node(), os.getpid(), (), (), 0)


Level: TypeAlias = tuple[str, int]
"""A task type and a priority: a range of due rows of its own."""

Position: TypeAlias = tuple[datetime, UUID]
"""A row's due time and id: its place in its level."""

Positions: TypeAlias = Mapping[Level, Position]


class Behind(NamedTuple):
    """Rows of a level are due from this time on that a cursor may have passed; ``at`` is None for rows anywhere."""

    task_type: str
    priority: int
    at: datetime | None


ANYWHERE: Final = Behind("", 0, None)

Serves: TypeAlias = tuple[str, str]
"""A task type and a kind, both of which a pool must serve to run a task."""

OnWake: TypeAlias = Callable[[Behind | None], None]
OnSilence: TypeAlias = Callable[[BackendError], None]
"""Called with None after ordinary inserts."""


class ClaimRequest(NamedTuple):
    """``task_types`` in the order in which they are to be served; within each by priority, then by due time.

    A backend may leave out what does not lie behind ``after``; levels that are not in it are read from their start. A
    claim that ``looks_back`` walks through more entries than others, dead ones or of foreign kinds. ``suspects`` is
    false where none may be among the tasks; see ``lifecycle.is_suspect``.
    """

    pool_id: UUID
    task_types: tuple[str, ...]
    kinds: tuple[str, ...]
    limit: int
    after: Positions = MappingProxyType({})
    looks_back: bool = False
    suspects: bool = True


class Claim(NamedTuple):
    """What a claim returned.

    Attributes:
        tasks: now held by the pool, in the order in which they are to be run.
        now: the backend's clock.
        snapshot: the transactions that were running then, where the backend has such; else empty.
        registered: false where the pool's own record is gone; nothing is claimed then.
    """

    tasks: list[ClaimedTask]
    now: datetime
    snapshot: str
    registered: bool


class Rescued(NamedTuple):
    """A task that a dead pool held, and what became of it: due again, or ``failed`` as crashed.

    Attributes:
        crashes: those charged so far, this one included where it is.
        was_stopping: the pool had said that it stops. Its end is nobody's fault, and nothing is charged.
        charged: whether this death is. Not where the pool was stopping, and not to a suspect that it held beside other
            tasks: that had not begun.
    """

    id: UUID
    kind: str
    attempt: int
    crashes: int
    state: TaskState
    was_stopping: bool
    charged: bool


class Sighting(NamedTuple):
    """The last ticks of schedules by name, and the backend's clock. A name that is missing is to be asked for again."""

    now: datetime
    last_ticks: Mapping[str, datetime]


class Tick(NamedTuple):
    """One tick of the schedule ``name``, and the task to insert for it, due at the tick."""

    name: str
    at: datetime
    row: NewTask


class PruneRequest(NamedTuple):
    """Ages from which terminal rows of these task types are deleted; None keeps that sort for ever.

    At most ``limit`` rows of a state at once.
    """

    task_types: tuple[str, ...]
    keep_finished: timedelta | None
    keep_failed: timedelta | None
    limit: int


class Heart(Protocol):
    """A pool's sign of life, on a connection of its own, from a thread of its own."""

    def beat(self, pool_id: UUID, stopping: bool, /) -> Beat:
        """Raises the pool's counter, says whether it is stopping, and looks at all others."""
        ...

    def rescue(self, dead: Sequence[Pulse], /) -> list[Rescued]:
        """Takes back what dead pools held, if their counters still stand, and then their records.

        Each one's tasks are parked by the ``max_crashes`` that it had registered with.
        Where a task is locked just then the record stays, as ``DECLARED_DEAD``, until a later rescue has all of them.
        """
        ...

    def rescue_orphans(self, max_crashes: int, /) -> list[Rescued]:
        """Takes back what is held by pools without a record; so the rescuer's own ``max_crashes`` has to do."""
        ...

    def close(self) -> None:
        """Gives its connection, and with it the lock, back. Idempotent."""
        ...


class AsyncHeart(Protocol):
    """See ``Heart``; it lives on an event loop of its own."""

    async def beat(self, pool_id: UUID, stopping: bool, /) -> Beat:
        """See ``Heart.beat``."""
        ...

    async def rescue(self, dead: Sequence[Pulse], /) -> list[Rescued]:
        """See ``Heart.rescue``."""
        ...

    async def rescue_orphans(self, max_crashes: int, /) -> list[Rescued]:
        """See ``Heart.rescue_orphans``."""
        ...

    async def close(self) -> None:
        """See ``Heart.close``."""
        ...


class Store(Protocol):
    """A pool's access to its backend, from threads. Claim and complete may be called at the same time."""

    def register(self, pool: PoolRecord, /) -> None:
        """Makes the pool known; it can claim from now on. Repeating it is harmless."""
        ...

    def learn(self, pool_id: UUID, kinds: Sequence[str], /) -> None:
        """Has the pool's record name these kinds. One that others have taken away stays away."""
        ...

    def unregister(self, pool_id: UUID, /) -> None:
        """Takes the pool's record away."""
        ...

    def claim(self, request: ClaimRequest, /) -> Claim:
        """Marks due tasks as in progress for this pool, raising each one's ``attempt``."""
        ...

    def complete(self, pool_id: UUID, outcomes: Sequence[Outcome], /, *, waits: bool = True) -> set[UUID]:
        """Writes outcomes, each one where its task is still held under the same attempt by this pool.

        Returns the ids of those written. One outcome for each id; the batch is one transaction. Rows that others have
        locked hold up nobody else's outcome: they are waited for a moment at most, or, without ``waits``, not at all.
        Raises ``RowsLocked``, which says what was written and what is locked and still held; ``StatementRefused`` where
        a value in it is at fault and none of it was written; another ``BackendError`` where it is to be repeated: it
        may have been written, but not after ``NotConnected``.
        """
        ...

    def reconcile(self, pool_id: UUID, known: Sequence[UUID], /) -> int:
        """Gives back, uncharged, what is held in the pool's name and is not among these; how many.

        To be called while no claim of the pool is under way.
        """
        ...

    def heart(self, locks: bool, /) -> Heart | None:
        """The pool's sign of life; None for a backend that dies with its pools. Without ``locks`` it takes no lock."""
        ...

    def prune(self, request: PruneRequest, /) -> int:
        """Deletes rows of these task types whose life ended long enough ago; how many."""
        ...

    def listen(self, task_types: Sequence[str], on_wake: OnWake, on_silence: OnSilence, /) -> None:
        """Calls ``on_wake`` after inserts of due tasks of these types, until ``close()``; it must not block.

        It may be called too often, and a call may be lost: pools poll beneath. Inserts tell it only while a pool of
        their type has announced that it waits; writers of rows behind cursors always do, and say where.

        ``on_silence`` is called each time that nobody can be woken for a while, with the reason.
        """
        ...

    def announce(self, pool_id: UUID, waiting: bool, /) -> None:
        """Says that the pool waits to be woken, or no longer does."""
        ...

    def has_taker(self, pool_id: UUID, tasks: Collection[Serves], /) -> bool:
        """Whether another pool may have a free worker for a task of one of these.

        It has said that it waits; of one that does not listen, and never says so, nobody knows.
        """
        ...

    def sight(self, names: Sequence[str], /) -> Sighting:
        """Reads the last ticks; a schedule that nobody has seen begins now."""
        ...

    def tick(self, tick: Tick, /) -> bool:
        """Inserts the tick's task if the schedule's last tick is an earlier one, and raises that; whether it did.

        A unique twin leaves the tick out, but not one that still lies ahead: that is to be asked for again.
        """
        ...

    def waiting_types(self, most: int, /) -> Mapping[str, bool] | None:
        """Task types with tasks that wait, whoever serves them, and whether the first of a level is due.

        None where there are ``most`` levels with such tasks or more.
        """
        ...

    def next_due(self, task_types: Sequence[str], kinds: Sequence[str], /) -> float | None:
        """Seconds until the next of these tasks is due that is not yet; None where none is known."""
        ...

    def unknown_kinds(self, task_types: Sequence[str], /) -> list[str]:
        """Kinds among the first due tasks of these types that no registered pool knows."""
        ...

    def unserved_types(self, due_for: timedelta, /) -> list[str]:
        """Task types with tasks that have been due for so long, and that no registered pool serves."""
        ...

    def close(self) -> None:
        """Gives back what the store holds. Idempotent."""
        ...


class AsyncStore(Protocol):
    """See ``Store``."""

    async def register(self, pool: PoolRecord, /) -> None:
        """See ``Store.register``."""
        ...

    async def learn(self, pool_id: UUID, kinds: Sequence[str], /) -> None:
        """See ``Store.learn``."""
        ...

    async def unregister(self, pool_id: UUID, /) -> None:
        """See ``Store.unregister``."""
        ...

    async def claim(self, request: ClaimRequest, /) -> Claim:
        """See ``Store.claim``."""
        ...

    async def complete(self, pool_id: UUID, outcomes: Sequence[Outcome], /, *, waits: bool = True) -> set[UUID]:
        """See ``Store.complete``."""
        ...

    async def reconcile(self, pool_id: UUID, known: Sequence[UUID], /) -> int:
        """See ``Store.reconcile``."""
        ...

    def heart(self, locks: bool, /) -> AsyncHeart | None:
        """See ``Store.heart``."""
        ...

    async def prune(self, request: PruneRequest, /) -> int:
        """See ``Store.prune``."""
        ...

    def listen(self, task_types: Sequence[str], on_wake: OnWake, on_silence: OnSilence, /) -> None:
        """See ``Store.listen``; both may be called on any thread."""
        ...

    async def announce(self, pool_id: UUID, waiting: bool, /) -> None:
        """See ``Store.announce``."""
        ...

    async def has_taker(self, pool_id: UUID, tasks: Collection[Serves], /) -> bool:
        """See ``Store.has_taker``."""
        ...

    async def sight(self, names: Sequence[str], /) -> Sighting:
        """See ``Store.sight``."""
        ...

    async def tick(self, tick: Tick, /) -> bool:
        """See ``Store.tick``."""
        ...

    async def waiting_types(self, most: int, /) -> Mapping[str, bool] | None:
        """See ``Store.waiting_types``."""
        ...

    async def next_due(self, task_types: Sequence[str], kinds: Sequence[str], /) -> float | None:
        """See ``Store.next_due``."""
        ...

    async def unknown_kinds(self, task_types: Sequence[str], /) -> list[str]:
        """See ``Store.unknown_kinds``."""
        ...

    async def unserved_types(self, due_for: timedelta, /) -> list[str]:
        """See ``Store.unserved_types``."""
        ...

    async def close(self) -> None:
        """See ``Store.close``."""
        ...


class Backend(Queueable, Protocol):
    """A queue that pools can run on."""

    @property
    def is_open(self) -> bool:
        """Whether the queue can be used now."""
        ...

    @property
    def keeps_session(self) -> bool:
        """Whether a pool on it can be woken and hold a lock; behind a transaction pooler it can only poll."""
        ...

    @property
    def connects_within(self) -> float:
        """Seconds within which one of its servers has answered a connect, if any does."""
        ...

    @property
    def rules(self) -> Rules:
        """What the queue asks of every insert."""
        ...

    def open(self) -> None:
        """Connects and checks the schema. Idempotent."""
        ...

    def close(self) -> None:
        """Closes what the queue opened itself. Idempotent."""
        ...

    def tasks_of_kinds(self, kinds: Sequence[str], /, *, connection: Any = None) -> list[Task]:
        """All rows of these kinds, in any state, in the order of insertion: for tests, as it may read every task."""
        ...

    def count_by_kind(self, *, connection: Any = None) -> dict[str, int]:
        """How many tasks of each kind there are: for tests."""
        ...

    def store(self) -> Store:
        """A store for one pool, which closes it when it ends; opens the queue where it is closed, until then."""
        ...


class AsyncBackend(AsyncQueueable, Protocol):
    """See ``Backend``."""

    @property
    def is_open(self) -> bool:
        """See ``Backend.is_open``."""
        ...

    @property
    def keeps_session(self) -> bool:
        """See ``Backend.keeps_session``."""
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

    async def store(self) -> AsyncStore:
        """See ``Backend.store``."""
        ...
