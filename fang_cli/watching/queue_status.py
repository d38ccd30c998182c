"""Reads the data of ``fang status`` over a queue's own verbs, whatever its backend.

Tasks are counted by looking at the first ones of each state. If there are more, those of the task types and kinds that
are known by then are counted one by one.
"""

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from fang_cli.watching.status import Status
from fang_core.backends.store import Backend
from fang_core.driving import drive
from fang_core.lifecycle import DUE_STATES, TERMINAL_STATES
from fang_core.liveness import BeatRequest
from fang_core.monitoring.figures import LastFailure, OldestDue, PausedSchedule, RetriedKind, RunningKind, TaskCount
from fang_core.monitoring.life import Life
from fang_core.monitoring.notable import notable_runs
from fang_core.monitoring.problems import told_ago
from fang_core.monitoring.stats import Stats
from fang_core.monitoring.unserved import unknown_kinds, unserved_schedules, unserved_types
from fang_core.pool.telling.glance import EVERY, Glance, Look
from fang_core.record import PoolInfo, Task, TaskState
from fang_core.schedules.stored import ScheduleInfo
from fang_core.tasks.selecting.filter import TaskFilter

_COUNTED: Final = timedelta(hours=1)
"""How far back it tells what pools have counted."""

_LOOKED_AT: Final = 5_000
"""The most tasks of each state that are looked at."""

_PAGE: Final = 500
_PLACES: Final = 100
"""The most pairs of a type and a kind that are counted one by one."""

_FAILURES: Final = 10
_ONLOOKER: Final = UUID(int=0)
"""The id of no pool."""


