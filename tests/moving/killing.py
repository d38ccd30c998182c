"""Kills a move before one of its calls, and looks at what that leaves."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from fang_core import Task, TaskFilter
from fang_core.aside import ASIDE, Route
from fang_core.backends.moving import Moved, Mover
from fang_core.lifecycle import DUE_STATES
from tests.moving.places import Place

ROUTE = Route("here", "there")
ALL = TaskFilter(states=DUE_STATES)


class Killed(Exception):
    pass


class Countdown:
    """Lets so many calls pass, and no more."""

    def __init__(self, calls: int) -> None:
        self.left = calls

    def tick(self) -> None:
        if self.left == 0:
            raise Killed
        self.left -= 1


class Mortal:
    """A queue, or what is on one, whose calls count down."""

    def __init__(self, of: Any, countdown: Countdown) -> None:
        self._of, self._countdown = of, countdown

    @property
    def moving(self) -> "Mortal":
        return Mortal(self._of.moving, self._countdown)

    @property
    def schedules(self) -> "Mortal":
        return Mortal(self._of.schedules, self._countdown)

    @property
    def limits(self) -> "Mortal":
        return Mortal(self._of.limits, self._countdown)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._of, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            self._countdown.tick()
            return method(*args, **kwargs)

        return call


class Between:
    """A queue where something happens between what a move reads first, and what it writes then."""

    def __init__(self, of: Any, happens: Callable[[], object]) -> None:
        self._of, self._happens = of, happens

    @property
    def moving(self) -> "Between":
        return Between(self._of.moving, self._happens)

    def __getattr__(self, name: str) -> Any:
        if name == "exchange":
            self._happens()
        return getattr(self._of, name)


def moved(source: Place, target: Place, *, calls: int = -1, batch: int = 2, which: TaskFilter = ALL) -> Moved:
    """Moves; with ``calls``, until it is killed before the next one."""
    countdown = Countdown(calls)
    mortals: Sequence[Any] = [Mortal(each.queue, countdown) for each in (source, target)]
    return Mover(*mortals, ROUTE, which, batch=batch).move()


def runnable(place: Place) -> set[Any]:
    """The ids of the tasks that a worker may take, now or later."""
    return {task.id for task in place.tasks.values() if task.task_type != ASIDE and task.state in DUE_STATES}


def as_it_was(task: Task) -> Task:
    """The task without what a move may change; the times of errors as times, since backends write them differently."""
    errors = [{**error, "time": datetime.fromisoformat(error["time"])} for error in task.errors]
    return task._replace(updated_at=task.created_at, errors=errors)
