"""Sends the inserts of an event loop, with the claims of its pools if some are ready."""

from asyncio import Future, sleep
from collections.abc import Sequence
from typing import Any

from fang_core.backends.claims import ReadyClaim
from fang_redis.aio.links import AsyncLink, AsyncLinks, keep
from fang_redis.connections.handing import Offer, Offers, went_astray
from fang_redis.connections.links import packed
from fang_redis.operations import Insert


class AsyncHanding:
    """See ``Handing``."""

    def __init__(self, links: AsyncLinks, offers: Offers) -> None:
        self._links = links
        self._offers = offers

    async def __call__(self, insert: Insert[Any]) -> Sequence[Any] | None:
        """Returns the replies to the insert; None if it is to be sent alone. Raises ``BackendError``."""
        link = self._links.ready_one if self._offers else None
        if link is None:
            return None
        for offer in self._offers.to(insert):
            inserting = _begun(link, insert, offer)
            if inserting is not None:
                (reply,) = replies = await link.end([inserting])
                await sleep(0)  # the claimer has its part of the reply, too, and wakes a worker: the run goes first
                keep(link, replies)
                return None if went_astray(reply) else replies
        return None


def _begun(link: AsyncLink, insert: Insert[Any], offer: Offer) -> Future[Any] | None:
    """Sends an insert with the claim of an offer, and returns the reply to the insert to come; None, and nothing is
    sent, if the pool claims no more."""
    commands = packed([insert.along(offer.ready.first)])
    inserting: Future[Any] | None = None

    def send(ready: ReadyClaim) -> bool:
        nonlocal inserting
        if not offer.is_of(ready):
            return False
        claiming, inserting = link.begin_pair(commands)
        offer.ready.goes_along(lambda: claiming)
        return True

    wake = offer.hand_over(send)
    if wake is not None:
        wake()
    return inserting
