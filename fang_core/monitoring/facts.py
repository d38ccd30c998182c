"""Holds what a backend reads of one task, in one snapshot, for ``explaining``."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, Final, NamedTuple
from uuid import UUID

from fang_core.flow.info import TypeInfo
from fang_core.monitoring.explanation import Cause
from fang_core.monitoring.silence import is_silent
from fang_core.record import Progress, Task

MOST_AHEAD: Final = 1_000
"""How far the tasks before a task are counted; this number stands for that many or more."""

MOST_HOLDERS: Final = 10
"""How many of the tasks are named that fill a limit."""

LOCK_FREE_FOR: Final = timedelta(seconds=3)
"""How long ago it may have done so if its lock is free: it may be connecting again."""


class Signs(NamedTuple):
    """Holds the signs of life that a pool gives.

    Attributes:
        has_lock: whether its heart holds its lock; None if it takes none, or a standby is asked, which shows none.
        quiet: how long the session with that lock has been quiet; None if that is not known.
        told: how long ago it reported its runs; None if it never has.
        is_dead: whether other pools have declared it dead.
    """

    has_lock: bool | None = None
    quiet: timedelta | None = None
    told: timedelta | None = None
    is_dead: bool = False

    @property
    def is_silent(self) -> bool:
        """Whether the pool seems not to work now. Of one that gives no signs nothing is known: it counts as working."""
        if self.is_dead:
            return True
        if self.has_lock is False:
            return self.told is None or self.told > LOCK_FREE_FOR
        return is_silent(self.quiet, self.told)


class PoolFacts(NamedTuple):
    """Describes a registered pool.

    Attributes:
        busy, waiting: how many of its workers are busy, and how many claimed tasks wait; None if it has not reported.
        knows: whether it knows the kind of the task.
        isolates: whether it runs suspects of this kind in child processes.
    """

    id: UUID
    mode: str
    host: str
    pid: int
    workers: int
    stopping: bool
    signs: Signs = Signs()
    busy: int | None = None
    waiting: int | None = None
    knows: bool = True
    isolates: bool = False

    @property
    def place(self) -> str:
        """Its host and pid, by which a person finds it."""
        return f"{self.host}:{self.pid}"

    @property
    def free(self) -> int | None:
        """Returns how many of its workers have nothing to do; None if that is not known."""
        if self.busy is None:
            return None
        return max(0, self.workers - self.busy - (self.waiting or 0))


class RunFacts(NamedTuple):
    """Holds the report of the task's holder on its run.

    Attributes:
        seconds: for how long the run goes on by now; None if the pool did not name it among its runs.
        place: where it stands, if the pool has warned that it hangs.
        progress: how far it has got, if it reports that.
        names_all: whether the pool has named all of its busy runs since it claimed the task.
    """

    seconds: float | None = None
    place: str | None = None
    progress: Progress | None = None
    names_all: bool = False


NOTHING_TOLD: Final = RunFacts()


class SlotHolder(NamedTuple):
    """Describes a task in progress that a limit counts; ``pool`` is the place of its pool."""

    id: UUID
    kind: str
    pool_id: UUID | None
    pool: str | None
    claimed_at: datetime | None


class SessionFacts(NamedTuple):
    """Describes a session of the database; what the reader may not see is None.

    Attributes:
        since: when its transaction began.
        application: the name that it has given.
        state: what it does, like ``idle in transaction``.
    """

    pid: int
    since: datetime | None = None
    application: str | None = None
    state: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Holds what decides why a task is not running, as of ``now`` by the backend's clock.

    Attributes:
        task: its row; None if there is none.
        registered: how many pools with workers are registered, of whatever type.
        needs_lane: whether claims of a type with limits find only tasks that have a lane.
        holder: the pool that holds it; None if none does, or that pool has no record.
        run: the holder's report on its run.
        pools: the pools that serve its type, if it waits.
        type: what is managed of its type; None if nothing is.
        settling_until: until when the limits of the type are being changed, at most.
        running, holders: how many tasks the limit of the type counts, and some of them.
        key_running, key_holders: the same for the limit of the task's key.
        start_at, key_start_at: when the rates of the type, and of the key, allow the next start; None if it has none.
        ahead: how many due tasks come before it.
        locked_by: a session that has locked its row; ``table_locked_by``: one that has locked the table.
        writer: the session with the oldest transaction that has written something.
        served_at: when a task of its type and kind was run last; None if that is not known.
        type_served_at: when one of its type was.
    """

    task_id: UUID
    now: datetime
    task: Task | None
    registered: int = 0
    needs_lane: bool = True
    holder: PoolFacts | None = None
    run: RunFacts = NOTHING_TOLD
    pools: tuple[PoolFacts, ...] = ()
    type: TypeInfo | None = None
    settling_until: datetime | None = None
    running: int = 0
    holders: tuple[SlotHolder, ...] = ()
    key_running: int = 0
    key_holders: tuple[SlotHolder, ...] = ()
    start_at: datetime | None = None
    key_start_at: datetime | None = None
    ahead: int = 0
    locked_by: SessionFacts | None = None
    table_locked_by: SessionFacts | None = None
    writer: SessionFacts | None = None
    served_at: datetime | None = None
    type_served_at: datetime | None = None


class Found(NamedTuple):
    """Is a cause that holds, with what is to be said of it; see ``Explanation``."""

    cause: Cause
    text: str
    remedy: str = ""
    since: datetime | None = None
    until: datetime | None = None
    details: Mapping[str, Any] = MappingProxyType({})
