"""Turns a verb into an exchange of commands and replies, and carries that out in either colour."""

from collections.abc import Awaitable, Callable, Generator, Sequence
from typing import Any, TypeAlias, TypeVar

from redis.exceptions import NoScriptError, ResponseError

from fang_core.errors import BackendError
from fang_redis.connections.diagnosis import refused
from fang_redis.operations import Argument, Verb, answered, sent

T = TypeVar("T")

Exchange: TypeAlias = Generator[list[tuple[Argument, ...]], Sequence[Any], T]
"""Yields commands that are sent at once, and gets the reply to each."""


Send: TypeAlias = Callable[[list[tuple[Argument, ...]]], Awaitable[Sequence[Any]]]
"""Sends commands at once, and returns the reply to each; in threads it never suspends."""


async def carried_out(verb: Verb[T], send: Send) -> T:
    """Returns what the verb returns. Raises ``BackendError``, which the verb may catch."""
    exchange = exchanged(verb)
    try:
        commands = next(exchange)
        while True:
            try:
                replies = await send(commands)
            except BackendError as error:
                commands = exchange.throw(error)
            else:
                commands = exchange.send(replies)
    except StopIteration as end:
        result: T = end.value
        return result


def exchanged(verb: Verb[T]) -> Exchange[T]:
    """Sends the steps of a verb, and reads their replies. The verb gets the errors of the server and of connections."""
    try:
        step = next(verb)
        while True:
            try:
                replies = yield sent(step)
                if isinstance(replies[0], NoScriptError):  # it ran nothing: a server that has just started
                    replies = yield sent(step, with_text=True)
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
