"""Computes figures from counts and samples: how many tasks there are. Pure."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, TypeAlias

from fang_core.lifecycle import DUE_STATES
from fang_core.monitoring.figures import RetriedKind, RunningKind, TaskCount
from fang_core.record import TaskState
from fang_postgres.reports import bounds

COUNTED: Final = 5_000
"""The most rows that a count visits."""

FEWEST: Final = 20
"""The fewest rows of each type that are counted, however many types there are."""


_Group: TypeAlias = tuple[str, TaskState]

_Place: TypeAlias = tuple[str, TaskState, str]


def in_progress(running: Sequence[RunningKind]) -> list[TaskCount]:
    """Returns the counts of running tasks, of all pools together."""
    counts = Counter[tuple[str, str]]()
    for each in running:
        counts[each.task_type, each.kind] += each.count
    return [TaskCount(task_type, TaskState.IN_PROGRESS, kind, count, 0) for (task_type, kind), count in counts.items()]


def share_of_each(counts: Sequence[TaskCount]) -> int:
    """Returns how many rows of each group to count: ``COUNTED`` in total, but at least ``FEWEST`` of each group."""
    return max(FEWEST, COUNTED // max(1, len({_group(count) for count in counts})))


class Counted:
    """The counts of the first ``each`` rows of each group in some states; ``counts`` is None if that took too long."""

    def __init__(self, counts: Sequence[TaskCount] | None, each: int, states: Sequence[TaskState]) -> None:
        self.counts = counts or ()
        totals = Counter[_Group]()
        for count in self.counts:
            totals[_group(count)] += count.count
        self._groups = set(totals)
        self._cut = {group for group, total in totals.items() if total >= each}
        self._states = states
        self._lists_all = counts is not None and len({task_type for task_type, _ in totals}) < bounds.MOST_TYPES

    @property
    def is_whole(self) -> bool:
        """Returns whether no count is missing."""
        return self._lists_all and not self._cut

    def lacks(self, count: TaskCount) -> bool:
        """Returns whether there may be more tasks of its group than were counted."""
        group = _group(count)
        return group in self._cut or (not self._lists_all and group not in self._groups and group[1] in self._states)


def completed(parts: Sequence[Counted], sampled: Sequence[TaskCount]) -> list[TaskCount]:
    """Returns the counts, with those of groups that were not counted to the end estimated from the sample."""
    found: dict[_Place, TaskCount] = {}
    for part in parts:
        for count in part.counts:
            found[_place(count)] = replace(count, is_estimate=part.lacks(count))
    for estimate in sampled:
        if not any(part.lacks(estimate) for part in parts):
            continue
        counted = found.get(_place(estimate), replace(estimate, count=0, due=0))
        found[_place(estimate)] = replace(
            counted,
            count=max(counted.count, estimate.count),
            due=max(counted.due, estimate.due),
            is_estimate=True,
        )
    return list(found.values())


def counted_retries(seen: Sequence[RetriedKind], counts: Sequence[TaskCount]) -> list[RetriedKind]:
    """Returns the kinds that run again, seen or counted, with how many tasks each has."""
    by_kind = {(each.task_type, each.kind): each for each in seen}
    for count in counts:
        if count.state is TaskState.RETRIED:
            place = (count.task_type, count.kind)
            found = by_kind.get(place, RetriedKind(*place, 0, None, None))
            is_estimate = count.is_estimate or found.count < count.count
            by_kind[place] = replace(found, count=max(found.count, count.count), is_estimate=is_estimate)
    return list(by_kind.values())


def _group(count: TaskCount) -> _Group:
    """Returns the group that a task is counted in: waiting tasks of both states are in one index, so in one group."""
    return count.task_type, TaskState.NEW if count.state in DUE_STATES else count.state


def _place(count: TaskCount) -> _Place:
    return count.task_type, count.state, count.kind


def order(count: TaskCount) -> tuple[str, int, str]:
    """Returns the sort key by which counts are listed."""
    return count.task_type, list(TaskState).index(count.state), count.kind


def scaled(counts: list[TaskCount], share: float) -> list[TaskCount]:
    """Scales counts of a share of all pages to all pages; to two digits, since more would promise too much."""
    if share == 1:
        return counts
    return [
        replace(count, count=_rounded(count.count / share), due=_rounded(count.due / share), is_estimate=True)
        for count in counts
    ]


def _rounded(number: float) -> int:
    return int(float(f"{number:.1e}"))
