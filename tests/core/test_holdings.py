"""What a pool holds: a suspect runs alone whatever comes in which order, and the counts are exact."""

import threading
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import takewhile
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fang_core.config import RetentionMode
from fang_core.holdings import Holdings
from fang_core.lifecycle import SUSPECT_AFTER, Outcome, is_suspect
from fang_core.record import ClaimedTask
from fang_core.run import Lease, Run

POOL = uuid.UUID(int=99)
DUE = datetime(2026, 1, 1, tzinfo=UTC)


def task(number: int, *, attempt: int = 1, crashes: int = 0) -> ClaimedTask:
    return ClaimedTask(uuid.UUID(int=number), "K", "{}", attempt, 0, 20, crashes, "common", 0, DUE)


def suspect(number: int, *, attempt: int = 1) -> ClaimedTask:
    return task(number, attempt=attempt, crashes=SUSPECT_AFTER)


def outcome(run: Run) -> Outcome:
    return Outcome(run.task.id, run.task.attempt, None)


def holdings() -> Holdings:
    return Holdings(RetentionMode.REMOVE_FINISHED, lambda: False)


class PoolAroundHoldings(RuleBasedStateMachine):
    """Claims while it may, begins suspects when it may, and ends and gives back what it was handed in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.holdings = holdings()
        self.attempts: dict[uuid.UUID, int] = {}
        self.held: dict[uuid.UUID, int] = {}  # attempt by task
        self.open: list[Run] = []  # an outcome is still to come
        self.waiting: uuid.UUID | None = None  # the suspect that has not begun
        self.alone: Run | None = None  # the one that has
        self.apart: set[Run] = set()  # of which nobody knows when they are written

    @precondition(lambda self: not self.holdings.has_suspect)
    @rule(
        claimed=st.dictionaries(st.integers(0, 5), st.integers(0, SUSPECT_AFTER + 1), min_size=1, max_size=4),
        data=st.data(),
    )
    def claim(self, claimed: dict[int, int], data: st.DataObject) -> None:
        tasks = []
        for number, crashes in claimed.items():
            attempt = self.attempts.get(uuid.UUID(int=number), 0) + 1
            tasks.append(task(number, attempt=attempt, crashes=crashes))
        former = {run.task.id: run for run in self.open if self.held.get(run.task.id) == run.task.attempt}
        for run in former.values():
            run.started, run.over = data.draw(st.sampled_from([(False, False), (True, False), (True, True)]))
        lost_before = {run for run in former.values() if run.is_lost}
        self.attempts |= {each.id: each.attempt for each in tasks}
        self.held |= {each.id: each.attempt for each in tasks}
        suspects = [each.id for each in tasks if is_suspect(each)]
        self.waiting = suspects[0] if suspects else None

        taken = self.holdings.take(tasks, POOL)

        again = [former[each.id] for each in tasks if each.id in former]
        assert taken.lost == [run for run in again if run.started and not run.over]
        assert [run.is_lost for run in again] == [run in lost_before or not run.over for run in again]
        before = list(takewhile(lambda each: not is_suspect(each), tasks))
        assert [run.task for run in taken.ready] == before
        assert [run.task for run in taken.unwanted] == tasks[len(before) + 1 :]
        self.open += [*taken.ready, *taken.unwanted]

    @rule()
    def begin(self) -> None:
        run = self.holdings.begin_suspect()
        may = self.waiting is not None and set(self.held) == {self.waiting}
        assert (run is not None) == may
        if run is not None:
            assert run.task.id == self.waiting
            self.waiting, self.alone = None, run
            self.open.append(run)

    @rule()
    def give_up(self) -> None:
        run = self.holdings.give_up_suspect()
        assert (run and run.task.id) == self.waiting
        if run is not None:
            self.waiting = None
            self.open.append(run)

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        run = self.open.pop(data.draw(st.integers(0, len(self.open) - 1)))
        if self.held.get(run.task.id) == run.task.attempt:
            del self.held[run.task.id]
        if run is self.alone:
            self.alone = None
        self.apart.discard(run)
        self.holdings.wrote([outcome(run)])

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def meet_a_lock(self, data: st.DataObject) -> None:
        """Once or more often, before it is written."""
        run = data.draw(st.sampled_from(self.open))
        self.apart.add(run)
        if run is self.alone:
            self.alone = None
        self.holdings.set_apart([outcome(run)])

    @rule()
    def lose_all(self) -> None:
        self.holdings.lose_all()
        latest = [run for run in self.open if self.held.get(run.task.id) == run.task.attempt]
        assert all(run.lease is Lease.LOST for run in latest)

    @invariant()
    def the_counts_are_exact(self) -> None:
        assert sorted(self.holdings.known()) == sorted(self.held)
        assert len(self.holdings) == len(self.held)
        assert self.holdings.has_apart == bool(self.apart)

    @invariant()
    def a_suspect_runs_alone(self) -> None:
        if self.alone is not None:
            assert set(self.held) == {self.alone.task.id}

    @invariant()
    def nothing_is_claimed_beside_a_suspect_and_everything_after_it(self) -> None:
        in_the_way = [run for run in self.open if is_suspect(run.task) and run is self.alone]
        if self.waiting is not None or in_the_way:
            assert self.holdings.has_suspect
        if not set(self.open) - self.apart and self.waiting is None:
            assert not self.holdings.has_suspect


TestPoolAroundHoldings = PoolAroundHoldings.TestCase


def test_a_suspect_that_is_claimed_anew_keeps_nobody_waiting_for_ever() -> None:
    held = holdings()
    held.take([suspect(1)], POOL)
    first = held.begin_suspect()
    assert first is not None
    again = held.take([suspect(1, attempt=2)], POOL)
    assert (first.is_lost, [run.task.attempt for run in again.unwanted]) == (True, [2])
    held.wrote([outcome(again.unwanted[0])])
    held.wrote([outcome(first)])
    assert not held.has_suspect


def test_an_outcome_of_an_older_run_ends_nothing() -> None:
    held = holdings()
    (old,) = held.take([task(1)], POOL).ready
    (new,) = held.take([task(1, attempt=2)], POOL).ready
    assert held.lose(outcome(old))  # perhaps it had started: it is no longer known
    held.wrote([outcome(old)])
    assert (old.lease, new.lease, held.known()) == (Lease.LOST, Lease.HELD, [new.task.id])
    assert not held.lose(outcome(new))
    assert new.lease is Lease.LOST
    new.started = True
    assert held.lose(outcome(new))


def test_what_waits_for_a_worker_is_neither_what_runs_nor_what_has_ended() -> None:
    held = holdings()
    runs = held.take([task(1), task(2)._replace(task_type="t"), task(3)._replace(kind="L")], POOL).ready
    assert held.waiting() == {("common", "K"), ("t", "K"), ("common", "L")}
    runs[0].started = True
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
    held = holdings()
    (old,) = held.take([task(1)], POOL).ready
    taken: list[Run] = []
    runs = Interrupted(held._runs, lambda: taken.extend(held.take([task(1, attempt=2)], POOL).ready))
    held._runs = runs
    held.wrote([outcome(old)])
    assert runs.thread is not None
    runs.thread.join(10)
    assert held.known() == [old.task.id]
    held.wrote([outcome(run) for run in taken])
    assert held.known() == []


def test_a_run_is_doubtful_while_the_pool_is_cut_off_and_lost_for_good() -> None:
    cut_off = True
    held = Holdings(RetentionMode.REMOVE_FINISHED, lambda: cut_off)
    (run,) = held.take([task(1)], POOL).ready
    assert run.lease is Lease.DOUBTFUL
    cut_off = False
    assert run.lease is Lease.HELD
    held.lose_all()
    assert run.lease is Lease.LOST
