"""What a pool holds: suspects are tried in groups that are small enough whatever comes, and the counts are exact."""

import threading
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fang_core.claims.expiry import ClaimTime
from fang_core.claims.inflight import InFlight
from fang_core.claims.suspects import NO_SUSPECTS
from fang_core.config import RetentionMode
from fang_core.crashes import SUSPECT_AFTER, group_limit, is_suspect
from fang_core.lifecycle import Outcome
from fang_core.record import ClaimedTask
from fang_core.runs.run import Lease, Run
from tests.patience import PATIENT

POOL = uuid.UUID(int=99)
DUE = datetime(2026, 1, 1, tzinfo=UTC)
CLAIMED = ClaimTime(DUE, 0.0)
WORKERS = 4


def task(number: int, *, attempt: int = 1, crashes: int = 0) -> ClaimedTask:
    return ClaimedTask(uuid.UUID(int=number), "K", "{}", attempt, 0, 20, crashes, "common", 0, DUE)


def suspect(number: int, *, attempt: int = 1) -> ClaimedTask:
    """One that must run alone."""
    return task(number, attempt=attempt, crashes=SUSPECT_AFTER)._replace(group_limit=1)


def outcome(run: Run) -> Outcome:
    return Outcome(run.task.id, run.task.attempt, None)


def in_flight() -> InFlight:
    return InFlight(RetentionMode.REMOVE_FINISHED, lambda: False, WORKERS)


def is_lone(task: ClaimedTask) -> bool:
    return is_suspect(task) and group_limit(task) == 1


def test_a_suspect_that_is_isolated_runs_beside_everything_and_holds_nothing_up() -> None:
    held = InFlight(RetentionMode.REMOVE_FINISHED, lambda: False, WORKERS, lambda: {"K"})
    limited = suspect(3)._replace(group_limit=2)
    taken = held.take([task(1), suspect(2)._replace(group_limit=None), limited], POOL, CLAIMED)
    assert [run.task.id.int for run in taken.ready] == [1, 2, 3]
    assert [run.isolated for run in taken.ready] == [False, True, True]
    assert not taken.unwanted
    assert not held.suspects


def test_a_suspect_that_must_run_alone_does_so_in_a_child_process() -> None:
    held = InFlight(RetentionMode.REMOVE_FINISHED, lambda: False, WORKERS, lambda: {"K"})
    first = task(1)
    taken = held.take([first, suspect(2), task(3)], POOL, CLAIMED)
    assert [run.task.id.int for run in taken.ready] == [1]
    assert [run.task.id.int for run in taken.unwanted] == [3]
    assert held.has_lone_suspect
    held.remove([Outcome(first.id, 1, None), Outcome(task(3).id, 1, None)])
    (run,) = held.begin_suspects()
    assert run.isolated


def test_a_suspect_of_another_kind_waits_for_those_that_are_isolated_too() -> None:
    held = InFlight(RetentionMode.REMOVE_FINISHED, lambda: False, WORKERS, lambda: {"other"})
    other = suspect(1)._replace(kind="other", group_limit=None)
    assert [run.task.id.int for run in held.take([other, suspect(2)], POOL, CLAIMED).ready] == [1]
    assert held.has_lone_suspect
    assert not held.suspects_may_begin
    held.remove([Outcome(other.id, 1, None)])
    assert held.suspects_may_begin


