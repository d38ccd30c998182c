"""Decides the invariants I1 to I7 and I11 from what runs, producers and the audit have recorded, never from the table.

Pure. A record is complete once its workload has settled: every task that is left waiting, or held, counts as lost.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import inf
from typing import Final, NamedTuple
from uuid import UUID

from tests.faults.audit import Change, PoolChange
from tests.faults.ledger import Acknowledgement, Entry, Event

INVARIANTS: Final = {
    "I1": "nothing lost",
    "I2": "nothing invented",
    "I3": "one completion",
    "I4": "fenced",
    "I5": "counted",
    "I6": "overlap only after loss",
    "I7": "bounded recovery",
    "I11": "others flow",
}
TERMINAL: Final = {"finished", "failed", "cancelled", None}
DUE: Final = {"new", "retried"}
SUSPECT_AFTER: Final = 2

SLACK: Final = 0.1
"""Seconds by which the wall clock that the audit writes may have been slewed against the monotonic one of the runs."""


STEP: Final = 0.5
"""Seconds between two looks at how many slots work."""


class Strike(NamedTuple):
    """A moment from which tasks must run again, or end, within ``bound`` seconds.

    ``held`` are the (task, attempt) that a process held when the fault hit it; attempt 0 is a task that has not run.
    """

    at: float
    bound: float
    held: Sequence[tuple[UUID, int]]


class Flow(NamedTuple):
    """A time in which work must flow, whatever is struck: in each window, runs take at least a share of the slots.

    What is due and has not ended is work; a slot is a worker of a process that lives. ``slots`` are how many there are
    from each moment on. A run that was struck counts as ended by that.
    """

    since: float
    until: float
    share: float
    slots: Sequence[tuple[float, int]]
    window: float = 5.0


class Violation(NamedTuple):
    """What is wrong."""

    invariant: str
    what: str

    def __str__(self) -> str:
        return f"{self.invariant} ({INVARIANTS[self.invariant]}): {self.what}"


@dataclass
class Run:
    """One attempt, as the ledger tells of it; ``ended`` is infinite where it never did. ``transaction`` is that of its
    own in which it was about to complete its task."""

    task: UUID
    attempt: int
    started: float
    ended: float = float("inf")
    result: str | None = None
    transaction: int | None = None
    pid: int = 0


@dataclass
class Record:
    """All that was recorded of one workload."""

    entries: list[Entry]
    changes: list[Change]
    pools: list[PoolChange]
    acknowledgements: list[Acknowledgement]
    strikes: list[Strike] = field(default_factory=list)
    max_crashes: int = 3
    flows: list[Flow] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.runs: dict[tuple[UUID, int], list[Run]] = defaultdict(list)
        self.starts: dict[UUID, list[Entry]] = defaultdict(list)
        self.unbegun: dict[tuple[UUID, int], Event] = {}  # how runs ended whose child had not written that they began
        for entry in self.entries:
            if entry.event == "start":
                self.starts[entry.task].append(entry)
                self.runs[entry.task, entry.attempt].append(Run(entry.task, entry.attempt, entry.at, pid=entry.pid))
                continue
            if (entry.task, entry.attempt) not in self.runs and entry.event in {"failed", "died"}:
                self.unbegun[entry.task, entry.attempt] = entry.event
                continue
            run = self.runs[entry.task, entry.attempt][-1]
            if entry.event == "completing":
                run.transaction = entry.transaction
            elif run.result != "stuck":  # whatever becomes of that is ignored
                run.ended, run.result = entry.at, entry.event
        self.lives: dict[UUID, list[Change]] = defaultdict(list)
        for change in self.changes:
            self.lives[change.task].append(change)
        self.ends_of_pools = {change.pool: change for change in self.pools if change.event == "gone"}
        self.pids_of_pools = {change.pool: change.pid for change in self.pools}
        self.stops_of_pools = {change.pool: change for change in self.pools if change.event == "stopping"}

    def run_of(self, change: Change) -> Run | None:
        """The run under the claim that this change is, or ends."""
        runs = self.runs.get((change.task, change.attempt or 0))
        return runs[0] if runs else None

    def was_isolated(self, change: Change) -> bool:
        """Whether the run that this change ends was in a child process of its pool."""
        run = self.run_of(change)
        return run is not None and run.pid != self.pids_of_pools.get(change.pool, run.pid)

    def is_rescue(self, change: Change) -> bool:
        """Whether the task was taken from a pool that was declared dead: its row goes in the same transaction, or
        had gone before."""
        if change.pool is None or change.by_hand:
            return False
        gone = self.ends_of_pools.get(change.pool)
        return gone is not None and (gone.transaction == change.transaction or gone.place < change.place)

    def was_stopping(self, change: Change) -> bool:
        """Whether the pool that held the task had said that it stops."""
        stop = self.stops_of_pools.get(change.pool) if change.pool is not None else None
        return stop is not None and stop.place < change.place


def check(record: Record) -> list[Violation]:
    """Everything that is wrong; an empty list where all invariants hold."""
    return [
        *nothing_lost(record),
        *nothing_invented(record),
        *one_completion(record),
        *fenced(record),
        *counted(record),
        *overlap_only_after_loss(record),
        *bounded_recovery(record),
        *others_flow(record),
    ]


def nothing_lost(record: Record) -> Iterator[Violation]:
    """I1: what was acknowledged has ended: done, failed with its retries or crashes spent, cancelled, removed by hand.

    That a row goes only after its run has succeeded is I4's to say.
    """
    for acknowledged in record.acknowledgements:
        life = record.lives.get(acknowledged.task, [])
        if not life:
            if acknowledged.known:
                yield Violation("I1", f"{acknowledged.task} was acknowledged, and never inserted")
        elif life[-1].became not in TERMINAL:
            yield Violation("I1", f"{acknowledged.task} was left {life[-1].became}")
    for change in record.changes:
        if change.was == "in_progress" and change.became == "failed" and not change.by_hand:
            has_died = record.is_rescue(change) or _has_died(record, change)
            crashed = has_died and (change.new_crashes or 0) >= record.max_crashes
            spent = not record.is_rescue(change) and (change.retries or 0) >= change.max_retries
            if not crashed and not spent:
                left = f"{change.retries} of {change.max_retries} retries, {change.new_crashes} crashes"
                yield Violation("I1", f"{change.task} was failed after {left}")


def nothing_invented(record: Record) -> Iterator[Violation]:
    """I2: every run is of a task that was inserted, under a claim that was made before it, and once."""
    claims = {(each.task, each.attempt): each for each in record.changes if each.became == "in_progress"}
    for (task, attempt), runs in record.runs.items():
        claim = claims.get((task, attempt))
        if claim is None:
            yield Violation("I2", f"{task} ran as attempt {attempt}, which nobody claimed")
        elif runs[0].started < claim.at - SLACK:
            yield Violation("I2", f"{task} ran as attempt {attempt} before it was claimed")
        if len(runs) > 1:
            yield Violation("I2", f"{task} ran {len(runs)} times as attempt {attempt}")


def one_completion(record: Record) -> Iterator[Violation]:
    """I3: each life ends once; after that only a retry by hand, or the removal of the ended row."""
    for task, life in record.lives.items():
        for before, after in pairwise(life):
            if before.became != after.was:
                yield Violation("I3", f"{task} became {before.became}, then {after.became} from {after.was}")
            elif before.became in TERMINAL and after.became is not None and not after.by_hand:
                yield Violation("I3", f"{task} had become {before.became or 'nothing'}, and then {after.became}")


def fenced(record: Record) -> Iterator[Violation]:
    """I4: a claim takes what is due, and raises the attempt by one; what ends it is the outcome of that very attempt's
    run, once it has ended, or a completion in that run's own transaction.

    A stale completion that got through shows itself as a row that went while its latest run still ran, or had failed,
    or had not started.
    """
    for life in record.lives.values():
        attempt = 0
        for change in life:
            if change.became == "in_progress" and change.by_hand:
                attempt = change.attempt or 0  # no claim: somebody has set it
            elif change.became == "in_progress":
                if change.was not in DUE:
                    yield Violation("I4", f"{change.task} was claimed while it was {change.was}")
                if change.attempt != attempt + 1:
                    yield Violation("I4", f"{change.task} was claimed as {change.attempt} after {attempt}")
                attempt = change.attempt or 0
            elif change.was == "in_progress" and not change.by_hand and not record.is_rescue(change):
                yield from _is_outcome(record, change)


def _is_outcome(record: Record, change: Change) -> Iterator[Violation]:
    """Whether this change, made by the pool that holds the task, is what its run came to."""
    run = record.run_of(change)
    result = _result(change)
    name = f"{change.task}, attempt {change.attempt},"
    if run is None:
        is_unbegun = (change.task, change.attempt) in record.unbegun
        if result not in {"given back", "cancelled"} and not is_unbegun:  # by a request, before its run
            yield Violation("I4", f"{name} {result} without a run")
    elif result == "done" and run.transaction == change.transaction:
        return  # whatever became of the run then
    elif run.ended > change.at + SLACK and result != "given back":
        yield Violation("I4", f"{name} {result} while its run went on")
    elif result == "done" and run.result != "ok":
        yield Violation("I4", f"{name} done, and its run had {run.result}")
    elif result in {"failed", "cancelled"} and run.result not in {"failed", "cancelled", "stuck", "died"}:
        yield Violation("I4", f"{name} {result}, and its run was {run.result}")


def _result(change: Change) -> str:
    """What a pool's own change says of the run."""
    if change.became in {None, "finished"}:
        return "done"
    if change.became in DUE and change.new_retries == change.retries:
        return "given back"
    return "cancelled" if change.became == "cancelled" else "failed"


