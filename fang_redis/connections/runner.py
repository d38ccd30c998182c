"""Drives verbs in threads: what they want to send is sent, and the replies are handed back."""

from collections.abc import Sequence
from typing import Any, TypeVar

from fang_core.driving import drive
from fang_redis.connections.exchange import Handing, carried_out
from fang_redis.connections.links import Command, Link, Links
from fang_redis.operations import Verb

T = TypeVar("T")


class Runner:
    """Runs verbs on the connections of a queue, or on one of its own; ``hand`` may send its inserts."""

    def __init__(self, links: Links | Link, hand: Handing | None = None) -> None:
        self.links = links
        self._hand = hand

    def run(self, verb: Verb[T]) -> T:
        """Returns what the verb returns. Raises ``BackendError``, which the verb may catch."""
        return drive(carried_out(verb, self._send, self._hand))

    async def _send(self, commands: Sequence[Command]) -> list[Any]:
        return self.links.send(commands)
