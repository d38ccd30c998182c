"""Drives verbs in asyncio: each operation is sent, and its reply handed back."""

from typing import Any, TypeVar

from redis.exceptions import NoScriptError, ResponseError

from fang_core.errors import BackendError
from fang_redis.aio.links import AsyncLink, AsyncLinks
from fang_redis.diagnosis import refused
from fang_redis.operations import Step, Verb, answered, sent

T = TypeVar("T")


class AsyncRunner:
    """Runs verbs on the connections of a queue, or on one of its own."""

    def __init__(self, links: AsyncLinks | AsyncLink) -> None:
        self.links = links

    async def run(self, verb: Verb[T]) -> T:
        """Returns what the verb returns. Raises ``BackendError``, which the verb may catch."""
        try:
            step = next(verb)
            while True:
                try:
                    reply = await self._send(step)
                except (ResponseError, BackendError) as error:
                    step = verb.throw(refused(error) if isinstance(error, ResponseError) else error)
                else:
                    step = verb.send(reply)
        except StopIteration as end:
            result: T = end.value
            return result

    async def _send(self, step: Step) -> Any:
        replies = await self.links.send(sent(step))
        if isinstance(replies[0], NoScriptError):  # it ran nothing: the server has restarted, or another one took over
            replies = await self.links.send(sent(step, with_text=True))
        return answered(step, replies)