def counted(record: Record) -> Iterator[Violation]:
    """I5: claims are at most max_retries + 1 + max_crashes, one for each crash that a snooze forgets, and one for each
    release that charges nothing; and these are snoozes, give-backs and reconciles of what never ran, what a stop cut
    short, and rescues from a stopping pool or of a suspect beside others."""
    for task, life in record.lives.items():
        claims = sum(change.became == "in_progress" for change in life)
        free = [change for change in life if change.was == "in_progress" and _is_free(change)]
        forgotten = sum(_forgotten(change) for change in life)
        most = life[0].max_retries + 1 + record.max_crashes + len(free) + forgotten
        if claims > most and not any(change.by_hand for change in life):
            yield Violation("I5", f"{task} was claimed {claims} times, {most} at most were allowed")
        for change in free:
            if not _may_be_free(record, change):
                yield Violation("I5", f"{task}: attempt {change.attempt} ran, and its end charged nothing")
        for change in life:
            if _forgotten(change):
                if not change.by_hand and _run_result(record, change) != "snoozed":
                    yield Violation("I5", f"{task}: attempt {change.attempt} did not snooze, and forgot a crash")
            elif change.new_crashes != change.crashes and change.was == "in_progress" and change.became is not None:
                if not record.is_rescue(change) and not change.by_hand and not _has_died(record, change):
                    yield Violation("I5", f"{task}: attempt {change.attempt} was charged with a crash of a live pool")
                elif (
                    record.is_rescue(change) and record.was_isolated(change) and (change.crashes or 0) >= SUSPECT_AFTER
                ):
                    yield Violation("I5", f"{task}: a suspect in a child process was charged with the end of its pool")
                elif record.was_stopping(change):
                    yield Violation(
                        "I5", f"{task}: attempt {change.attempt} was charged with the end of a stopping pool"
                    )


