"""Writes the scripts that retry or remove all tasks of a filter. Pure."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from fang_core.errors import TwinExists
from fang_core.lifecycle import DUE_STATES, TERMINAL_STATES
from fang_core.monitoring.listing import Key
from fang_core.record import HIGHEST_PRIORITY, TaskState
from fang_core.tasks.selecting.batches import BATCH_SECONDS, GROWTH, Batches
from fang_core.tasks.selecting.filter import TaskFilter
from fang_core.tasks.selecting.walks import states_of, walk_of
from fang_core.words.moments import EARLIEST, LATEST
from fang_postgres.operations import Operations
from fang_postgres.operations.bulk import Batch, Sizes, ids_of
from fang_postgres.statement import Script

MOST: Final = 500
"""The most tasks of a batch, which takes about 20 ms and is committed by itself."""

_LEAST_WINDOW: Final = 500
_MOST_WINDOW: Final = 10_000
_QUICK: Final = 0.1  # seconds
_TRIES: Final = 20
_LEAST_ID, _MOST_ID = UUID(int=0), UUID(int=2**128 - 1)


def retry_many(operations: Operations, which: TaskFilter, batches: Batches, *, notify: bool) -> Script[int]:
    """Retries the tasks that match; returns how many."""
    return _many(operations, "retry", which, batches, _retry, notify=notify)


def remove_many(operations: Operations, which: TaskFilter, batches: Batches, *, notify: bool) -> Script[int]:
    """Removes the tasks that match; returns how many."""
    return _many(operations, "remove", which, batches, _remove, notify=notify)


def _many(
    operations: Operations,
    verb: str,
    which: TaskFilter,
    batches: Batches,
    walk: "Callable[[_Work, frozenset[TaskState]], Script[None]]",
    *,
    notify: bool,
) -> Script[int]:
    as_of: datetime = yield operations.clock()
    if walk_of(which) is not None:
        work = _Work(operations, verb, which, as_of, batches, notify)
        yield from work.named() if which.ids is not None else walk(work, states_of(which))
    return batches.done


def _retry(work: "_Work", states: frozenset[TaskState]) -> Script[None]:
    if TaskState.RETRIED in states:
        yield from work.waiting("retried")
    yield from work.ended(states.intersection(TERMINAL_STATES))


def _remove(work: "_Work", states: frozenset[TaskState]) -> Script[None]:
    if states == frozenset(TaskState):
        yield from work.by_id("inserted")
        return
    # In the order of a life, so that a task which moves on meanwhile is met.
    if not states.isdisjoint(DUE_STATES):
        yield from work.waiting("waiting")
    if TaskState.IN_PROGRESS in states:
        yield from work.by_id("held")
    yield from work.ended(states.intersection(TERMINAL_STATES))


@dataclass(slots=True)
class _Work:
    """Describes one call for many tasks.

    A batch takes up to ``limit`` tasks among ``window`` that it looks at. The first one is a single task, as its cost
    is unknown: a table without an index may refer to it.
    """

    operations: Operations
    verb: str
    which: TaskFilter
    as_of: datetime
    batches: Batches
    notify: bool
    limit: int = 1
    window: int = _LEAST_WINDOW

    def named(self) -> Script[None]:
        """Deals with the tasks that the filter names."""
        for ids in ids_of(self.which, MOST):
            yield from self.by_id("ids", {"p_ids": list(ids)})

    def waiting(self, way: str) -> Script[None]:
        """Goes through waiting tasks, of the filter's types or of all."""
        for task_type in ("",) if self.which.task_types is None else sorted(self.which.task_types):
            place: Key | None = (task_type, HIGHEST_PRIORITY, EARLIEST, _LEAST_ID)
            while place is not None and task_type in ("", place[0]):
                batch = yield from self._batch(way, place)
                place = batch.reached

    def ended(self, states: frozenset[TaskState]) -> Script[None]:
        """Goes through ended tasks, state by state and type by type; failed ones by kind if the filter has kinds."""
        for state in sorted(states):
            if state is TaskState.FAILED and self.which.kinds is not None:
                for kind in self.which.kinds:
                    yield from self._newest("failed", {"p_kind": kind})
                continue
            if self.which.task_types is not None:
                for task_type in self.which.task_types:
                    yield from self._newest("ended", {"p_state": str(state), "p_task_type": task_type})
                continue
            found: str | None = yield self.operations.next_ended_type(state, "")
            while found is not None:
                yield from self._newest("ended", {"p_state": str(state), "p_task_type": found})
                found = yield self.operations.next_ended_type(state, found)

    def _newest(self, way: str, of: dict[str, Any]) -> Script[None]:
        place: Key | None = (LATEST, _MOST_ID)
        while place is not None:
            place = (yield from self._batch(way, place, of)).reached

    def by_id(self, way: str, of: dict[str, Any] | None = None) -> Script[None]:
        """Goes through tasks from the greatest id down."""
        place: UUID | None = _MOST_ID
        while place is not None:
            reached: Any = (yield from self._batch(way, (place,), of)).reached
            place = None if reached is None or not reached[0].int else UUID(int=reached[0].int - 1)

    def _batch(self, way: str, behind: Key, of: dict[str, Any] | None = None) -> Script[Batch]:
        limit = self.limit
        for tries_left in reversed(range(_TRIES)):
            sizes = Sizes(max(self.window, limit), limit)
            self.batches.begin()
            try:
                batch: Batch = yield self.operations.bulk(
                    f"{self.verb}_{way}",
                    self.which,
                    self.as_of,
                    sizes,
                    behind=behind,
                    of=of or {},
                    notify=self.notify,
                )
            except TwinExists:  # another one has inserted or revived an equal task at this moment
                if not tries_left:
                    raise
                limit = max(1, limit // 2)
            else:
                break
        self.batches.ended(batch.changed)
        self._adapt(is_full=batch.taken >= limit)
        return batch

    def _adapt(self, *, is_full: bool) -> None:
        """Makes batches larger as long as they are quick: a full one takes more tasks, another looks at more."""
        seconds = self.batches.seconds
        if is_full:
            self.limit = min(self.limit * GROWTH, MOST) if seconds < BATCH_SECONDS else max(self.limit // 2, 1)
            self.window = max(self.window // 2, _LEAST_WINDOW)
        elif seconds < _QUICK:
            self.window = min(self.window * 2, _MOST_WINDOW)
        elif seconds > 2 * _QUICK:
            self.window = max(self.window // 2, _LEAST_WINDOW)
