"""Holds the tasks that a pool has claimed and whose outcomes are not yet written. It does no I/O.

Claimer and completer call it from threads of their own, and a task may be claimed again while an older outcome of it is
being written. So each method that looks and then changes does both under a lock, once for a claim or a batch.

Suspects, tasks under which pools have died before, are tried in groups, see ``suspects``. The suspects of a claim begin
at once unless some of them must go back first: if the pool died before that is written, these would count as tried.

A suspect with a limit of 1 runs alone: while the pool holds one it claims nothing, gives back tasks that it claimed
behind it, and begins the suspect when all other runs have ended and their outcomes are written. So if the pool dies
then, the suspect is the only task that it held, and the only one that is charged. ``quarantine`` says how long it
waits.

A suspect of a kind that the pool isolates runs in a child process instead, at the same time as all other tasks: it can
kill only that process, and a rescue does not charge it with the death of the pool.

A suspect that ran alone and has ended, or goes back, while another session has locked its row holds up no other task:
the pool claims on, except for suspects, until the outcome is written. If the pool dies then, the suspect is not
charged, since it was not alone.
"""

from collections import Counter
from collections.abc import Callable, Collection, Container, Iterable, Mapping
from itertools import repeat
from operator import is_not, itemgetter
from threading import Lock
from typing import Any, Final, NamedTuple
from uuid import UUID

from fang_core.backends.claims import Serves
from fang_core.backends.pools import MOST_LIVE, Live
from fang_core.claims.expiry import ClaimTime
from fang_core.claims.suspects import SuspectGroup
from fang_core.config import RetentionMode
from fang_core.crashes import group_limit, is_suspect, runs_apart
from fang_core.lifecycle import Outcome
from fang_core.monitoring.tally import Tally
from fang_core.record import ClaimedTask, LiveRun
from fang_core.runs.run import Run

LONG: Final = 1.0
"""Seconds from which on a run is one of those that a pool tells of."""


class Taken(NamedTuple):
    """Sorts the runs of a claim.

    Attributes:
        ready: runs that may begin.
        unwanted: runs to give back: suspects that do not fit into the group, and all behind one that runs alone.
        lost: earlier runs of the pool that go on and that this claim proves lost, since it claimed their tasks again.
        expired: runs that must not begin, since their tasks had expired when they were claimed.
        cancelled: runs that must not begin, since a request to cancel their tasks has come.
    """

    ready: list[Run]
    unwanted: list[Run]
    lost: list[Run]
    expired: list[Run]
    cancelled: list[Run]


class Counts(NamedTuple):
    """Counts the tasks that a pool holds: for each kind those that run and those that wait, and those that have ended
    and whose outcomes are not yet written."""

    by_kind: dict[str, tuple[int, int]]
    unwritten: int