def _forgotten(change: Change) -> int:
    """How many crashes are counted no more."""
    return max(0, (change.crashes or 0) - (change.new_crashes or 0)) if change.became is not None else 0


def _run_result(record: Record, change: Change) -> str | None:
    run = record.run_of(change)
    return None if run is None else run.result


def _has_died(record: Record, change: Change) -> bool:
    """Whether the run's pool said that its child died; that may have been still importing."""
    unbegun = record.unbegun.get((change.task, change.attempt or 0))
    return "died" in {_run_result(record, change), unbegun}


def _is_free(change: Change) -> bool:
    is_charged = change.new_retries != change.retries or (change.new_crashes or 0) > (change.crashes or 0)
    return change.became in DUE and not is_charged


def _may_be_free(record: Record, change: Change) -> bool:
    if change.by_hand:
        return True
    if record.is_rescue(change):
        return record.was_stopping(change) or (change.crashes or 0) >= SUSPECT_AFTER
    run = record.run_of(change)
    # A reconcile, or a give-back, of what then ran all the same is I6's to see.
    return run is None or run.started > change.at + SLACK or run.result in {"snoozed", "cancelled"}


def overlap_only_after_loss(record: Record) -> Iterator[Violation]:
    """I6: while a run goes on, or has died without a word, only a rescue or a hand lets the next one begin."""
    releases = {(each.task, each.attempt): each for each in record.changes if each.was == "in_progress"}
    by_task: dict[UUID, list[Run]] = defaultdict(list)
    for runs in record.runs.values():
        by_task[runs[0].task] += runs
    for task, runs in by_task.items():
        runs.sort(key=lambda run: run.attempt)
        for first, second in pairwise(runs):
            if second.started >= first.ended or first.result == "died":
                continue
            release = releases.get((task, first.attempt))
            if release is None or not (release.by_hand or record.is_rescue(release)):
                yield Violation("I6", f"{task}: attempt {second.attempt} began while {first.attempt} held the task")


