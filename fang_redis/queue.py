"""Defines the queue on Redis for threaded code."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

from fang_core.backends.queue import BaseQueue
from fang_core.backends.verbs import Call
from fang_core.holding import Holder
from fang_core.tasks.insert_middleware import InsertMiddleware
from fang_core.tasks.insertion import Inject
from fang_core.tasks.payloads.codec import MAX_PAYLOAD_BYTES
from fang_core.words.naming import names_arguments
from fang_redis.base import DEFAULT_NAME, RedisQueueBase
from fang_redis.connections.checking import check
from fang_redis.connections.connecting import Client, server_of
from fang_redis.connections.driver import ThreadDriver
from fang_redis.pools.listening import Listener
from fang_redis.store import RedisStore

T = TypeVar("T")


@names_arguments
class RedisQueue(RedisQueueBase, BaseQueue[None]):
    """A ``Queueable`` on Redis or Valkey. Threads may share one.

    Args:
        server: a URL like ``redis://localhost:6379/0``, or a client of redis-py, whose settings it uses: it makes
            connections of its own, which repeat nothing.
        name: begins the names of all keys; queues of different names share a server without seeing each other.
        replicas: how many replicas have to confirm an insert before it returns, so that no failover loses it; a round
            trip more each. Inserts that are not confirmed within a second raise ``OutcomeUnknown``.
        max_payload_bytes, duplicated_tasks, inject, insert_middleware: as of ``fang_threaded.Queue``.

    Raises ``UsageError`` if the URL or the name cannot be used.
    """

    def __init__(
        self,
        server: str | Client,
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
        super().__init__(server_of(server), **options)
        self._recipe = partial(type(self), server, **options) if isinstance(server, str) else None
        self._driver = ThreadDriver(self._server, self._offers)
        self._listener = Listener(self.keys.channel, self._driver.new_ear)
        self._holder = Holder(self._new_store())

    @property
    def recipe(self) -> Callable[[], "RedisQueue"] | None:
        """A function that makes an equal queue in another process; None if its client was handed in."""
        return self._recipe

    def open(self) -> None:
        """Connects and checks the server. Idempotent. Raises ``BackendError`` if no queue works on it."""
        if not self._is_open:
            self._driver.links.open()
            self._driver.runner.run(check(self._server, self.keys))
            self._is_open = True

    def close(self) -> None:
        """Closes the connections of the queue; those of pools stay until these end. Idempotent.

        The queue can be opened again. Tasks that were fetched by hand and not ended are given back.
        """
        self._holder.end()
        self._driver.links.close()
        self._is_open = False

    def store(self) -> RedisStore:
        """Makes a store for a pool, which closes it at its end. Raises like ``open``."""
        self.open()
        return self._new_store()

    def _new_store(self) -> RedisStore:
        return RedisStore(self._pool_verbs, self.keys, ThreadDriver(self._server), self._listener, self._offers)

    def _do(self, call: Call[T], _: None, /) -> T:
        result: T = self._driver.runner.run(call.on(self._verbs))
        return result

    def _begin_to_hold(self) -> UUID:
        return self._holder.begin()

    def _doubt(self, pool_id: UUID) -> None:
        self._holder.doubt(pool_id)
