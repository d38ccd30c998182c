"""Fang on Redis or Valkey: the same tasks, pools and promises without Postgres, apart from transactions."""

from fang_redis.aio.queue import AsyncRedisQueue
from fang_redis.queue import RedisQueue

__all__ = ("RedisQueue", "AsyncRedisQueue")
