"""Holds what the connection pools of both modes share."""

import select
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from fang_postgres.connections.diagnosis import has_no_room
from fang_postgres.connections.places import Places

Made = TypeVar("Made")
Lives = TypeVar("Lives")
Waiter = TypeVar("Waiter")


class BaseConnectionPool(ABC, Generic[Made, Lives, Waiter]):
    """Lends at most ``size`` connections, made when they are needed; the last one returned is lent first.

    While the server has no room for another connection, callers wait for an existing one.

    Args:
        connect: makes a connection, which the connection pool closes.
        size: the most connections; at least 1.
        unused_for: seconds for which a connection may stay unused. Threads close it when they would use it after that;
            in asyncio a timer closes it, after half of them at the earliest. None keeps it.
        lives: pings a connection that was not used for ``ask_after`` seconds, in bounded time.
    """

    def __init__(
        self,
        connect: Callable[[], Made],
        size: int,
        unused_for: float | None = None,
        *,
        lives: Callable[[Any], Lives] | None = None,
        ask_after: float = 0.0,
    ) -> None:
        self._connect = connect
        self._unused_for = unused_for
        self._lives = lives
        self._ask_after = ask_after
        self._places: Places[Waiter] = Places(size)
        self._is_closed = False
        self._set_up()

    @abstractmethod
    def _set_up(self) -> None:
        """Makes the container of the connections."""


def is_for_room(error: BaseException, of_driver: type[BaseException]) -> bool:
    """Returns whether a connect failed only because there is no room for another connection."""
    return isinstance(error, of_driver) and has_no_room(getattr(error, "sqlstate", None), str(error))


def has_input(number: int) -> bool:
    """Returns whether the socket with this number has unread input: on an idle connection, as a rule, the end of the
    session.

    Its reason, its end of file or its reset lies in the socket then, and a statement sent now would be lost. (A server
    that reloads its settings may report them, too. Then a new connection is made for nothing, which is rare.)
    """
    if not hasattr(select, "poll"):  # on Windows, whose select takes any number
        return bool(select.select((number,), (), (), 0)[0])
    poll = select.poll()
    poll.register(number, select.POLLIN)
    return bool(poll.poll(0))
