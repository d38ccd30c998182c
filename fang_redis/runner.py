"""Drives verbs in threads: each operation is sent, and its reply handed back."""

from typing import Any, TypeVar

from redis.exceptions import NoScriptError, RedisError

from fang_redis.connecting import Client
from fang_redis.diagnosis import diagnosed
from fang_redis.operations import Operation, Together, Verb, command_of, commands_of

T = TypeVar("T")


class Runner:
    """Runs verbs on a client, of which threads may share one."""

    def __init__(self, client: Client) -> None:
        self.client = client

    def run(self, verb: Verb[T]) -> T:
        """Returns what the verb returns. Raises ``BackendError``, which the verb may catch."""
        try:
            step = next(verb)
            while True:
                try:
                    reply = self._send(step)
                except RedisError as error:
                    step = verb.throw(diagnosed(error))
                else:
                    step = verb.send(reply)
        except StopIteration as end:
            result: T = end.value
            return result

    def _send(self, step: Operation[Any] | Together[Any]) -> Any:
        if isinstance(step, Together):
            with self.client.pipeline(transaction=True) as pipeline:
                for command in commands_of(step.operations):
                    pipeline.execute_command(*command)  # type: ignore[no-untyped-call]
                return pipeline.execute()
        try:
            return self.client.execute_command(*command_of(step))  # type: ignore[no-untyped-call]
        except NoScriptError:  # it ran nothing: the server has restarted, or another one has taken over
            return self.client.execute_command(*command_of(step, with_text=True))  # type: ignore[no-untyped-call]
