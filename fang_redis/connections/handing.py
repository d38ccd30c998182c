"""Has an insert take along the claim of a pool that rests in the same process: the pool has the task at once.

The claim is the one that the pool would send itself as soon as it is woken. It goes behind the insert on the same
connection, its reply goes to the pool, and what becomes of one of the two says nothing of the other.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

from redis.exceptions import MovedError

from fang_core.backends.claims import ClaimRequest, HandOver, ReadyClaim
from fang_core.errors import BackendError, BackendUnavailable
from fang_core.interpreter.forks import in_child
from fang_redis.connections.connecting import ANSWER_WITHIN
from fang_redis.connections.links import Link, Links, packed
from fang_redis.connections.ready import Ready
from fang_redis.operations import Insert


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


def went_astray(replies: Sequence[Any]) -> bool:
    """Returns whether a node of a Cluster has refused commands that another one is to get."""
    return any(isinstance(reply, MovedError) for reply in replies)


class Handed:
    """The reply to a claim that the thread of an insert has sent, for that of the pool."""

    def __init__(self) -> None:
        self._came: SimpleQueue[Any] = SimpleQueue()

    def put(self, reply: Any) -> None:
        """Passes on the reply, or the error if none can come."""
        self._came.put(reply)

    async def replies(self) -> Sequence[Any]:
        """Waits for the reply. Raises ``BackendUnavailable`` if none comes: the other thread may have been stopped."""
        try:
            reply = self._came.get(timeout=ANSWER_WITHIN)
        except Empty:
            raise BackendUnavailable("an insert took a claim along, and has brought no reply") from None
        if isinstance(reply, BackendError):
            raise reply
        return [reply]


def _taken_over(offer: Offer, handed: Handed, ready: ReadyClaim) -> bool:
    """Takes a claim over, to be sent by this thread; see ``SendAlong``."""
    if not offer.is_of(ready):
        return False
    offer.ready.goes_along(handed.replies)
    return True


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
        try:
            for offer in self._offers.to(insert):
                commands, handed = packed(insert.along(offer.request.pool_id)), Handed()
                wake = offer.hand_over(partial(_taken_over, offer, handed))
                if wake is not None:
                    used, link = link, None
                    return self._exchange(used, [*commands, *offer.ready.commands], handed, wake)
        finally:
            if link is not None:
                self._links.keep(link)
        return None

    def _exchange(
        self, link: Link, commands: list[bytes], handed: Handed, wake: Callable[[], None]
    ) -> Sequence[Any] | None:
        """Sends both, and passes the reply to the claim, which is the last one, on to its pool."""
        replies: list[Any] | None = None
        try:
            link.begin([b"".join(commands)])  # in one system call
            wake()  # while the server works
            replies = link.end(len(commands) - 1)
            (claimed,) = link.end(1)
        except BaseException as error:
            handed.put(BackendUnavailable(f"an insert took a claim along, and failed: {error}"))
            wake()
            if replies is None or not isinstance(error, BackendError):
                raise
        else:
            handed.put(claimed)
            self._links.keep(link, replies)
        return None if went_astray(replies) else replies
