"""Carries a verb out, in either colour: sends its steps, and reads their replies."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias, TypeVar

from redis.exceptions import NoScriptError, ResponseError

from fang_core.errors import BackendError
from fang_redis.connections.diagnosis import refused
from fang_redis.operations import Argument, Insert, Verb, answered, sent

T = TypeVar("T")

Send: TypeAlias = Callable[[list[tuple[Argument, ...]]], Awaitable[Sequence[Any]]]
"""Sends commands at once, and returns the reply to each; in threads it never suspends."""


Handing: TypeAlias = Callable[[Insert[Any]], Awaitable[Sequence[Any] | None]]
"""Sends an insert with the claim of a pool, and returns the reply to the insert; None if it is to be sent alone."""


async def carried_out(verb: Verb[T], send: Send, hand: Handing | None = None) -> T:
    """Returns what the verb returns. The verb gets the errors of the server and of connections, and raises
    ``BackendError`` for those that it does not catch."""
    try:
        step = next(verb)
        while True:
            try:
                replies = None if hand is None or not isinstance(step, Insert) else await hand(step)
                if replies is None:
                    replies = await send(sent(step))
                if isinstance(replies[0], NoScriptError):  # it ran nothing: a server that has just started
                    replies = await send(sent(step, with_text=True))
                reply = answered(step, replies)
            except ResponseError as error:
                step = verb.throw(refused(error))
            except BackendError as error:
                step = verb.throw(error)
            else:
                step = verb.send(reply)
    except StopIteration as end:
        result: T = end.value
        return result
