"""Defines what pools ask for when they claim, and the answers."""

from collections.abc import Callable, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Final, NamedTuple, Protocol, TypeAlias
from uuid import UUID

from fang_core.record import ClaimedTask

Lane: TypeAlias = tuple[str, int]
"""A task type and a priority, whose due rows are a range of their own."""

Position: TypeAlias = tuple[datetime, UUID]
"""A row's due time and id: its place in its lane."""

Positions: TypeAlias = Mapping[Lane, Position]

Serves: TypeAlias = tuple[str, str]
"""A task type and a kind, both of which a pool must serve to run a task."""


class ClaimRequest(NamedTuple):
    """Asks for tasks of ``task_types``, served in this order; within each by priority, then by due time.

    A backend may leave out rows that do not lie behind ``after``; lanes that are not in it are read from their start. A
    claim that ``looks_back`` walks through more entries than other claims, dead ones or of foreign kinds.

    Suspects are left out unless they may be tried in a group of ``group_size``, or run in child processes, since they
    are of ``isolated_kinds``: see ``crashes.is_suspect`` and ``crashes.group_limit``.

    With ``retries_first`` tasks that have failed or crashed come before all other tasks of the same type and priority,
    and are read from the start of their lane.
    """

    pool_id: UUID
    task_types: tuple[str, ...]
    kinds: tuple[str, ...]
    limit: int
    after: Positions = MappingProxyType({})
    looks_back: bool = False
    group_size: int = 1
    isolated_kinds: tuple[str, ...] = ()
    retries_first: bool = False


class Transactions(NamedTuple):
    """Says which transactions of writers were running when a claim looked.

    A backend numbers them in the order in which they begin. What one of them inserts is seen only once it has
    committed, and may by then lie behind a cursor.

    Attributes:
        next: the number of the next transaction to begin.
        running: the numbers of those below it that had not ended.
    """

    next: int
    running: frozenset[int]


NO_TRANSACTIONS: Final = Transactions(0, frozenset())
"""For a backend whose writers have none: what is inserted is seen at once."""


class Claim(NamedTuple):
    """The answer to a claim.

    Attributes:
        tasks: the tasks that the pool now holds, in the order in which to run them.
        now: the backend's clock.
        transactions: the transactions that were running then.
        registered: false if the pool's own record is gone; no task is claimed then.
        managed: the task types of the request from which nothing was claimed, since they are paused, or have limits,
            rates or fairness: see ``LaneRequest``.
    """

    tasks: list[ClaimedTask]
    now: datetime
    transactions: Transactions
    registered: bool
    managed: tuple[str, ...] = ()


class ReadyClaim(Protocol):
    """A claim that only has to be sent; see ``ClaimStore.ready``."""

    def offer(self, hand_over: "HandOver", /) -> None:
        """Lets an insert through the pool's own queue, in this process, make it after the new task, in one round trip.

        It is called before ``send``, and where the pool lives; a backend that has no use for it does nothing.
        """
        ...

    def send(self) -> bool:
        """Sends it if that can be done at once, and returns whether it was sent.

        It is called once, where the backend wakes the pool; it never waits or raises.
        """
        ...

    async def answer(self) -> Claim:
        """Returns the answer, once it was sent. It is called once, where the pool lives. Raises ``BackendError``."""
        ...


SendAlong: TypeAlias = Callable[[ReadyClaim], bool]
"""Sends a claim along with an insert, or takes it over to be sent; returns whether it does. It never waits."""

HandOver: TypeAlias = Callable[[SendAlong], Callable[[], None] | None]
"""Has the ready claim of a pool that rests sent by this function, with an insert that goes first, if it may be sent.
Returns what wakes the pool, which then takes the answer; None if nothing is sent."""


QUANTUM: Final = 4
"""The most tasks that a key takes at a turn unless its share is larger, so that a claim need not look at a key for each
task."""


MOST_LANES: Final = 1_000
"""The most keys at which a claim looks."""


class LaneRequest(NamedTuple):
    """Asks for tasks of one managed task type: one that is paused, or has limits, rates or fairness.

    Its keys take turns: the claim begins with the first key behind ``after_lane``, in the order of their UTF-8 bytes,
    and looks at ``most_lanes`` keys of each priority at most, until those that may start tasks fill its limit with
    ``quantum`` tasks each. One that ``looks_closely`` leaves out keys whose due tasks are all such that the pool cannot
    take them; another one may take them for keys that fill it, and bring nothing. For ``kinds``, ``group_size`` and
    ``isolated_kinds`` see ``ClaimRequest``.
    """

    pool_id: UUID
    task_type: str
    kinds: tuple[str, ...]
    limit: int
    after_lane: str = ""
    most_lanes: int = MOST_LANES
    quantum: int = QUANTUM
    group_size: int = 1
    isolated_kinds: tuple[str, ...] = ()
    looks_closely: bool = False


class LaneClaim(NamedTuple):
    """The answer to a ``LaneRequest``; ``tasks`` to ``registered`` are as in ``Claim``.

    Attributes:
        room: how many tasks the type as a whole could start, and the request asked for. 0 if the type is full or out of
            rate, ``TURN_TAKEN`` if another pool claims from it just now, None if the type is paused, or has a limit of
            0, or changed just now, or is no longer managed.
        look_in: the seconds until a claim may find more: until the rate allows the next start, or a pause with an end
            is over. None if no time is known.
        after_lane: the key to begin behind the next time; None if no key that was looked at can be served now.
        is_managed: false if the type is no longer managed, so that plain claims find its tasks.
        is_counted: whether limits or rates count the tasks that a pool holds, so that none should wait for a worker.
        is_short: whether it found enough keys, but these had too few waiting tasks to fill it.
        locked: how many keys, at least, it passed because other claims had their locks; 0 if the backend has no such
            locks.
        cut_at: the last key that it looked at of the highest priority which has more, if keys of a lower one filled it.
            None if it looked at all keys of higher priorities.
    """

    tasks: list[ClaimedTask]
    now: datetime
    transactions: Transactions
    registered: bool
    room: int | None = None
    look_in: float | None = None
    after_lane: str | None = None
    is_managed: bool = True
    is_counted: bool = True
    is_short: bool = False
    locked: int = 0
    cut_at: str | None = None


TURN_TAKEN: Final = -1
"""The ``room`` of a claim that took nothing, since another pool claimed from the same type at that moment."""
