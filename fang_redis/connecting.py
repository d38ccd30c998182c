"""Makes the clients of redis-py on which a queue works, of either colour, with what its promises need.

redis-py repeats a script whose reply was lost, by default ten times: a claim so repeated would hold tasks that nobody
runs. So no client of ours repeats anything.
"""

from typing import Any, Final, TypeAlias

import redis
import redis.asyncio
from redis.backoff import NoBackoff
from redis.retry import Retry

from fang_core.errors import UsageError

TIMEOUT: Final = 5.0
"""Seconds within which a server has to answer, or to accept a connection."""

Client: TypeAlias = redis.Redis
AsyncClient: TypeAlias = redis.asyncio.Redis


def _options() -> dict[str, Any]:
    return {
        "decode_responses": True,
        "protocol": 3,
        "socket_timeout": TIMEOUT,
        "socket_connect_timeout": TIMEOUT,
    }


def client_of(server: object) -> tuple[Client, bool]:
    """Returns a client for a URL, and whether it is ours to close. Raises ``UsageError``."""
    if isinstance(server, redis.Redis):
        return server, False
    if not isinstance(server, str):
        raise UsageError(f"give a URL like redis://localhost:6379/0, or a redis.Redis, not {type(server).__name__}")
    try:
        return redis.Redis.from_url(server, retry=Retry(NoBackoff(), 0), **_options()), True
    except ValueError as error:
        raise UsageError(f"the URL of Redis cannot be used: {error}") from None


def async_client_of(server: object) -> tuple[AsyncClient, bool]:
    """Returns an asyncio client for a URL, and whether it is ours to close. Raises ``UsageError``."""
    if isinstance(server, redis.asyncio.Redis):
        return server, False
    if not isinstance(server, str):
        raise UsageError(
            f"give a URL like redis://localhost:6379/0, or a redis.asyncio.Redis, not {type(server).__name__}"
        )
    try:
        retry = redis.asyncio.retry.Retry(NoBackoff(), 0)
        return redis.asyncio.Redis.from_url(server, retry=retry, **_options()), True
    except ValueError as error:
        raise UsageError(f"the URL of Redis cannot be used: {error}") from None


def database_of(client: Client | AsyncClient) -> int:
    """Returns the number of the client's database."""
    return int(client.connection_pool.connection_kwargs.get("db") or 0)
