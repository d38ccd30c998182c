"""Moves waiting tasks from one queue to another, whatever backends these are: each of them once, even if a process dies
in between.

Workers must never find a task in both queues, and it must always be in one of them. Neither backend takes part in a
transaction of the other, so each task goes through states in which no pool can run it, *set aside*: its task type is
``ASIDE``, which no pool serves, it is due at the end of time, and a header says what it was, where it came from and
where it goes. Nothing prunes it, and no change of many tasks by hand has it run. A batch of tasks takes these steps:

1. it is set aside in the source;
2. it is put into the target as it is now, set aside;
3. it is removed from the source;
4. it is released in the target: it gets back its task type and its due time.

A run that was killed leaves tasks set aside. The next one goes on with them first: those in the source from step 2 on,
which does nothing to those that are in the target already; then those that are in the target alone, from step 4 on. A
task cannot have run in the target before step 4, and after step 3 nothing is left in the source that could be put into
the target once more. Two moves between the same queues at once would spoil that: who calls this prevents them.

A task that the target does not take, since an equal unique one is there or the database cannot store it, is released
in the source, where it was.
"""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple, Protocol
from uuid import UUID, uuid4

from fang_core.aside import ASIDE, Route, released, route_of, set_aside
from fang_core.backends.store import Backend
from fang_core.backends.verbs import Call, MovingVerbs, Parcel
from fang_core.errors import StaleTask, StatementRefused, UsageError
from fang_core.lifecycle import DUE_STATES
from fang_core.record import Task, TaskState
from fang_core.tasks.selecting.filter import TaskFilter

BATCH: Final = 200
"""Tasks that are moved at once: a kill leaves so many set aside at most."""

_TRIES: Final = 5


# What a backend does --------------------------------------------------------------------------------------------------


class MovingCalls:
    """The verbs of ``MovingVerbs`` as calls of a queue for threaded code."""

    def __init__(self, do: Callable[[Call[Any]], Any]) -> None:
        self._do = do

    def read(self, ids: Sequence[UUID], /) -> list[Parcel]:
        """See ``MovingVerbs.read``."""
        found: list[Parcel] = self._do(Call("moving.read", (ids,)))
        return found

    def exchange(self, pairs: Sequence[tuple[Task, Task]], /) -> set[UUID]:
        """See ``MovingVerbs.exchange``."""
        written: set[UUID] = self._do(Call("moving.exchange", (pairs,)))
        return written

    def put(self, parcels: Sequence[Parcel], /) -> set[UUID]:
        """See ``MovingVerbs.put``."""
        written: set[UUID] = self._do(Call("moving.put", (parcels,)))
        return written


class AsyncMovingCalls:
    """The same for asyncio."""

    def __init__(self, do: Callable[[Call[Any]], Awaitable[Any]]) -> None:
        self._do = do

    async def read(self, ids: Sequence[UUID], /) -> list[Parcel]:
        """See ``MovingVerbs.read``."""
        found: list[Parcel] = await self._do(Call("moving.read", (ids,)))
        return found

    async def exchange(self, pairs: Sequence[tuple[Task, Task]], /) -> set[UUID]:
        """See ``MovingVerbs.exchange``."""
        written: set[UUID] = await self._do(Call("moving.exchange", (pairs,)))
        return written

    async def put(self, parcels: Sequence[Parcel], /) -> set[UUID]:
        """See ``MovingVerbs.put``."""
        written: set[UUID] = await self._do(Call("moving.put", (parcels,)))
        return written


class MovableQueue(Backend, Protocol):
    """A queue that tasks can be moved out of, and into."""

    @property
    def moving(self) -> MovingVerbs:
        """Reads and writes whole tasks."""
        ...


# The move -------------------------------------------------------------------------------------------------------------


class Left(NamedTuple):
    """A task that the target did not take, and why."""

    id: UUID
    kind: str
    why: str


@dataclass(slots=True)
class Moved:
    """Says what a move has done, and what it leaves where it is.

    Attributes:
        moved: how many tasks are in the target now.
        resumed: how many of these an earlier move had set aside.
        left: tasks that are in the source as before.
        in_progress: how many tasks run in the source, and stay there.
        waiting: how many wait in the source besides: they came meanwhile.
    """

    moved: int = 0
    resumed: int = 0
    left: list[Left] = field(default_factory=list)
    in_progress: int = 0
    waiting: int = 0


_MARKER: Final = "fang.move"
"""The kind of the task by which a move looks whether two queues are one."""


def is_same(source: MovableQueue, target: MovableQueue) -> bool:
    """Tells whether both are one queue, as two names of one host may lead to: a move would remove what it has just put.

    A task that has ended, which no pool can run, is put into the target, looked for in the source, and removed. One
    that a killed call has left goes with it, and so may that of another move into the target, which then looks again.
    """
    try:
        while True:
            marker = _marker()
            target.moving.put([Parcel(marker)])
            if source.moving.read([marker.id]):
                return True
            if target.moving.read([marker.id]):
                return False
    finally:
        target.remove_tasks(TaskFilter(kinds=_MARKER, task_types=ASIDE, states=TaskState.CANCELLED))


def _marker() -> Task:
    now = datetime.now(UTC)
    return Task(uuid4(), {"type": _MARKER}, _MARKER, ASIDE, TaskState.CANCELLED, 0, 0, 0, 0, 0, now, now, now)


