"""Sends the inserts of an event loop, with the claims of its pools if some are ready."""

from asyncio import Future
from collections.abc import Sequence
from functools import partial
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
                replies = await link.end(inserting)
                keep(link, replies)
                return None if went_astray(replies) else replies
        return None


def _begun(link: AsyncLink, insert: Insert[Any], offer: Offer) -> list[Future[Any]] | None:
    """Sends an insert and the claim of an offer in one piece, and returns the replies to the insert to come; None, and
    nothing is sent, if the pool claims no more."""
    commands = packed(insert.along(offer.request.pool_id))
    replies: list[Future[Any]] = []

    def send(ready: ReadyClaim) -> bool:
        if not offer.is_of(ready):
            return False
        replies.extend(link.begin([*commands, *offer.ready.commands]))
        offer.ready.goes_along(partial(link.end, replies[len(commands) :]))
        return True

    wake = offer.hand_over(send)
    if wake is None:
        return None
    wake()
    return replies[: len(commands)]
