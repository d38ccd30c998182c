"""Defines what both queues in memory share.

There are no transactions here: an insert takes effect at once, whatever ``connection`` was given.
"""

from collections.abc import Sequence
from typing import TypeVar
from uuid import UUID, uuid4

from fang_core.backends.capabilities import Capabilities
from fang_core.backends.memory.state import Clock, MemoryState, utc_clock
from fang_core.backends.memory.verbs import MemoryVerbs
from fang_core.backends.pools import manual_pool
from fang_core.backends.verbs import Call, Verbs
from fang_core.record import Task
from fang_core.tasks.insert_middleware import InsertMiddleware
from fang_core.tasks.insertion import Inject, Rules
from fang_core.tasks.payloads.codec import MAX_PAYLOAD_BYTES

T = TypeVar("T")


class MemoryQueueBase:
    """Holds the state, and carries out calls on it: a plain call each."""

    def __init__(
        self,
        *,
        state: MemoryState | None = None,
        clock: Clock = utc_clock,
        max_payload_bytes: int = MAX_PAYLOAD_BYTES,
        duplicated_tasks: bool = True,
        inject: Sequence[Inject] = (),
        insert_middleware: Sequence[InsertMiddleware] = (),
    ) -> None:
        self.state = state if state is not None else MemoryState(clock)
        self.rules = Rules(
            max_payload_bytes=max_payload_bytes,
            duplicated_tasks=duplicated_tasks,
            inject=inject,
            insert_middleware=insert_middleware,
        )
        self.is_open = True
        self.capabilities = Capabilities(wakes=True)
        self.connects_within = 0.0
        self._verbs: Verbs = MemoryVerbs(self.state)
        self._manual_pool = manual_pool(uuid4())

    @property
    def tasks(self) -> list[Task]:
        """All rows, in the order of their insertion."""
        return self.state.rows

    def _done(self, call: Call[T]) -> T:
        done: T = call.on(self._verbs)
        return done

    def _held_by(self) -> UUID:
        """Returns the pool that holds tasks fetched by hand; it has no heart, since no process survives this one."""
        self.state.registry.register(self._manual_pool)
        return self._manual_pool.id
