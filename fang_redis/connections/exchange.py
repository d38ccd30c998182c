"""Turns a verb into an exchange of commands and replies, which a runner of either colour carries out."""

from collections.abc import Generator, Sequence
from typing import Any, TypeAlias, TypeVar

from redis.exceptions import NoScriptError, ResponseError

from fang_core.errors import BackendError
from fang_redis.connections.diagnosis import refused
from fang_redis.operations import Argument, Verb, answered, sent

T = TypeVar("T")

Exchange: TypeAlias = Generator[list[tuple[Argument, ...]], Sequence[Any], T]
"""Yields commands that are sent at once, and gets the reply to each."""


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