class InFlight:
    """Holds the runs of one pool by task, from their claim until their outcome is written.

    Args:
        workers: the number of the pool's workers.
        isolated_kinds: returns the kinds whose suspects run in child processes.
        tally: counts the tasks for the pool's history; None if it has none.
        on_crashed: called with the kind of each task that comes and that a crash was charged to.
    """

    def __init__(
        self,
        retention_mode: RetentionMode,
        is_cut_off: Callable[[], bool],
        workers: int,
        isolated_kinds: Callable[[], Collection[str]] = frozenset,
        tally: Tally | None = None,
        *,
        on_crashed: Callable[[str], None] = lambda kind: None,
    ) -> None:
        self._retention_mode = retention_mode
        self._is_cut_off = is_cut_off
        self._isolated_kinds = isolated_kinds
        self._tally = tally
        self._on_crashed = on_crashed
        self.state: Any = None
        """What the pool's lifespan has made for its runs."""
        self.claimed: ClaimTime | None = None
        """When tasks were claimed last."""
        self._changing = Lock()
        self._runs: dict[UUID, Run] = {}
        self.suspects = SuspectGroup(workers)
        """All suspects that the pool holds."""
        self._in_hand: list[Run] = []  # suspects that have not begun
        self._lone: Run | None = None  # the suspect that runs alone, in hand or begun
        self._locked: set[tuple[UUID, int]] = set()  # (id, attempt)

    def __len__(self) -> int:
        return len(self._runs)

    @property
    def isolated_kinds(self) -> tuple[str, ...]:
        """The kinds whose suspects run in child processes."""
        return tuple(self._isolated_kinds())

    @property
    def has_lone_suspect(self) -> bool:
        """Returns whether the pool must claim nothing."""
        return self._lone is not None

    @property
    def lone_suspect_began(self) -> bool:
        """Returns whether a suspect runs alone, or goes back."""
        return self._lone is not None and not self._in_hand

    @property
    def next_group_size(self) -> int:
        """The size of the group of suspects with one more, see ``SuspectGroup.next_size``."""
        with self._changing:
            return self.suspects.next_size

    @property
    def waiting_suspect(self) -> UUID | None:
        """The id of the first suspect that has not begun; None if all have."""
        return self._in_hand[0].task.id if self._in_hand else None

    @property
    def suspects_may_begin(self) -> bool:
        """Returns whether suspects wait and nothing is left to wait for."""
        if not self._in_hand:
            return False
        return not self.suspects.has_refused if self._lone is None else len(self._runs) <= 1

    @property
    def has_locked(self) -> bool:
        """Returns whether another session has locked rows that the pool holds, so that no suspect can run alone."""
        return bool(self._locked)

    def take(self, tasks: Collection[ClaimedTask], pool_id: UUID, claimed: ClaimTime) -> Taken:
        """Holds the tasks that were claimed under this id at that time, in this order.

        If the former run of a task is over, its outcome was written before the claim, but the reply has not come yet.
        The reply says whether it was written.
        """
        taken = Taken([], [], [], [], [])
        self.claimed = claimed
        with self._changing:
            for task in tasks:
                run = Run(task, pool_id, self._retention_mode, self._is_cut_off, self.state)
                taken.ready.append(run)
                former = self._runs.setdefault(task.id, run)
                if former is run:
                    continue
                self._runs[task.id] = run
                if not former.over:
                    former.is_lost = True
                    if former.started:
                        taken.lost.append(former)
            if self._tally is not None:
                self._tally.claimed(taken.ready, claimed.at, claimed.began)
            if not _are_ordinary(tasks):
                taken = self._without_unrun(taken, claimed)
                suspects = [run.task for run in taken.ready if is_suspect(run.task) and not _runs_apart(run)]
                if suspects:
                    return self._without_suspects(taken, suspects)
            return taken if self._lone is None else self._without_suspects(taken, [])

    def _without_unrun(self, taken: Taken, claimed: ClaimTime) -> Taken:
        """Sorts out the runs of a claim that must not begin, and marks the remaining runs that are to be isolated."""
        ready = []
        for run in taken.ready:
            task = run.task
            if task.expires_at is not None:
                run.expires = claimed.on_monotonic_clock(task.expires_at)
                if claimed.has_passed(task.expires_at):
                    taken.expired.append(run)
                    continue
            if task.cancel_request is not None:
                run.cancelled = task.cancel_request.get("reason", "")
                taken.cancelled.append(run)
                continue
            if task.crashes:
                self._on_crashed(task.kind)
            run.isolated = is_suspect(task) and task.kind in self._isolated_kinds()
            ready.append(run)
        return taken._replace(ready=ready)

    def _without_suspects(self, taken: Taken, suspects: list[ClaimedTask]) -> Taken:
        """Decides about the suspects of a claim; returns the other runs, with those suspects that may begin."""
        admitted = self.suspects.admit(suspects)
        others_wait = bool(self._in_hand)
        in_order, ready = taken.ready, []
        for run in in_order:
            if self._lone is not None:
                taken.unwanted.append(run)
            elif not is_suspect(run.task) or _runs_apart(run):
                ready.append(run)
            elif run.task.id not in admitted:
                taken.unwanted.append(run)
            else:
                self._in_hand.append(run)
                if group_limit(run.task) <= 1:
                    self._lone = run
        if self._lone is None and not others_wait and self.suspects_may_begin:
            ready, self._in_hand = in_order, []  # none of the claim is refused
        return taken._replace(ready=ready)

    def begin_suspects(self) -> list[Run]:
        """Returns the suspects that wait, once, as soon as nothing is left to wait for; otherwise none."""
        return self._let_go() if self.suspects_may_begin else []

    def give_up_suspects(self) -> list[Run]:
        """Returns the suspects that have not begun: they have waited too long, or the pool stops or rejoins."""
        return self._let_go()

    def _let_go(self) -> list[Run]:
        with self._changing:
            runs, self._in_hand = self._in_hand, []
        return runs

    def remove(self, outcomes: Iterable[Outcome]) -> None:
        """Removes the runs of outcomes that are done: written, or found to be lost."""
        with self._changing:
            has_suspects = bool(self.suspects)
            for outcome in outcomes:
                run = self._runs.get(outcome.id)
                if run is not None and run.task.attempt == outcome.attempt:
                    del self._runs[outcome.id]
                if self._locked:
                    self._locked.discard((outcome.id, outcome.attempt))
                if has_suspects:
                    self.suspects.remove(outcome.id, outcome.attempt)
                    self._forget_lone(outcome)

    def set_locked(self, outcomes: Iterable[Outcome]) -> None:
        """Notes that the rows of these outcomes are locked: the pool holds the tasks until they are written."""
        with self._changing:
            for outcome in outcomes:
                self._locked.add((outcome.id, outcome.attempt))
                self._forget_lone(outcome)

    def _forget_lone(self, outcome: Outcome) -> None:
        lone = self._lone  # it may no longer be among the runs, if its task was claimed again
        if lone is not None and (lone.task.id, lone.task.attempt) == (outcome.id, outcome.attempt):
            self._lone = None

    def mark_lost(self, outcome: Outcome) -> bool:
        """Marks the run of an outcome that the fence refused. Returns whether it had started, as far as is known."""
        run = self._runs.get(outcome.id)
        if run is None or run.task.attempt != outcome.attempt:
            return True
        run.is_lost = True
        return run.started

    def mark_all_lost(self) -> None:
        """Marks every run as lost: other pools have taken this one for dead."""
        for run in tuple(self._runs.values()):
            run.is_lost = True

    def task_of(self, outcome: Outcome) -> ClaimedTask | None:
        """Returns the claimed task of an outcome; None once the task was claimed again, or the outcome is done."""
        run = self._runs.get(outcome.id)
        return run.task if run is not None and run.task.attempt == outcome.attempt else None

    def count_by_type(self, outcomes: Iterable[Outcome], task_types: Container[str]) -> Mapping[str, int]:
        """Returns how many outcomes are of runs that the pool holds, for each of these task types."""
        runs = (self._runs.get(outcome.id) for outcome in outcomes)
        return Counter(run.task.task_type for run in runs if run is not None and run.task.task_type in task_types)

    def waiting(self) -> set[Serves]:
        """Returns the task types and kinds of the tasks that wait for a worker."""
        waiting = [run for run in tuple(self._runs.values()) if not run.started and not run.over]
        return {(run.task.task_type, run.task.kind) for run in waiting if run not in self._in_hand}

    def held(self, pool_id: UUID) -> list[Run]:
        """Returns the runs under this id that go on, or have not begun."""
        return [run for run in tuple(self._runs.values()) if run.pool_id == pool_id and goes_on(run)]

    def running(self, pool_id: UUID, since: float) -> list[Run]:
        """Returns those of them that began at this time of the monotonic clock or before it."""
        return [run for run in self.held(pool_id) if 0.0 < run.began <= since]

    def begun(self, since: float) -> list[Run]:
        """Returns the runs that go on, lost ones too, and began at this time of the monotonic clock or before it."""
        return [run for run in tuple(self._runs.values()) if 0.0 < run.began <= since and not run.over]

    def all(self) -> tuple[Run, ...]:
        """Returns the runs of all tasks that the pool holds."""
        return tuple(self._runs.values())

    def reporting(self) -> list[Run]:
        """Returns the current runs that have reported their progress."""
        return [run for run in tuple(self._runs.values()) if run.reported is not None and not run.over]

    def live(self, now: float) -> Live:
        """Returns what the pool does now, at this time of the monotonic clock."""
        waiting, begun = 0, []
        for run in tuple(self._runs.values()):
            if run.over:
                continue
            if run.started:
                begun.append(run)
            else:
                waiting += 1
        longest = sorted((run for run in begun if now - run.began >= LONG), key=lambda run: run.began)[:MOST_LIVE]
        runs = (LiveRun(run.task.id, run.task.kind, now - run.began, run.task.attempt, run.reported) for run in longest)
        return Live(len(begun), waiting, tuple(runs))

    def counts(self) -> Counts:
        """Returns how many tasks of each kind run and wait, and how many outcomes are not yet written."""
        by_kind: dict[str, tuple[int, int]] = {}
        unwritten = 0
        for run in tuple(self._runs.values()):
            if run.over:
                unwritten += 1
                continue
            running, waiting = by_kind.get(run.task.kind, (0, 0))
            by_kind[run.task.kind] = (running + 1, waiting) if run.started else (running, waiting + 1)
        return Counts(by_kind, unwritten)

    def known(self) -> list[UUID]:
        """Returns the ids of all held tasks."""
        return list(self._runs)


_CRASHES, _EXPIRES_AT, _CANCEL_REQUEST = (
    itemgetter(ClaimedTask._fields.index(name)) for name in ("crashes", "expires_at", "cancel_request")
)


def _runs_apart(run: Run) -> bool:
    return run.isolated and runs_apart(run.task)


def _are_ordinary(tasks: Collection[ClaimedTask]) -> bool:
    """Returns whether none of the tasks has crashed, expires or is to be cancelled.

    It takes no step of Python for a task: a look at each value from Python cost a tenth of what a claim does here.
    """
    return not (
        any(map(_CRASHES, tasks))
        or any(map(is_not, map(_EXPIRES_AT, tasks), repeat(None)))
        or any(map(is_not, map(_CANCEL_REQUEST, tasks), repeat(None)))
    )


def goes_on(run: Run) -> bool:
    """Returns whether a run can lose its task: it has neither ended nor completed or lost it before."""
    return not (run.over or run.completed or run.is_lost)
