"""Holds what the memory backend knows of unique tasks beyond their rows."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from fang_core.backends.conflicts import Period
from fang_core.lifecycle import TERMINAL_STATES
from fang_core.record import Task
from fang_core.tasks.insertion import NewTask


@dataclass(slots=True)
class Uniques:
    """The hashes of tasks that are unique until they are claimed, by id, and the periods of unique tasks, by hash."""

    waiting: dict[UUID, str] = field(default_factory=dict)
    periods: dict[str, Period] = field(default_factory=dict)

    def add(self, row: NewTask, now: datetime) -> None:
        """Notes a new row."""
        terms = row.terms
        if terms is None:
            return
        if terms.waiting is not None:
            self.waiting[row.id] = terms.waiting
        if terms.period is not None:
            until = None if terms.within is None else now + terms.within
            self.periods[terms.period] = Period(row.id, now, until)

    def twin(self, row: NewTask, tasks: Collection[Task], now: datetime) -> Task | None:
        """Returns the task that keeps the row out. If only its period is left, it is a finished one like the row."""
        twin = live_twin(row.uniq_hash, tasks)
        terms = row.terms
        if twin is not None or terms is None:
            return twin
        if terms.waiting is not None:
            twin = next((task for task in tasks if self.waits(task) and self.waiting[task.id] == terms.waiting), None)
        period = None if terms.period is None else self.periods.get(terms.period)
        if twin is not None or period is None or not period.lasts(now):
            return twin
        there = next((task for task in tasks if task.id == period.task_id), None)
        return row.outlived(period.task_id, period.inserted_at) if there is None else there

    def has_twin(self, task: Task, tasks: Collection[Task]) -> bool:
        """Returns whether the task cannot be revived, since an equal one waits or runs."""
        if live_twin(task.uniq_hash, tasks) is not None:
            return True
        compared = None if task.attempt else self.waiting.get(task.id)
        return compared is not None and any(self.waits(each) and self.waiting[each.id] == compared for each in tasks)

    def edited(self, task: Task, compared: str, tasks: Collection[Task]) -> bool:
        """Compares a unique waiting task by this hash from now on; returns whether an equal one prevents that."""
        others = [each for each in tasks if each.id != task.id]
        if task.uniq_hash is not None and live_twin(compared, others) is not None:
            return True
        if self.waits(task):
            if any(self.waits(each) and self.waiting[each.id] == compared for each in others):
                return True
            self.waiting[task.id] = compared
        return False

    def keeps_out(
        self, task: Task, waiting: str | None, period: str | None, tasks: Collection[Task], now: datetime
    ) -> bool:
        """Returns whether a task that comes from elsewhere, with these hashes, has an equal one here."""
        unclaimed = [] if waiting is None or task.attempt else [each for each in tasks if self.waits(each)]
        if live_twin(task.uniq_hash, tasks) is not None or any(self.waiting[each.id] == waiting for each in unclaimed):
            return True
        began = None if period is None else self.periods.get(period)
        return began is not None and began.task_id != task.id and began.lasts(now)

    def waits(self, task: Task) -> bool:
        """Returns whether the task keeps equal ones out until it is claimed, and was not."""
        return task.id in self.waiting and task.attempt == 0 and task.state not in TERMINAL_STATES

    def is_compared_by(self, task: Task, compared: str) -> bool:
        """Returns whether it is the unique task with this hash, and has not ended."""
        if task.state in TERMINAL_STATES:
            return False
        waits = self.waits(task) and self.waiting[task.id] == compared
        period = self.periods.get(compared)
        return task.uniq_hash == compared or waits or (period is not None and period.task_id == task.id)

    def forget(self, gone: Iterable[UUID]) -> None:
        """Forgets tasks that were removed by hand, with their periods."""
        ids = set(gone)
        self.waiting = {task_id: each for task_id, each in self.waiting.items() if task_id not in ids}
        self.periods = {each: period for each, period in self.periods.items() if period.task_id not in ids}

    def prune(self, tasks: Collection[UUID], now: datetime) -> int:
        """Forgets periods that are over, and the hashes of tasks that are gone; returns how many periods."""
        self.waiting = {task_id: each for task_id, each in self.waiting.items() if task_id in tasks}
        over = [each for each, period in self.periods.items() if not period.lasts(now)]
        for each in over:
            del self.periods[each]
        return len(over)


def live_twin(uniq_hash: str | None, tasks: Collection[Task]) -> Task | None:
    """Returns the task that keeps another of its hash from being inserted."""
    if uniq_hash is None:
        return None
    return next((task for task in tasks if task.uniq_hash == uniq_hash and task.state not in TERMINAL_STATES), None)