class PoolAroundHoldings(RuleBasedStateMachine):
    """Claims while it may, begins suspects when it may, and ends and gives back what it was handed in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.in_flight = in_flight()
        self.attempts: dict[uuid.UUID, int] = {}
        self.held: dict[uuid.UUID, int] = {}  # attempt by task
        self.open: list[Run] = []  # an outcome is still to come
        self.waiting: list[ClaimedTask] = []  # suspects that have not begun
        self.tried: list[Run] = []  # those that have
        self.refused: list[Run] = []  # those that go back, since they cannot be tried with the others
        self.locked: set[Run] = set()  # of which nobody knows when they are written

    @precondition(lambda self: not self.in_flight.has_lone_suspect)
    @rule(
        claimed=st.dictionaries(st.integers(0, 9), st.sampled_from([0, 0, 1, 2, 3, 9]), min_size=1, max_size=7),
        data=st.data(),
    )
    def claim(self, claimed: dict[int, int], data: st.DataObject) -> None:
        """Claims tasks by their numbers, with these limits of groups; 0 is for one that is no suspect."""
        size = self.in_flight.next_group_size
        tasks = []
        for number, limit in claimed.items():
            attempt = self.attempts.get(uuid.UUID(int=number), 0) + 1
            if 0 < limit < size:
                continue
            made = task(number, attempt=attempt, crashes=SUSPECT_AFTER if limit else SUSPECT_AFTER - 1)
            tasks.append(made._replace(group_limit=limit or None))
        former = {run.task.id: run for run in self.open if self.held.get(run.task.id) == run.task.attempt}
        for run in former.values():
            began, run.over = data.draw(st.sampled_from([(0.0, False), (1.0, False), (1.0, True)]))
            run.began = began
        lost_before = {run for run in former.values() if run.is_lost}
        self.attempts |= {each.id: each.attempt for each in tasks}
        self.held |= {each.id: each.attempt for each in tasks}
        suspects = [each for each in tasks if is_suspect(each)]

        taken = self.in_flight.take(tasks, POOL, CLAIMED)

        again = [former[each.id] for each in tasks if each.id in former]
        assert taken.lost == [run for run in again if run.started and not run.over]
        assert [run.is_lost for run in again] == [run in lost_before or not run.over for run in again]
        ready, unwanted = ([run.task for run in runs] for runs in (taken.ready, taken.unwanted))
        assert [each for each in tasks if each in ready] == ready
        waiting = [each for each in suspects if each not in ready + unwanted]
        self.waiting += waiting
        self.tried += [run for run in taken.ready if is_suspect(run.task)]
        self.refused += [run for run in taken.unwanted if is_suspect(run.task)]
        self.open += [*taken.ready, *taken.unwanted]
        lone = next((place for place, each in enumerate(tasks) if each in waiting and is_lone(each)), len(tasks))
        others = [each for each in tasks if not is_suspect(each)]
        assert [each for each in others if each in ready] == [each for each in tasks[:lone] if each in others]
        if suspects:  # at least one of them is tried, and no other has a higher limit
            tried = [each for each in suspects if each not in unwanted]
            assert tried
            refused = [each for each in suspects if each in unwanted]
            assert min(map(group_limit, tried)) >= max(map(group_limit, refused), default=0)

    @rule()
    def begin(self) -> None:
        runs = self.in_flight.begin_suspects()
        waiting = self.waiting
        if waiting and is_lone(waiting[0]):
            assert len(waiting) == 1
            may = set(self.held) <= {waiting[0].id}
        else:
            may = not set(self.refused) & set(self.open)
        assert [run.task for run in runs] == (waiting if may else [])
        if runs:
            self.waiting = []
            self.tried += runs
            self.open += runs

    @rule()
    def give_up(self) -> None:
        runs = self.in_flight.give_up_suspects()
        assert [run.task for run in runs] == self.waiting
        self.waiting = []
        self.open += runs

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        run = self.open.pop(data.draw(st.integers(0, len(self.open) - 1)))
        if self.held.get(run.task.id) == run.task.attempt:
            del self.held[run.task.id]
        self.tried = [each for each in self.tried if each is not run]
        self.locked.discard(run)
        self.in_flight.remove([outcome(run)])

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def meet_a_lock(self, data: st.DataObject) -> None:
        """Once or more often, before it is written."""
        run = data.draw(st.sampled_from(self.open))
        self.locked.add(run)
        self.in_flight.set_locked([outcome(run)])

    @rule()
    def mark_all_lost(self) -> None:
        self.in_flight.mark_all_lost()
        latest = [run for run in self.open if self.held.get(run.task.id) == run.task.attempt]
        assert all(run.lease is Lease.LOST for run in latest)

    @invariant()
    def the_counts_are_exact(self) -> None:
        assert sorted(self.in_flight.known()) == sorted(self.held)
        assert len(self.in_flight) == len(self.held)
        assert self.in_flight.has_locked == bool(self.locked)
        suspects = [run for run in self.open if is_suspect(run.task)]
        assert len(self.in_flight.suspects) == len(suspects) + len(self.waiting)

    @invariant()
    def no_suspect_is_tried_in_a_group_that_is_too_large(self) -> None:
        for run in self.tried:
            assert len(self.tried) <= min(group_limit(run.task), WORKERS)
            if is_lone(run.task) and run not in self.locked:
                assert set(self.held) <= {run.task.id}

    @invariant()
    def nothing_is_claimed_beside_a_suspect_that_runs_alone_and_everything_after_it(self) -> None:
        running = [run.task for run in self.tried if run not in self.locked]
        if any(map(is_lone, [*self.waiting, *running])):
            assert self.in_flight.has_lone_suspect
        if not set(self.open) - self.locked and not self.waiting:
            assert not self.in_flight.has_lone_suspect
            assert self.locked or self.in_flight.next_group_size == 1


TestPoolAroundHoldings = PoolAroundHoldings.TestCase


def test_a_suspect_that_is_claimed_anew_keeps_nobody_waiting_for_ever() -> None:
    held = in_flight()
    (first,) = held.take([suspect(1)], POOL, CLAIMED).ready or held.begin_suspects()
    again = held.take([suspect(1, attempt=2)], POOL, CLAIMED)
    assert (first.is_lost, [run.task.attempt for run in again.unwanted]) == (True, [2])
    held.remove([outcome(again.unwanted[0])])
    held.remove([outcome(first)])
    assert not held.has_lone_suspect
    assert not held.suspects


def test_suspects_with_high_limits_are_tried_first() -> None:
    held = in_flight()
    limits = [2, 1, 3, 9, 3]
    taken = held.take([task(n, crashes=2)._replace(group_limit=limit) for n, limit in enumerate(limits)], POOL, CLAIMED)
    assert [run.task.group_limit for run in taken.unwanted] == [2, 1]
    assert not held.begin_suspects()
    held.remove(map(outcome, taken.unwanted))
    assert [run.task.group_limit for run in held.begin_suspects()] == [3, 9, 3]
    assert held.next_group_size == NO_SUSPECTS


def test_an_outcome_of_an_older_run_ends_nothing() -> None:
    held = in_flight()
    (old,) = held.take([task(1)], POOL, CLAIMED).ready
    (new,) = held.take([task(1, attempt=2)], POOL, CLAIMED).ready
    assert held.mark_lost(outcome(old))  # perhaps it had started: it is no longer known
    held.remove([outcome(old)])
    assert (old.lease, new.lease, held.known()) == (Lease.LOST, Lease.HELD, [new.task.id])
    assert not held.mark_lost(outcome(new))
    assert new.lease is Lease.LOST
    new.began = 1.0
    assert held.mark_lost(outcome(new))


def test_what_waits_for_a_worker_is_neither_what_runs_nor_what_has_ended() -> None:
    held = in_flight()
    runs = held.take([task(1), task(2)._replace(task_type="t"), task(3)._replace(kind="L")], POOL, CLAIMED).ready
    assert held.waiting() == {("common", "K"), ("t", "K"), ("common", "L")}
    runs[0].began = 1.0
    runs[1].over = True
    assert held.waiting() == {("common", "L")}


class Interrupted(dict[uuid.UUID, Run]):
    """Has another thread act between a look at an entry and what follows from it, for as long as that can."""

    def __init__(self, entries: dict[uuid.UUID, Run], act: Callable[[], object]) -> None:
        super().__init__(entries)
        self._act = act
        self.thread: threading.Thread | None = None

    def get(self, key: uuid.UUID, default: Any = None) -> Any:
        found = super().get(key, default)
        if self.thread is None:
            self.thread = threading.Thread(target=self._act)
            self.thread.start()
            self.thread.join(0.5)  # it ends, or waits until the other has done
        return found


def test_a_task_that_is_claimed_anew_while_its_older_outcome_is_dealt_with_stays_held() -> None:
    """Else reconcile gave back what runs."""
    held = in_flight()
    (old,) = held.take([task(1)], POOL, CLAIMED).ready
    taken: list[Run] = []
    runs = Interrupted(held._runs, lambda: taken.extend(held.take([task(1, attempt=2)], POOL, CLAIMED).ready))
    held._runs = runs
    held.remove([outcome(old)])
    assert runs.thread is not None
    runs.thread.join(PATIENT)
    assert held.known() == [old.task.id]
    held.remove([outcome(run) for run in taken])
    assert held.known() == []


def test_a_run_is_doubtful_while_the_pool_is_cut_off_and_lost_for_good() -> None:
    cut_off = True
    held = InFlight(RetentionMode.REMOVE_FINISHED, lambda: cut_off, WORKERS)
    (run,) = held.take([task(1)], POOL, CLAIMED).ready
    assert run.lease is Lease.DOUBTFUL
    cut_off = False
    assert run.lease is Lease.HELD
    held.mark_all_lost()
    assert run.lease is Lease.LOST
