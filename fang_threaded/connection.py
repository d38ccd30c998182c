"""The queue's own psycopg connection, which gives up on a silent server."""

import time
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen

from fang_postgres.connections.connecting import ANSWER_WITHIN, LIVES_WITHIN, UNANSWERED

T = TypeVar("T")


class Connection(psycopg.Connection[Any]):
    """Closes itself when a call has waited for the server for ``ANSWER_WITHIN`` without hearing from it; the call
    raises ``psycopg.OperationalError``.

    All calls wait in ``wait``, a BEGIN and a COMMIT as well. There psycopg asks its generator every 0.1 s whether to go
    on. So no other thread needs to cut the connection, which another caller may use by then, and a statement that is
    answered at once costs no look at a clock.
    """

    _answers_within: float | None = None

    def wait(self, gen: PQGen[T], *args: Any, **kwargs: Any) -> T:
        """Returns what the generator returns; see psycopg's own."""
        return super().wait(self._unless_silent(gen), *args, **kwargs)

    def lives(self) -> bool:
        """Returns whether the server answers within ``LIVES_WITHIN``. Call it outside of transactions only."""
        self._answers_within = LIVES_WITHIN
        try:
            self.execute(b"")
        except psycopg.Error:
            return False
        finally:
            self._answers_within = None
        return True

    def _unless_silent(self, gen: PQGen[T]) -> PQGen[T]:
        silent_since: float | None = None
        within = ANSWER_WITHIN if self._answers_within is None else self._answers_within
        try:
            state = next(gen)
            while True:
                ready = yield state
                if ready:
                    silent_since = None
                elif silent_since is None:
                    silent_since = time.monotonic()
                elif time.monotonic() - silent_since > within:
                    self.pgconn.finish()  # first: the generator's clean-up must not wait as long again
                    error = psycopg.OperationalError(UNANSWERED.format(within))
                    gen.throw(error)
                    raise error
                state = gen.send(ready)
        except StopIteration as end:
            result: T = end.value
            return result