_GROUPS: Final[Sequence[Sequence[TaskState]]] = (
    DUE_STATES,
    (TaskState.IN_PROGRESS,),
    *((state,) for state in TERMINAL_STATES),
)
"""States whose tasks are listed together."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """The tasks that were looked at in some states; ``is_all`` says that there are no more."""

    states: Sequence[TaskState]
    tasks: Sequence[Task]
    is_all: bool


def status_of(queue: Backend) -> Status:
    """Reads the status of an open queue. Takes up to 2.5 s if some pool may be dead."""
    stats = queue.stats(_COUNTED)
    now = stats.until
    seen = [_look_at(queue, states) for states in _GROUPS]
    counts = sorted(_counts(queue, seen, stats), key=_order)
    waiting, running = seen[0], seen[1]
    pools = queue.pools()
    lives = _lives(queue, pools, now)
    alive = [pool for pool in pools if lives[pool.id] is Life.ALIVE]
    schedules = queue.schedules.list(ticks=0)
    return Status(
        counts=counts,
        oldest_due=_oldest_due(queue, waiting, counts, now),
        last_failures=_last_failures(queue),
        retried=_retried(waiting, counts),
        running=_running(running.tasks, now),
        notable=notable_runs((pool.id, now, pool.runs) for pool in pools),
        pools=pools,
        lives=lives,
        stats=stats,
        types=queue.limits.list(),
        paused_schedules=list(_paused_schedules(schedules)),
        unserved_types=unserved_types(counts, alive),
        unknown_kinds=unknown_kinds(counts, alive),
        unserved_schedules=unserved_schedules(schedules, alive, now),
        unread=(),
    )


def count_alive(queue: Backend) -> tuple[list[TaskCount], list[OldestDue], datetime]:
    """Returns how many tasks wait and run in an open queue, the oldest due one of each type, and when that was so."""
    stats = queue.stats(_COUNTED)
    seen = [_look_at(queue, states) for states in _GROUPS[:2]]
    counts = list(_counts(queue, seen, stats))
    return counts, _oldest_due(queue, seen[0], counts, stats.until), stats.until


# Tasks ----------------------------------------------------------------------------------------------------------------


def _look_at(queue: Backend, states: Sequence[TaskState]) -> _Seen:
    tasks: list[Task] = []
    cursor: str | None = None
    while len(tasks) < _LOOKED_AT:
        page = queue.list_tasks(TaskFilter(states=states), limit=_PAGE, cursor=cursor)
        tasks += page.tasks
        cursor = page.cursor
        if cursor is None:
            return _Seen(states, tasks, is_all=True)
    return _Seen(states, tasks, is_all=False)


def _counts(queue: Backend, seen: Sequence[_Seen], stats: Stats) -> Iterator[TaskCount]:
    """Yields how many tasks there are of each type, kind and state."""
    known = dict.fromkeys((task.task_type, task.kind) for each in seen for task in each.tasks)
    known |= dict.fromkeys((kind.task_type, kind.kind) for kind in stats.kinds)
    for each in seen:
        if each.is_all:
            yield from _counted(each.tasks, stats.until)
            continue
        for task_type, kind in [*known][:_PLACES]:
            for state in each.states:
                which = TaskFilter(task_types=task_type, kinds=kind, states=state)
                found = queue.count_tasks(which)
                if found.count:
                    due = _due(queue, which, stats.until) if state in DUE_STATES else 0
                    yield TaskCount(task_type, state, kind, found.count, due, not found.is_exact, not found.is_exact)


def _due(queue: Backend, which: TaskFilter, now: datetime) -> int:
    return queue.count_tasks(replace(which, due_before=now)).count


def _counted(tasks: Iterable[Task], now: datetime) -> Iterator[TaskCount]:
    found, due = Counter[tuple[str, TaskState, str]](), Counter[tuple[str, TaskState, str]]()
    for task in tasks:
        place = (task.task_type, task.state, task.kind)
        found[place] += 1
        due[place] += task.state in DUE_STATES and task.scheduled_at <= now
    for place, count in found.items():
        yield TaskCount(*place, count, due[place])


def _order(count: TaskCount) -> tuple[str, int, str]:
    return count.task_type, list(TaskState).index(count.state), count.kind


def _oldest_due(queue: Backend, waiting: _Seen, counts: Sequence[TaskCount], now: datetime) -> list[OldestDue]:
    """Returns the task of each type that has been due for longest; of those that were looked at, if they are many."""
    due = [task for task in waiting.tasks if task.scheduled_at <= now]
    if not waiting.is_all:
        for task_type in sorted({count.task_type for count in counts if count.due}):
            which = TaskFilter(task_types=task_type, states=DUE_STATES, due_before=now)
            due += queue.list_tasks(which, limit=_PAGE).tasks
    oldest: dict[str, Task] = {}
    for task in sorted(due, key=lambda each: (each.scheduled_at, each.id)):
        oldest.setdefault(task.task_type, task)
    return [
        OldestDue(task_type, task.id, task.scheduled_at, now - task.scheduled_at)
        for task_type, task in sorted(oldest.items())
    ]


def _last_failures(queue: Backend) -> list[LastFailure]:
    page = queue.list_tasks(TaskFilter(states=TaskState.FAILED), limit=_FAILURES)
    return [
        LastFailure(task.task_type, task.kind, task.id, task.updated_at, _first_line(task.error_message) or "")
        for task in page.tasks
    ]


def _retried(waiting: _Seen, counts: Sequence[TaskCount]) -> list[RetriedKind]:
    """Returns the kinds of the tasks that run again, those with most tasks first."""
    seen: dict[tuple[str, str], list[Task]] = {}
    for task in waiting.tasks:
        if task.state is TaskState.RETRIED:
            seen.setdefault((task.task_type, task.kind), []).append(task)
    found = []
    for count in counts:
        if count.state is TaskState.RETRIED:
            tasks = seen.get((count.task_type, count.kind), [])
            last = max(tasks, key=lambda task: task.updated_at, default=None)
            next_due = min((task.scheduled_at for task in tasks), default=None)
            error = None if last is None else _first_line(last.error_message)
            is_estimate = count.is_estimate or not waiting.is_all
            place = (count.task_type, count.kind)
            found.append(RetriedKind(*place, count.count, next_due, error, is_estimate, is_least=is_estimate))
    return sorted(found, key=lambda kind: (-kind.count, kind.task_type, kind.kind))


def _first_line(message: str | None) -> str | None:
    return next(iter((message or "").splitlines()), None)


def _running(tasks: Iterable[Task], now: datetime) -> list[RunningKind]:
    """Returns the tasks in progress by type, kind and holder, those that were claimed first at the beginning."""
    groups: dict[tuple[str, str, UUID | None], list[Task]] = {}
    for task in tasks:
        groups.setdefault((task.task_type, task.kind, task.pool_id), []).append(task)
    found = []
    for (task_type, kind, pool_id), held in groups.items():
        claimed_at = min((task.claimed_at for task in held if task.claimed_at is not None), default=None)
        age = None if claimed_at is None else now - claimed_at
        found.append(RunningKind(task_type, kind, pool_id, len(held), claimed_at, age))
    return found


# Pools and schedules --------------------------------------------------------------------------------------------------


def _lives(queue: Backend, pools: Sequence[PoolInfo], now: datetime) -> Mapping[UUID, Life]:
    """Returns what is seen of the pools' hearts, by one that beats for no pool and only looks."""
    if not pools:
        return {}
    glance = Glance()
    store = queue.store()
    heart = store.heart(False)
    try:
        while not glance.is_over:
            beat = drive(heart.beat(BeatRequest(_ONLOOKER)))
            glance.look(Look(beat, {}), time.monotonic())
            if not glance.is_over:
                time.sleep(EVERY)
    finally:
        drive(heart.close())
        drive(store.close())
    return {pool.id: glance.life(pool.id, told_ago(pool, now)) for pool in pools}


def _paused_schedules(infos: Iterable[ScheduleInfo]) -> Iterator[PausedSchedule]:
    for info in infos:
        if info.paused:
            yield PausedSchedule(info.name, info.paused_until, info.paused_at, info.paused_by, info.pause_reason)
