"""Drives verbs in threads: what they want to send is sent, and the replies are handed back."""

from typing import TypeVar

from fang_core.errors import BackendError
from fang_redis.connections.exchange import exchanged
from fang_redis.connections.links import Link, Links
from fang_redis.operations import Verb

T = TypeVar("T")


class Runner:
    """Runs verbs on the connections of a queue, or on one of its own."""

    def __init__(self, links: Links | Link) -> None:
        self.links = links

    def run(self, verb: Verb[T]) -> T:
        """Returns what the verb returns. Raises ``BackendError``, which the verb may catch."""
        exchange = exchanged(verb)
        try:
            commands = next(exchange)
            while True:
                try:
                    replies = self.links.send(commands)
                except BackendError as error:
                    commands = exchange.throw(error)
                else:
                    commands = exchange.send(replies)
        except StopIteration as end:
            result: T = end.value
            return result
