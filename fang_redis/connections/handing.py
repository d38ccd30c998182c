"""Has an insert take along the claim of a pool that rests in the same process: the pool has the task at once.

The claim is the one that the pool would send itself as soon as it is woken. One script does both; its reply has that of
the claim, which goes to the pool, and that of the insert. A pool that gets none, since the insert was refused, sends
its claim itself.
"""

from collections.abc import Callable, Iterator, Sequence
from copy import copy
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Final, NamedTuple

from redis.exceptions import MovedError, ResponseError

from fang_core.backends.claims import ClaimRequest, HandOver, ReadyClaim
from fang_core.errors import BackendError, BackendUnavailable
from fang_core.interpreter.forks import in_child
from fang_redis.connections.connecting import ANSWER_WITHIN
from fang_redis.connections.links import Link, Links, packed
from fang_redis.connections.ready import Ready
from fang_redis.operations import Insert

PASSED_ON_WITHIN: Final = ANSWER_WITHIN + 1.0
"""Seconds within which the thread of a pool has to pass the reply to an insert on; it hears of a dead server before."""


class Offer(NamedTuple):
    """The claim that a pool has ready, and how to have it sent."""

    request: ClaimRequest
    ready: Ready[Any]
    hand_over: HandOver

    def suits(self, insert: Insert[Any]) -> bool:
        """Returns whether the claim looks at all types of an insert, and takes tasks of one of its kinds."""
        _, task_types, kinds, *_ = self.request
        is_run = False
        for task_type, kind in insert.rows:
            if task_type not in task_types:
                return False
            is_run = is_run or kind in kinds
        return is_run

    def is_of(self, ready: ReadyClaim) -> bool:
        """Returns whether the pool still has this claim ready, and lives where the caller does."""
        return ready is self.ready and self.ready.is_here


class Offers:
    """The claims that the pools of one queue have ready, each by its store. One that is sent, or is out of date, stays
    until an insert has tried it."""

    def __init__(self) -> None:
        self._offers: dict[object, Offer] = {}
        in_child(self, Offers._forked)

    def __bool__(self) -> bool:
        return bool(self._offers)

    def put(self, store: object, offer: Offer) -> None:
        """Replaces the claim of a pool; pools take turns, so this is the last one."""
        self.remove(store)
        self._offers[store] = offer

    def remove(self, store: object) -> None:
        """Forgets a pool."""
        self._offers.pop(store, None)

    def to(self, insert: Insert[Any]) -> Iterator[Offer]:
        """Yields the claims that may go along with an insert, and forgets each."""
        for store, offer in self._offers.copy().items():  # other threads may put one
            if offer.suits(insert) and self._offers.pop(store, None) is offer:
                yield offer

    def _forked(self) -> None:
        self._offers = {}  # the pools are those of the parent


def went_astray(reply: Any) -> bool:
    """Returns whether a node of a Cluster has refused a command that another one is to get."""
    return isinstance(reply, MovedError)


class SharedReply:
    """The reply to an insert that has taken a claim along, on a connection of the insert's thread.

    The pool's thread reads it, has the claim's part at once, and passes the other one on, so that the run waits for one
    change of threads less. No time limit of a run and no Ctrl-C strikes that thread.
    """

    def __init__(self, links: Links, link: Link) -> None:
        self._links = links
        self._link = link
        self._inserted: SimpleQueue[Any] = SimpleQueue()
        self.is_pools = False
        """Whether the connection belongs to the pool's thread now, which keeps or closes it."""

    def take(self, offer: Offer, ready: ReadyClaim) -> bool:
        """Has a pool read the reply instead of sending its claim; see ``SendAlong``."""
        if not offer.is_of(ready):
            return False
        self.is_pools = True
        offer.ready.goes_along(self.claimed)
        return True

    async def claimed(self) -> Any:
        """Reads the reply, and returns that to the claim, None if the insert was refused; the pool's thread calls this.

        Raises ``BackendError``.
        """
        try:
            (reply,) = self._link.end(1)
        except BaseException as error:
            self._inserted.put(copy(error) if isinstance(error, BackendError) else BackendUnavailable(str(error)))
            raise
        claimed, inserted = (None, reply) if isinstance(reply, ResponseError) else reply
        self._inserted.put(inserted)
        self._links.keep(self._link, [reply])
        return claimed

    def inserted(self) -> Any:
        """Waits for the reply to the insert. Raises ``BackendError``."""
        try:
            inserted = self._inserted.get(timeout=PASSED_ON_WITHIN)
        except Empty:
            raise BackendUnavailable("an insert took a claim along, whose pool has passed no reply on") from None
        if isinstance(inserted, BackendError):
            raise inserted
        return inserted


class ThreadHanding:
    """Sends the inserts of threads, with the claims of pools if some are ready."""

    def __init__(self, links: Links, offers: Offers) -> None:
        self._links = links
        self._offers = offers

    async def __call__(self, insert: Insert[Any]) -> Sequence[Any] | None:
        """Returns the replies to the insert; None if it is to be sent alone. Raises ``BackendError``."""
        link = self._links.ready_one() if self._offers else None
        if link is None:
            return None
        shared = SharedReply(self._links, link)
        try:
            for offer in self._offers.to(insert):
                commands = packed([insert.along(offer.ready.first)])
                wake = offer.hand_over(partial(shared.take, offer))
                if wake is not None:
                    _send(link, commands, wake)
                    inserted = shared.inserted()
                    return None if went_astray(inserted) else [inserted]
        finally:
            if not shared.is_pools:
                self._links.keep(link)
        return None


def _send(link: Link, commands: Sequence[bytes], wake: Callable[[], None]) -> None:
    """Sends commands, and wakes the pool that reads the reply; if they were not sent, the pool hears of that."""
    try:
        link.begin(commands)
    except BaseException:
        link.interrupt()
        raise
    finally:
        wake()
