"""Defines the queue on Redis for threaded code."""

from typing import Self, TypeVar

from fang_core.copying import Uncopyable
from fang_redis.connecting import Client, server_of
from fang_redis.layout import Keys
from fang_redis.links import Links
from fang_redis.operations import Verb
from fang_redis.runner import Runner
from fang_redis.sending import Sending

T = TypeVar("T")

DEFAULT_NAME = "fang"


class RedisQueue(Uncopyable):
    """A queue on Redis or Valkey. Threads may share one.

    Args:
        server: a URL like ``redis://localhost:6379/0``, or a client of redis-py, whose settings it uses: it makes
            connections of its own, which repeat nothing.
        name: begins the names of all keys; queues of different names share a server without seeing each other.
    """

    def __init__(self, server: str | Client, /, *, name: str = DEFAULT_NAME) -> None:
        self._links = Links(server_of(server))
        self._runner = Runner(self._links)
        self._sending = Sending(Keys(name, self._links.server.database))
        self.is_open = False

    def open(self) -> None:
        """Connects and checks the server. Idempotent."""
        self.is_open = True

    def close(self) -> None:
        """Closes what the queue opened itself. Idempotent."""
        self._links.close()
        self.is_open = False

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _do(self, verb: Verb[T]) -> T:
        return self._runner.run(verb)
