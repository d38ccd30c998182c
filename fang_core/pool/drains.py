"""Holds the callers of ``drain()`` until their pool's claims have found every task type empty."""

from collections.abc import Collection
from typing import Final

from fang_core.backends.store import FlowStore
from fang_core.pool.runtime import Event, Runtime

PLAIN: Final = ""
"""Stands for all task types that are not managed; no task type is empty."""


class Drain:
    """A caller's wait until no due task is left."""

    def __init__(self, over: Event) -> None:
        self.over = over
        self.empty: set[str] = set()
        """The types in which claims since its beginning have found nothing that may start; see ``PLAIN``."""
        self.adopted: set[str] = set()
        """The managed types in which every task that was inserted before its beginning has a lane."""


class Drains:
    """The drains of a pool that have not ended."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._open: list[Drain] = []

    def __bool__(self) -> bool:
        return bool(self._open)

    def __len__(self) -> int:
        return len(self._open)

    def begin(self) -> Drain:
        """Begins a drain; the caller ends it by ``remove``."""
        drain = Drain(self._runtime.event())
        self._open.append(drain)
        return drain

    def remove(self, drain: Drain) -> None:
        """Forgets a drain that has ended, or whose caller waits no longer."""
        self._open.remove(drain)

    def present(self) -> tuple[Drain, ...]:
        """Returns the drains that a claim which begins now may end: it sees all that was inserted before them."""
        return tuple(self._open)

    def look_again_at_plain_types(self) -> None:
        """Notes that a type is no longer managed: no claim has looked whether it has tasks among the plain ones."""
        for drain in self._open:
            drain.empty.discard(PLAIN)

    def end_all(self) -> None:
        """Ends every drain, as the pool has stopped."""
        for drain in self.present():
            drain.over.set()

    def found_tasks(self) -> None:
        """Notes that a claim has brought tasks: their runs may insert more, of any type."""
        for drain in self._open:
            drain.empty.clear()


async def adopt_before(drains: Collection[Drain], managed: Collection[str], store: FlowStore) -> None:
    """Gives lanes to tasks of managed types that have none, which no claim finds, before these drains end; see
    ``FlowStore.adopt_all``."""
    for task_type in managed:
        late = [drain for drain in drains if task_type not in drain.adopted]
        if late:
            await store.adopt_all(task_type)
            for drain in late:
                drain.adopted.add(task_type)
