"""Keeps a claim ready while a claimer rests, and sends it as soon as the pool is woken, or along with an insert.

The caller that wakes a pool, a listener's thread or a callback of the event loop, has the message in hand well before
the claimer goes on: in between lie the change of thread or task and the decision what to do next. Nearly always that is
to claim again what the last claim has not found. So that claim is sent at once, and the claimer finds it under way.
"""

import time
from collections.abc import Callable
from threading import Lock
from typing import NamedTuple

from fang_core.backends.claims import ClaimRequest, ReadyClaim, SendAlong
from fang_core.backends.store import ClaimStore


class Sent(NamedTuple):
    """A claim that is under way.

    Attributes:
        began: when it was sent, in seconds of the monotonic clock.
    """

    request: ClaimRequest
    ready: ReadyClaim
    began: float


class Standby:
    """Holds one claim. The claimer calls ``arm`` and ``take``; any thread may call the other methods.

    Args:
        may_send: returns whether the claimer would make the same claim again now; any thread may call it.
        on_sent_along: called, on the thread of the insert, when an insert has taken the claim along.
    """

    def __init__(self, store: ClaimStore, *, may_send: Callable[[], bool], on_sent_along: Callable[[], None]) -> None:
        self._store = store
        self._may_send = may_send
        self._on_sent_along = on_sent_along
        self._changing = Lock()
        self._armed: tuple[ClaimRequest, ReadyClaim] | None = None
        self._sent: Sent | None = None
        self._again = False

    def arm(self, request: ClaimRequest, *, offers: bool) -> None:
        """Has ``fire`` send this claim, once, if the backend can keep one ready.

        ``offers`` lets an insert of this process take it along instead.
        """
        ready = self._store.ready(request)
        if ready is not None:
            self._armed = request, ready
            if offers:
                ready.offer(self._hand_over)

    def disarm(self) -> None:
        """Has ``fire`` send nothing, unless it is just doing so; a signal handler may call this."""
        self._armed = None

    def fire(self) -> None:
        """Sends the claim, if there is one and it may be sent; it does not wait.

        If one is under way already, the claimer learns that the pool was woken again, whatever may be sent now.
        """
        if self._armed is None and self._sent is None:
            return
        with self._changing:
            if self._sent is not None:
                self._again = True  # that claim may not see what this call is about
                return
            if not self._may_send():
                return
            armed, self._armed = self._armed, None
            if armed is not None:
                began = time.monotonic()
                if armed[1].send():
                    self._sent = Sent(*armed, began)

    def _hand_over(self, send: SendAlong) -> Callable[[], None] | None:
        """See ``HandOver``; it sends nothing if no claim is armed, one is under way, or it may not be sent."""
        if self._armed is None:
            return None
        with self._changing:
            armed = self._armed
            began = time.monotonic()
            if armed is None or not self._may_send() or not send(armed[1]):
                return None
            self._armed, self._sent = None, Sent(*armed, began)
            return self._on_sent_along

    def take(self) -> tuple[Sent | None, bool]:
        """Returns the claim that was sent, and whether the pool was woken again since; nothing is sent from here on."""
        with self._changing:
            taken = self._sent, self._again
            self._armed = self._sent = None
            self._again = False
        return taken
