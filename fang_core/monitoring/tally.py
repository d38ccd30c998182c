"""Counts the runs of a pool, for its history, at next to no cost for a run.

A task that is claimed is counted where the claim is handed out, one step of Python for each; what became of it is
counted only if that was not success. All others have succeeded: those claimed, less those that the pool still holds.
So no worker counts anything, and nothing needs a lock that they share.

Of the runs of a fast kind a sample is timed, at random gaps: about a thousand between two flushes. Which ones is
decided when they are claimed, so that threads read their CPU clock, a system call, for these alone. Every run of a
second or more is timed.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Collection, Iterable
from datetime import datetime
from random import Random
from threading import Lock
from typing import Final, Protocol

from fang_core.monitoring.buckets import BOUNDS
from fang_core.monitoring.history import Pair, StatsRow
from fang_core.monitoring.stats import MOST_PAIRS, OTHERS
from fang_core.record import ClaimedTask

LONG: Final = 1.0
"""Seconds from which on each run is timed."""

TIMED: Final = 1_000
"""How many runs of a kind are timed between two flushes, about."""

MOST_TIMED: Final = 8_000
"""How many runs of all kinds are timed between two flushes, about. Timing one costs three microseconds more."""

AT_FIRST: Final = 32
"""How many runs of a kind are timed, one after the other, while it is not known how fast they come. Then half as many
are, and so on: a pool that begins with a backlog must not time all of it."""


class Timing:
    """Holds what is needed to time one run, and for how many runs it stands.

    Attributes:
        at: the backend's clock when the task was claimed.
        sent: when that claim was sent, by the monotonic clock.
        cpu: the seconds that its thread has computed for it.
    """

    __slots__ = ("at", "cell", "cpu", "sent", "weight")

    def __init__(self, cell: "Cell", weight: int, at: datetime, sent: float) -> None:
        self.cell = cell
        self.weight = weight
        self.at = at
        self.sent = sent
        self.cpu = 0.0


class Timed(Protocol):
    """A run."""

    @property
    def task(self) -> ClaimedTask:
        """The claimed task."""

    began: float
    """When it began, by the monotonic clock; 0.0 until then."""
    over: bool
    """Whether it has ended, or goes back."""
    timing: Timing | None
    """Set if it is timed."""


class Cell:
    """Counts what became of the tasks of one kind in one task type.

    Attributes:
        granted, left: tasks that were claimed: ``granted - left``. At 0 left, the next one is timed.
        again: those that had been claimed before.
        every: one run in ``every`` is timed; ``weight`` is the same for the next one.
        taken: how many were chosen to be timed since ``every`` was set; at ``limit`` it is doubled.
        unrun: those that no worker began.
        back: runs whose task goes back as it was, or was snoozed.
        ended_otherwise: runs that were cancelled.
    """

    __slots__ = (
        "again",
        "back",
        "cancelled",
        "cpu_s",
        "ended_otherwise",
        "every",
        "failed",
        "granted",
        "kind",
        "left",
        "limit",
        "lost",
        "queue",
        "queue_s",
        "rescued",
        "retried",
        "run",
        "run_s",
        "taken",
        "task_type",
        "unrun",
        "was_claimed",
        "weight",
    )

    def __init__(self, task_type: str, kind: str) -> None:
        self.task_type = task_type
        self.kind = kind
        self.granted = self.left = self.every = self.weight = 1
        self.again = self.unrun = self.back = self.ended_otherwise = 0
        self.retried = self.failed = self.cancelled = self.lost = self.rescued = 0
        self.queue_s = self.run_s = self.cpu_s = 0.0
        self.queue: dict[int, int] = {}
        self.run: dict[int, int] = {}
        self.was_claimed = 0
        self.taken = 0
        self.limit = AT_FIRST

    @property
    def claimed(self) -> int:
        """Returns how many tasks were claimed."""
        return self.granted - self.left


class Tally:
    """Counts for one life of a pool. The claimer calls ``claimed``, workers ``timed``, both call what counts the rest.

    ``totals`` may be called on any thread, by several at once.
    """

    def __init__(self, random: Random | None = None) -> None:
        self._random = (random or Random()).random
        self._by_kind: dict[str, Cell] = {}  # the cell of the last task of each kind
        self._cells: dict[Pair, Cell] = {}
        self._timed: deque[tuple[Cell, int, int, float, float, float]] = deque()
        self._counting = Lock()  # for what happens now and then

    # For each task ----------------------------------------------------------------------------------------------------

    def claimed(self, runs: Iterable[Timed], at: datetime, sent: float) -> None:
        """Counts the tasks of a claim, and decides which of their runs are timed."""
        by_kind = self._by_kind
        for run in runs:
            task = run.task
            cell = by_kind.get(task.kind)
            if cell is None or cell.task_type != task.task_type:
                cell = by_kind[task.kind] = self._cell(task.task_type, task.kind)
            if task.attempt > 1:
                cell.again += 1
            left = cell.left - 1
            if left:
                cell.left = left
                continue
            run.timing = Timing(cell, cell.weight, at, sent)
            cell.taken += 1
            if cell.taken >= cell.limit:  # more than was expected
                cell.every, cell.taken = 2 * cell.every, 0
            # Random gaps: a fixed one would meet the same phase of periodic work each time.
            gap = 1 if cell.every == 1 else 1 + int(self._random() * (2 * cell.every - 1))
            cell.weight = cell.every
            cell.granted += gap
            cell.left = gap

    def timed(self, run: Timed, seconds: float) -> None:
        """Notes how long a run took; call it for those that are timed, and for those of ``LONG`` seconds or more."""
        timing = run.timing
        if timing is None:
            cell = self._cell(run.task.task_type, run.task.kind)
            self._timed.append((cell, 0, 1, 0.0, seconds, 0.0))
            return
        # No clock of this host: the way of the claim to the server is all that this may be wrong by.
        waited = (timing.at - run.task.scheduled_at).total_seconds() + run.began - timing.sent
        weight = timing.weight
        self._timed.append((timing.cell, weight, 1 if seconds >= LONG else weight, waited, seconds, timing.cpu))

    # For what happens now and then ------------------------------------------------------------------------------------

    def retried(self, task: ClaimedTask) -> None:
        """Counts a run that failed, and whose task will run again."""
        with self._counting:
            self._of(task).retried += 1

    def failed(self, task: ClaimedTask) -> None:
        """Counts a run that failed, and with it its task."""
        with self._counting:
            self._of(task).failed += 1

    def cancelled(self, task: ClaimedTask) -> None:
        """Counts a run that ended as cancelled."""
        with self._counting:
            cell = self._of(task)
            cell.cancelled += 1
            cell.ended_otherwise += 1

    def went_back(self, task: ClaimedTask) -> None:
        """Counts a run whose task goes back: snoozed, or interrupted as its pool stopped."""
        with self._counting:
            self._of(task).back += 1

    def unrun(self, task: ClaimedTask, *, cancelled: bool) -> None:
        """Counts a task that no worker began: it goes back, or is ``cancelled`` instead."""
        with self._counting:
            cell = self._of(task)
            cell.unrun += 1
            cell.cancelled += cancelled

    def lost(self, task: ClaimedTask) -> None:
        """Counts a run whose outcome was not written, since the pool no longer held its task."""
        with self._counting:
            self._of(task).lost += 1

    def rescued(self, task_type: str, kind: str) -> None:
        """Counts a task that this pool took back from a dead one."""
        with self._counting:
            self._cell(task_type, kind).rescued += 1

    # For the flush ----------------------------------------------------------------------------------------------------

    def totals(self, held: Callable[[], Collection[Timed]]) -> dict[Pair, StatsRow]:
        """Returns what was counted since the pool began; ``held`` returns the runs that it holds.

        The order matters, as all goes on meanwhile: claims first, then what is held, then what became of the rest. So
        no run counts as a success before it is one.
        """
        claimed = {pair: (cell.claimed, cell.again) for pair, cell in tuple(self._cells.items())}
        held_by: dict[Pair, int] = {}
        waiting: dict[Pair, int] = {}
        for run in held():
            cell = self._cell(run.task.task_type, run.task.kind)
            pair = (cell.task_type, cell.kind)
            held_by[pair] = held_by.get(pair, 0) + 1
            if not run.began:
                waiting[pair] = waiting.get(pair, 0) + 1
        with self._counting:
            self._fold()
            return {
                pair: _row(cell, *claimed.get(pair, (0, 0)), held_by.get(pair, 0), waiting.get(pair, 0))
                for pair, cell in tuple(self._cells.items())
            }

    def adapt(self) -> None:
        """Sets which part of the runs of each kind is timed from now on, by how many there were since the last call."""
        cells = tuple(self._cells.values())
        wanted = max(1, min(TIMED, MOST_TIMED // max(1, len(cells))))
        for cell in cells:
            claimed = cell.claimed
            count = claimed - cell.was_claimed
            cell.every = max(1, count // wanted)
            cell.limit = max(AT_FIRST, 2 * count // cell.every)
            cell.was_claimed, cell.taken = claimed, 0

    def _fold(self) -> None:
        """Puts the times of runs into their histograms."""
        timed = self._timed
        while timed:
            cell, of_queue, of_run, waited, seconds, cpu = timed.popleft()
            if of_queue:
                waited = max(0.0, waited)
                bucket = bisect_right(BOUNDS, waited)
                cell.queue[bucket] = cell.queue.get(bucket, 0) + of_queue
                cell.queue_s += of_queue * waited
                cell.cpu_s += of_queue * cpu
            bucket = bisect_right(BOUNDS, seconds)
            cell.run[bucket] = cell.run.get(bucket, 0) + of_run
            cell.run_s += of_run * seconds

    def _of(self, task: ClaimedTask) -> Cell:
        return self._cell(task.task_type, task.kind)

    def _cell(self, task_type: str, kind: str) -> Cell:
        cell = self._cells.get((task_type, kind))
        if cell is not None:
            return cell
        if len(self._cells) >= MOST_PAIRS and kind != OTHERS:
            return self._cell(task_type, OTHERS)
        return self._cells.setdefault((task_type, kind), Cell(task_type, kind))


def _row(cell: Cell, claimed: int, again: int, held: int, waiting: int) -> StatsRow:
    began = claimed - cell.unrun
    otherwise = cell.retried + cell.failed + cell.ended_otherwise + cell.back
    return StatsRow(
        started=max(0, began - waiting),
        arrived=claimed - again,
        finished=max(0, began - held - otherwise),
        retried=cell.retried,
        failed=cell.failed,
        cancelled=cell.cancelled,
        lost=cell.lost,
        rescued=cell.rescued,
        queue_s=cell.queue_s,
        run_s=cell.run_s,
        cpu_s=cell.cpu_s,
        queue=dict(cell.queue),
        run=dict(cell.run),
    )
