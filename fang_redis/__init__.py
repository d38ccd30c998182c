"""Fang on Redis or Valkey: the same tasks, pools and promises without Postgres, apart from transactions."""

from fang_core.errors import MissingExtra

try:
    from fang_redis.aio.queue import AsyncRedisQueue
    from fang_redis.queue import RedisQueue
except ModuleNotFoundError as error:
    if error.name is None or error.name.partition(".")[0] not in ("redis", "hiredis"):
        raise
    raise MissingExtra("fang_redis needs redis-py and hiredis: pip install 'fang-tasks[redis]'") from None

__all__ = ("RedisQueue", "AsyncRedisQueue")
