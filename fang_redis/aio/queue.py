"""Defines the queue on Redis for asyncio."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

from fang_core.backends.async_queue import AsyncBaseQueue
from fang_core.backends.verbs import Call
from fang_core.holding import Holder
from fang_core.tasks.insert_middleware import InsertMiddleware
from fang_core.tasks.insertion import Inject
from fang_core.tasks.payloads.codec import MAX_PAYLOAD_BYTES
from fang_core.words.naming import names_arguments
from fang_redis.aio.driver import AsyncDriver
from fang_redis.aio.links import running_loop
from fang_redis.base import DEFAULT_NAME, RedisQueueBase
from fang_redis.connections.checking import check
from fang_redis.connections.connecting import AsyncClient, async_server_of, threaded
from fang_redis.connections.driver import Driver, ThreadDriver
from fang_redis.pools.listening import Listener
from fang_redis.store import RedisStore

T = TypeVar("T")


@names_arguments
class AsyncRedisQueue(RedisQueueBase, AsyncBaseQueue[None]):
    """An ``AsyncQueueable`` on Redis or Valkey: see ``RedisQueue``. It takes a ``redis.asyncio.Redis``.

    Use it on one event loop; after ``close`` another one may open it.
    """

    def __init__(
        self,
        server: str | AsyncClient,
        /,
        *,
        name: str = DEFAULT_NAME,
        replicas: int = 0,
        max_payload_bytes: int = MAX_PAYLOAD_BYTES,
        duplicated_tasks: bool = True,
        inject: Sequence[Inject] = (),
        insert_middleware: Sequence[InsertMiddleware] = (),
    ) -> None:
        options: dict[str, Any] = {
            "name": name,
            "replicas": replicas,
            "max_payload_bytes": max_payload_bytes,
            "duplicated_tasks": duplicated_tasks,
            "inject": inject,
            "insert_middleware": insert_middleware,
        }
        super().__init__(async_server_of(server), **options)
        self._recipe = partial(type(self), server, **options) if isinstance(server, str) else None
        self._driver = AsyncDriver(self._server, self._offers)
        self._listener = Listener(self.keys.channel, self._driver.new_ear)
        self._holder: Holder | None = None

    @property
    def recipe(self) -> Callable[[], "AsyncRedisQueue"] | None:
        """A function that makes an equal queue in another process; None if its client was handed in."""
        return self._recipe

    async def open(self) -> None:
        """Connects and checks the server. Idempotent. Raises ``BackendError`` if no queue works on it."""
        self._driver.links.enter()
        if not self._is_open:
            await self._driver.run(check(self._server, self.keys))
            self._is_open = True

    async def close(self) -> None:
        """Closes the connection of the queue; those of pools stay until these end. Idempotent.

        The queue can be opened again. Tasks that were fetched by hand and not ended are given back.
        """
        running_loop()
        if self._holder is not None:
            await asyncio.to_thread(self._holder.end)
        await self._driver.links.close()
        self._is_open = False

    async def store(self) -> RedisStore:
        """Makes a store for a pool, which closes it at its end. Raises like ``open``."""
        await self.open()
        return self._store_of(AsyncDriver(self._server))

    def _store_of(self, driver: Driver) -> RedisStore:
        return RedisStore(self._pool_verbs, self.keys, driver, self._listener, self._offers)

    async def _do(self, call: Call[T], _: None, /) -> T:
        result: T = await self._driver.run(call.on(self._verbs))
        return result

    async def _begin_to_hold(self) -> UUID:
        running_loop()
        if self._holder is None:
            self._holder = Holder(self._store_of(ThreadDriver(threaded(self._server))))
        return await asyncio.to_thread(self._holder.begin)

    async def _doubt(self, pool_id: UUID) -> None:
        if self._holder is not None:
            await asyncio.to_thread(self._holder.doubt, pool_id)
