"""Drives verbs in threads: each operation is sent, and its reply handed back."""

from typing import Any, TypeVar

from redis.exceptions import NoScriptError, ResponseError

from fang_core.errors import BackendError
from fang_redis.diagnosis import refused
from fang_redis.links import Link, Links
from fang_redis.operations import Operation, Together, Verb, command_of, commands_of, replies_of

T = TypeVar("T")


class Runner:
    """Runs verbs on the connections of a queue, or on one of its own."""

    def __init__(self, links: Links | Link) -> None:
        self.links = links

    def run(self, verb: Verb[T]) -> T:
        """Returns what the verb returns. Raises ``BackendError``, which the verb may catch."""
        try:
            step = next(verb)
            while True:
                try:
                    reply = self._send(step)
                except (ResponseError, BackendError) as error:
                    step = verb.throw(refused(error) if isinstance(error, ResponseError) else error)
                else:
                    step = verb.send(reply)
        except StopIteration as end:
            result: T = end.value
            return result

    def _send(self, step: Operation[Any] | Together[Any]) -> Any:
        if isinstance(step, Together):
            return replies_of(self.links.send([("MULTI",), *commands_of(step.operations), ("EXEC",)]))
        (reply,) = self.links.send([command_of(step)])
        if isinstance(reply, NoScriptError):  # it ran nothing: the server has restarted, or another one has taken over
            (reply,) = self.links.send([command_of(step, with_text=True)])
        if isinstance(reply, ResponseError):
            raise reply
        return reply
