"""What a pool holds: tasks claimed whose outcome is not yet written. No I/O.

Claimer and completer call it from threads of their own, and a task may be claimed anew while an older outcome of it is
being dealt with. So what looks and then changes does both under a lock, once for a claim or a batch.

A suspect, a task under which pools have died before, runs alone: while the pool holds one it claims nothing, gives back
what it claimed behind it, and begins the suspect when everything else has ended and is written. So if the pool dies
then, the suspect is all that it held, and the only one that is charged. How long it waits is said in ``caution``.

One that has ended, or goes back, while others have locked its row is in nobody's way: the pool claims on, and holds it
until it is written. Should the pool die then, it is not charged, since it was not alone.
"""

from collections.abc import Callable, Iterable
from threading import Lock
from typing import NamedTuple
from uuid import UUID

from fang_core.config import RetentionMode
from fang_core.lifecycle import Outcome, is_suspect
from fang_core.record import ClaimedTask
from fang_core.run import Run
from fang_core.store import Serves


class Taken(NamedTuple):
    """What a claim brought.

    Attributes:
        ready: runs that may begin.
        unwanted: runs to give back, since they stand behind a suspect.
        lost: runs of the pool's own that go on and that this claim proves lost, since it claimed their tasks again.
    """

    ready: list[Run]
    unwanted: list[Run]
    lost: list[Run]


class Holdings:
    """The runs of one pool by task, from their claim until their outcome is written."""

    def __init__(self, retention_mode: RetentionMode, is_cut_off: Callable[[], bool]) -> None:
        self._retention_mode = retention_mode
        self._is_cut_off = is_cut_off
        self._changing = Lock()
        self._runs: dict[UUID, Run] = {}
        self._suspect: Run | None = None
        self._suspect_began = False
        self._apart: set[tuple[UUID, int]] = set()  # with their attempts

    def __len__(self) -> int:
        return len(self._runs)

    @property
    def has_suspect(self) -> bool:
        """Whether the pool must claim nothing."""
        return self._suspect is not None

    @property
    def suspect_may_begin(self) -> bool:
        """Whether a suspect waits, and nothing else is held."""
        return self._suspect is not None and not self._suspect_began and len(self._runs) <= 1

    @property
    def suspect_began(self) -> bool:
        """Whether a suspect runs, or goes back."""
        return self._suspect is not None and self._suspect_began

    @property
    def has_apart(self) -> bool:
        """Whether it will hold something, for nobody knows how long, that others have locked: no suspect is alone."""
        return bool(self._apart)

    def take(self, tasks: Iterable[ClaimedTask], pool_id: UUID) -> Taken:
        """Holds what was claimed under this id, in this order.

        A task whose former run is over was claimed after that one's outcome was written, but before this was told.
        Whether it was written is known when it is told.
        """
        taken = Taken([], [], [])
        with self._changing:
            for task in tasks:
                former = self._runs.get(task.id)
                if former is not None and not former.over:
                    former.is_lost = True
                    if former.started:
                        taken.lost.append(former)
                run = self._runs[task.id] = Run(task, pool_id, self._retention_mode, self._is_cut_off)
                if self._suspect is not None:
                    taken.unwanted.append(run)
                elif is_suspect(task):
                    self._suspect, self._suspect_began = run, False
                else:
                    taken.ready.append(run)
        return taken

    def begin_suspect(self) -> Run | None:
        """The suspect, once, as soon as nothing else is held."""
        if not self.suspect_may_begin:
            return None
        self._suspect_began = True
        return self._suspect

    def wrote(self, outcomes: Iterable[Outcome]) -> None:
        """These are dealt with: written, or found to be lost."""
        with self._changing:
            for outcome in outcomes:
                self._apart.discard((outcome.id, outcome.attempt))
                run = self._runs.get(outcome.id)
                if run is not None and run.task.attempt == outcome.attempt:
                    del self._runs[outcome.id]
                self._forget_suspect(outcome)

    def set_apart(self, outcomes: Iterable[Outcome]) -> None:
        """Others have locked these: they stay held until they are written, and their runs are over."""
        with self._changing:
            for outcome in outcomes:
                self._apart.add((outcome.id, outcome.attempt))
                self._forget_suspect(outcome)

    def _forget_suspect(self, outcome: Outcome) -> None:
        suspect = self._suspect  # perhaps no longer among the runs: its task was claimed anew
        if suspect is not None and (suspect.task.id, suspect.task.attempt) == (outcome.id, outcome.attempt):
            self._suspect = None

    def lose(self, outcome: Outcome) -> bool:
        """The fence refused this outcome. Returns whether a run of it had started, as far as is known."""
        run = self._runs.get(outcome.id)
        if run is None or run.task.attempt != outcome.attempt:
            return True
        run.is_lost = True
        return run.started

    def lose_all(self) -> None:
        """Others have taken the pool for dead."""
        for run in tuple(self._runs.values()):
            run.is_lost = True

    def give_up_suspect(self) -> Run | None:
        """The suspect, where it has not begun: it has waited too long, or the pool stops or is reborn."""
        if self._suspect is None or self._suspect_began:
            return None
        self._suspect_began = True
        return self._suspect

    def task_of(self, outcome: Outcome) -> ClaimedTask | None:
        """What was claimed for this outcome; None once the task has been claimed again, or is dealt with."""
        run = self._runs.get(outcome.id)
        return run.task if run is not None and run.task.attempt == outcome.attempt else None

    def waiting(self) -> set[Serves]:
        """The task types and kinds of what waits for a worker."""
        waiting = [run for run in tuple(self._runs.values()) if not run.started and not run.over]
        return {(run.task.task_type, run.task.kind) for run in waiting if run is not self._suspect}

    def known(self) -> list[UUID]:
        """The ids of all that is held."""
        return list(self._runs)
