"""Holds the suspects of one pool, and decides which of them it tries together. It is pure.

A suspect, a task under which pools have died before, is tried in a group: the pool holds at most as many suspects at
once as the suspect's ``group_limit`` says, and never more than it has workers. Other tasks run at the same time as the
group. If the pool dies, the limits of its suspects are halved and none is charged. So a culprit is soon apart from the
innocent suspects, which go on in larger groups. At a limit of 1 a suspect runs alone: its pool holds no other task, and
if the pool dies then, the suspect is charged. See ``crashes`` for what a death means.
"""

from collections.abc import Iterable
from typing import Final
from uuid import UUID

from fang_core.crashes import MOST_GROUP, group_limit
from fang_core.record import ClaimedTask

NO_SUSPECTS: Final = MOST_GROUP + 1
"""The size of a group in which no suspect may be tried."""

ANY_SUSPECTS: Final = 1
"""The size of a group in which every suspect may be tried."""


class SuspectGroup:
    """Holds the suspects that a pool has claimed, from their claim until their outcomes are written.

    Args:
        workers: the most suspects that the pool may hold at once.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._limits: dict[tuple[UUID, int], int] = {}  # by id and attempt
        self._refused: set[tuple[UUID, int]] = set()

    def __len__(self) -> int:
        return len(self._limits) + len(self._refused)

    @property
    def has_refused(self) -> bool:
        """Returns whether the pool still holds suspects that it must give back."""
        return bool(self._refused)

    @property
    def next_size(self) -> int:
        """The size of the group with one more suspect, which only suspects with that limit may join.

        It is ``NO_SUSPECTS`` if none may join.
        """
        size = len(self._limits) + 1
        return NO_SUSPECTS if self._refused or size > self._most() else size

    def admit(self, tasks: Iterable[ClaimedTask]) -> set[UUID]:
        """Adds claimed suspects; returns the ids of those that may be tried together; all others must go back.

        Those with the highest limits come first: they are the least suspicious, and the more of them run at once.
        """
        admitted: set[UUID] = set()
        most = self._most()
        for task in sorted(tasks, key=group_limit, reverse=True):
            limit = group_limit(task)
            if len(self._limits) < min(most, limit) and not self._refused:
                self._limits[task.id, task.attempt] = limit
                most = min(most, limit)
                admitted.add(task.id)
            else:
                self._refused.add((task.id, task.attempt))
        return admitted

    def remove(self, task_id: UUID, attempt: int) -> None:
        """Removes a suspect that the pool no longer holds; does nothing if it holds no such suspect."""
        self._limits.pop((task_id, attempt), None)
        self._refused.discard((task_id, attempt))

    def _most(self) -> int:
        return min([self.workers, *self._limits.values()])