class Mover:
    """Moves the waiting tasks that match from one queue to another. See the module.

    Args:
        which: the tasks; its states are ignored.
        on_progress: called with the number of tasks that have been moved so far.
    """

    def __init__(
        self,
        source: MovableQueue,
        target: MovableQueue,
        route: Route,
        which: TaskFilter,
        *,
        on_progress: Callable[[int], None] = lambda moved: None,
        batch: int = BATCH,
    ) -> None:
        self._source, self._target = source, target
        self._route = route
        self._which = replace(which, states=DUE_STATES, all_tasks=False)
        self._on_progress = on_progress
        self._batch = batch
        self._done = Moved()

    def move(self) -> Moved:
        """Moves the tasks, and returns what was done. It may be called again after any failure.

        Raises ``UsageError`` if another move has set tasks aside for another target, and ``BackendError``.
        """
        self._go_on_in_source()
        self._go_on_in_target()
        self._done.resumed = self._done.moved
        for ids in self._pages(self._source, self._which):
            self._move(self._set_aside(ids))
        running = replace(self._which, states=TaskState.IN_PROGRESS)
        self._done.in_progress = self._source.count_tasks(running).count
        self._done.waiting = max(0, self._source.count_tasks(self._which).count - len(self._done.left))
        return self._done

    # What an earlier run has left -------------------------------------------------------------------------------------

    def _go_on_in_source(self) -> None:
        """Moves what is set aside in the source."""
        for ids in self._pages(self._source, _ALL_ASIDE):
            parcels = self._source.moving.read(ids)
            for parcel in parcels:
                self._check(parcel.task, self._route.target, route_of(parcel.task).target)
            self._move(parcels)

    def _go_on_in_target(self) -> None:
        """Releases what is set aside in the target, and was removed from the source."""
        for ids in self._pages(self._target, _ALL_ASIDE):
            ours = [each.task.id for each in self._target.moving.read(ids) if route_of(each.task) == self._route]
            there = {each.task.id for each in self._source.moving.read(ours)}
            self._release([each for each in ours if each not in there])

    def _check(self, task: Task, here: str, there: str) -> None:
        if here != there:
            raise UsageError(
                f"task {task.id} was set aside by a move to {there}, which has not ended: run that one again first"
            )

    # The steps --------------------------------------------------------------------------------------------------------

    def _set_aside(self, ids: Sequence[UUID]) -> list[Parcel]:
        """Sets those of these tasks aside that still wait, and returns them so."""
        waiting = [each for each in self._source.moving.read(ids) if _is_to_move(each.task)]
        aside = [each._replace(task=set_aside(each.task, self._route)) for each in waiting]
        written = self._source.moving.exchange(
            [(before.task, after.task) for before, after in zip(waiting, aside, strict=True)]
        )
        return [each for each in aside if each.task.id in written]

    def _move(self, aside: Sequence[Parcel]) -> None:
        """Does the remaining steps for tasks that are set aside in the source."""
        refused = self._put(aside)
        self._take_back([parcel for parcel in aside if parcel.task.id in refused], refused)
        ids = [parcel.task.id for parcel in aside if parcel.task.id not in refused]
        if ids:
            self._source.remove_tasks(TaskFilter(ids=ids, task_types=ASIDE))
            stays = {each.task.id for each in self._source.moving.read(ids)}
            self._release([each for each in ids if each not in stays])

    def _put(self, aside: Sequence[Parcel]) -> dict[UUID, str]:
        """Puts tasks into the target; returns those that it does not take, and why."""
        if not aside:
            return {}
        try:
            written = self._target.moving.put(aside)
        except StatementRefused as error:
            if len(aside) == 1:
                return {aside[0].task.id: str(error)}
            return {task_id: why for each in aside for task_id, why in self._put([each]).items()}
        routes = {
            parcel.task.id: route_of(parcel.task) for parcel in aside
        }  # of an earlier run: its words for the source
        others = [parcel.task.id for parcel in aside if parcel.task.id not in written]
        there = {each.task.id: each.task for each in self._target.moving.read(others)} if others else {}
        refused = {}
        for task_id in others:
            task = there.get(task_id)
            if task is None:
                refused[task_id] = "an equal unique task is in the target"
            elif task.task_type != ASIDE or route_of(task) != routes[task_id]:
                refused[task_id] = "a task with its id is in the target"
        return refused

    def _release(self, ids: Sequence[UUID]) -> None:
        """Releases tasks in the target."""
        self._done.moved += len(_released_in(self._target, ids))
        if ids:
            self._on_progress(self._done.moved)

    def _take_back(self, parcels: Sequence[Parcel], why: dict[UUID, str]) -> None:
        """Releases tasks in the source that the target does not take."""
        _released_in(self._source, [parcel.task.id for parcel in parcels])
        self._done.left += [Left(each.task.id, each.task.kind, why[each.task.id]) for each in parcels]

    def _pages(self, queue: Backend, which: TaskFilter) -> Iterator[list[UUID]]:
        """Yields the ids of the tasks that match, a batch at a time, until none of them is left but what stays."""
        cursor: str | None = None
        left = {each.id for each in self._done.left}
        while True:
            page = queue.list_tasks(which, limit=self._batch, cursor=cursor)
            ids = [task.id for task in page.tasks if task.id not in left]
            if ids:
                yield ids
            if page.cursor is None:
                return
            cursor = page.cursor


_ALL_ASIDE: Final = TaskFilter(task_types=ASIDE, states=DUE_STATES)


def _is_to_move(task: Task) -> bool:
    return task.state in DUE_STATES and task.task_type != ASIDE


def _released_in(queue: MovableQueue, ids: Iterable[UUID]) -> set[UUID]:
    """Releases tasks that are set aside in a queue; returns which."""
    wanted, done = set(ids), set[UUID]()
    for _ in range(_TRIES):
        aside = [each.task for each in queue.moving.read(sorted(wanted - done)) if each.task.task_type == ASIDE]
        if not aside:
            return done
        done |= queue.moving.exchange([(task, released(task)) for task in aside])
    raise StaleTask("another client keeps changing the tasks that are set aside: run the move again")
