"""Defines what both queues on Redis share: their options, and what a pool asks of them."""

from collections.abc import Sequence
from typing import Final

from fang_core.backends.capabilities import Capabilities
from fang_core.errors import UsageError
from fang_core.tasks.insert_middleware import InsertMiddleware
from fang_core.tasks.insertion import Inject, Rules
from fang_core.tasks.payloads.codec import MAX_PAYLOAD_BYTES
from fang_redis.connections.connecting import CONNECT_WITHIN, Server
from fang_redis.connections.handing import Offers
from fang_redis.layout import Keys
from fang_redis.verbs import PoolVerbs, RedisVerbs

DEFAULT_NAME: Final = "fang"


class RedisQueueBase:
    """Holds the options of a queue, and its verbs."""

    capabilities = Capabilities(concurrent_writers=True, outlives_processes=True, shows_deaths=True, wakes=True)
    connects_within = CONNECT_WITHIN
    _takes_connections = False

    def __init__(
        self,
        server: Server,
        name: str,
        *,
        replicas: int = 0,
        max_payload_bytes: int = MAX_PAYLOAD_BYTES,
        duplicated_tasks: bool = True,
        inject: Sequence[Inject] = (),
        insert_middleware: Sequence[InsertMiddleware] = (),
    ) -> None:
        if not isinstance(replicas, int) or isinstance(replicas, bool) or replicas < 0:
            raise UsageError("replicas is the number of replicas that have to confirm an insert, 0 or more")
        self.rules = Rules(
            max_payload_bytes=max_payload_bytes,
            duplicated_tasks=duplicated_tasks,
            inject=inject,
            insert_middleware=insert_middleware,
        )
        self._server = server
        self._is_open = False
        self.keys = Keys(name, server.database)
        self._verbs = RedisVerbs(self.keys, replicas)
        self._pool_verbs = PoolVerbs(self.keys)
        self._offers = Offers()

    @property
    def is_open(self) -> bool:
        """Returns whether the queue can be used now."""
        return self._is_open