def bounded_recovery(record: Record) -> Iterator[Violation]:
    """I7: within the bound what was held ran again, or ended."""
    for strike in record.strikes:
        seconds = recovery(record, strike)
        if seconds > strike.bound:
            yield Violation("I7", f"recovery took {seconds:.1f} s, {strike.bound:.1f} s were allowed")


def recovery(record: Record, strike: Strike) -> float:
    """Seconds from the strike until the last of what was held had run again, or ended."""
    return max(_again(record, task, attempt) for task, attempt in strike.held) - strike.at


def others_flow(record: Record) -> Iterator[Violation]:
    """I11: in each window runs take their share of what the living slots, and the work that there is, allow."""
    for flow in record.flows:
        for at, share in shares(record, flow):
            if share < flow.share:
                after = at - flow.since
                yield Violation("I11", f"{share:.2f} of the slots worked after {after:.0f} s, not {flow.share:.2f}")


def shares(record: Record, flow: Flow) -> Iterator[tuple[float, float]]:
    """Yields the start of each window, and the share of the slots that worked in it; no window without any work."""
    struck = {held: strike.at for strike in record.strikes for held in strike.held}
    running = [
        (run.started, min(run.ended, struck.get(key, run.ended))) for key, runs in record.runs.items() for run in runs
    ]
    waiting = [(life[0].at, life[-1].at if life[-1].became in TERMINAL else inf) for life in record.lives.values()]
    moments = int(flow.window / STEP)
    for first in range(int((flow.until - flow.since) / flow.window)):
        at = flow.since + first * flow.window
        allowed = worked = 0
        for now in (at + (step + 0.5) * STEP for step in range(moments)):
            slots = next((count for since, count in reversed(flow.slots) if since <= now), 0)
            allowed += min(slots, sum(begins <= now < ends for begins, ends in waiting))
            worked += min(slots, sum(begins <= now < ends for begins, ends in running))
        if allowed:
            yield at, worked / allowed


def wait(record: Record, task: UUID) -> float:
    """Seconds from a task's insert, due at once, until its life had ended."""
    life = record.lives[task]
    return life[-1].at - life[0].at


def _again(record: Record, task: UUID, attempt: int) -> float:
    starts = [entry.at for entry in record.starts.get(task, ()) if entry.attempt > attempt]
    ends = [change.at for change in record.lives.get(task, []) if change.was is not None and change.became in TERMINAL]
    return min([*starts, *ends], default=float("inf"))
