"""Drives verbs in threads: what they want to send is sent, and the replies are handed back."""

from collections.abc import Sequence
from typing import Any, TypeVar

from fang_core.driving import drive
from fang_redis.connections.exchange import carried_out
from fang_redis.connections.links import Command, Link, Links
from fang_redis.operations import Verb

T = TypeVar("T")


class Runner:
    """Runs verbs on the connections of a queue, or on one of its own."""

    def __init__(self, links: Links | Link) -> None:
        self.links = links

    def run(self, verb: Verb[T]) -> T:
        """Returns what the verb returns. Raises ``BackendError``, which the verb may catch."""
        return drive(carried_out(verb, self._send))

    async def _send(self, commands: Sequence[Command]) -> list[Any]:
        return self.links.send(commands)
