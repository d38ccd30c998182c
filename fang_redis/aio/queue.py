"""Defines the queue on Redis for asyncio."""

from typing import Self, TypeVar

from fang_core.copying import Uncopyable
from fang_redis.aio.links import AsyncLinks
from fang_redis.aio.runner import AsyncRunner
from fang_redis.connecting import AsyncClient, async_server_of
from fang_redis.layout import Keys
from fang_redis.operations import Verb
from fang_redis.queue import DEFAULT_NAME
from fang_redis.sending import Sending

T = TypeVar("T")


class AsyncRedisQueue(Uncopyable):
    """A queue on Redis or Valkey for asyncio: see ``RedisQueue``."""

    def __init__(self, server: str | AsyncClient, /, *, name: str = DEFAULT_NAME) -> None:
        self._links = AsyncLinks(async_server_of(server))
        self._runner = AsyncRunner(self._links)
        self._sending = Sending(Keys(name, self._links.server.database))
        self.is_open = False

    async def open(self) -> None:
        """Connects and checks the server. Idempotent."""
        self.is_open = True

    async def close(self) -> None:
        """Closes what the queue opened itself. Idempotent."""
        await self._links.close()
        self.is_open = False

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _do(self, verb: Verb[T]) -> T:
        return await self._runner.run(verb)
