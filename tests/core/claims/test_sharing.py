"""Pools that share a table, in simulated time: how often tasks are claimed, and for how long claimed ones wait.

The pools are those of asyncio: all runs of one compute on the same loop, so that its workers are free and yet start
nothing. Time goes in ticks; nothing here is real but the rule.
"""

import logging
import uuid
from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from fang_core import Runnable
from fang_core.claims.dispatch import Dispatch
from fang_core.claims.expiry import ClaimTime
from fang_core.claims.inflight import InFlight
from fang_core.claims.prefetch import FIRST, PATIENCE
from fang_core.config import PoolOptions, RetentionMode
from fang_core.events import EventBus
from fang_core.lifecycle import SUCCESS, Outcome
from fang_core.record import ClaimedTask
from fang_core.runs.run import Run
from fang_core.tasks.registry import Kinds

TICK = 0.001
DUE = datetime(2026, 1, 1, tzinfo=UTC)


class Shared(Runnable):
    def run(self, queue: Any) -> None: ...


class Table:
    """Tasks by number: how many ticks each computes, and who claimed which how often."""

    def __init__(self, computes: list[int]) -> None:
        self.computes = computes
        self.due = deque(range(len(computes)))
        self.claims = [0] * len(computes)
        self.runs = [0] * len(computes)

    def claim(self, count: int) -> list[ClaimedTask]:
        numbers = [self.due.popleft() for _ in range(min(count, len(self.due)))]
        for number in numbers:
            self.claims[number] += 1
        return [
            ClaimedTask(uuid.UUID(int=n), "Shared", "{}", self.claims[n], 0, 20, 0, "common", 0, DUE) for n in numbers
        ]

    def give_back(self, outcomes: list[Outcome]) -> None:
        self.due.extendleft(sorted((outcome.id.int for outcome in outcomes), reverse=True))


class Loop:
    """A pool on an event loop of its own. It is the dispatch's line, and writes its outcomes in the next tick."""

    def __init__(self, table: Table, workers: int, sleeps: int, starts_at: int) -> None:
        self.table, self.workers, self.sleeps, self.starts_at = table, workers, sleeps, starts_at
        self.runs: list[tuple[Run, int]] = []  # that wait, since when
        self.asleep: list[tuple[int, Run]] = []  # runs that have computed, until when
        self.computes_until = 0
        self.outcomes: list[Outcome] = []
        self.written = self.ended_runs = self.claimed = 0
        self.waits_since: int | None = None  # it has a free worker, and found nothing
        self.longest = 0  # ticks that a task waited here while another pool had a free worker
        self.tick = 0
        self.in_flight = InFlight(RetentionMode.REMOVE_FINISHED, lambda: False, 4)
        self.dispatch = Dispatch(
            PoolOptions(number_of_workers=workers),
            Kinds("threaded"),
            self.in_flight,
            self,
            self,
            events=EventBus(()),
            is_stopping=lambda: False,
            logger=logging.getLogger("tests"),  # type: ignore[arg-type]
        )

    backlog = property(lambda self: len(self.runs))

    def put(self, what: Any) -> None:
        """Both: runs that wait, and an outcome that is to be written."""
        if isinstance(what, Outcome):
            self.outcomes.append(what)
        else:
            self.runs += [(run, self.tick) for run in what]

    def take_back(self, count: int) -> Iterator[Run]:
        for _ in range(count):
            yield self.runs.pop(0)[0]

    def turn(self, tick: int, others: list["Loop"]) -> None:
        self.tick, now = tick, tick * TICK
        if tick < max(self.starts_at, self.computes_until):
            return
        self.write()
        for until, run in [each for each in self.asleep if each[0] <= tick]:
            self.asleep.remove((until, run))
            self.end(run, (tick - until + self.sleeps) * TICK)
        self.claim(now, others)
        if self.runs and len(self.asleep) < self.workers:
            run, _ = self.runs.pop(0)
            run.began = 1.0
            self.table.runs[run.task.id.int] += 1
            self.computes_until = tick + self.table.computes[run.task.id.int]
            self.asleep.append((self.computes_until + self.sleeps, run))

    def claim(self, now: float, others: list["Loop"]) -> None:
        overdue = self.dispatch.overdue(now)
        if overdue.tasks and (overdue.goes_anyhow or any(other.waits_since is not None for other in others)):
            self.dispatch.give_back_overdue(now)
        wanted = self.dispatch.wanted(now)
        if wanted:
            tasks = self.table.claim(wanted)
            if tasks:
                self.waits_since = None
            elif self.waits_since is None:
                self.waits_since = self.tick
            self.claimed += len(tasks)
            self.dispatch.hand_out(tasks, uuid.UUID(int=id(self)), ClaimTime(DUE, now), now)
        elif len(self.asleep) >= self.workers:
            self.waits_since = None

    def end(self, run: Run, seconds: float) -> None:
        run.over = True
        self.ended_runs += 1
        self.dispatch.ended(run, SUCCESS, seconds)

    def write(self) -> None:
        batch, self.outcomes = self.outcomes, []
        self.written += len(batch)
        self.in_flight.remove(batch)
        self.table.give_back([outcome for outcome in batch if outcome.state is not None])


def work(table: Table, pools: list[Loop]) -> None:
    """Until every task has run, and is written."""
    tick = 0
    while sum(table.runs) < len(table.computes) or any(len(pool.in_flight) for pool in pools):
        for pool in pools:
            pool.turn(tick, [other for other in pools if other is not pool])
        for pool in pools:
            waits = [other.waits_since for other in pools if other is not pool and other.waits_since is not None]
            if pool.runs and waits:
                pool.longest = max(pool.longest, tick - max(min(waits), pool.runs[0][1]))
        tick += 1
        assert tick < 500_000, "it stands still"


simulated = settings(max_examples=10, phases=[Phase.generate])  # to shrink a failure would take minutes
tasks = st.lists(st.integers(5, 30), min_size=150, max_size=250)


@simulated
@given(tasks, st.sampled_from([1, 10, 50, 200]), st.integers(0, 80))
def test_a_pool_alone_claims_each_task_once(computes: list[int], workers: int, sleeps: int) -> None:
    """Nothing is gained by giving back what only it can run."""
    table = Table(computes)
    pool = Loop(table, workers, sleeps, starts_at=0)
    work(table, [pool])
    assert table.runs == table.claims == [1] * len(computes)


@simulated
@given(tasks, st.lists(st.integers(0, 1_500), min_size=1, max_size=3), st.sampled_from([2, 10, 50]), st.integers(0, 80))
def test_pools_that_come_later_run_what_waits_in_others(
    computes: list[int], starts: list[int], workers: int, sleeps: int
) -> None:
    table = Table(computes)
    pools = [Loop(table, workers, sleeps, starts_at) for starts_at in [0, *starts]]
    work(table, pools)
    assert table.runs == [1] * len(computes)
    assert sum(table.claims) <= len(computes) + FIRST * len(pools)  # each may have hoped too much, when it knew nothing
    assert max(pool.longest for pool in pools) <= 2 * PATIENCE / TICK + 3 * max(computes)


@simulated
@given(st.lists(st.sampled_from([0, 0, 0, 0, 1, 100, 400]), min_size=200, max_size=400), st.sampled_from([1, 2, 3]))
def test_tasks_of_all_lengths_wait_for_no_pool_while_another_is_free(computes: list[int], number: int) -> None:
    table = Table(computes)
    pools = [Loop(table, 20, 0, starts_at=0) for _ in range(number)]
    work(table, pools)
    assert table.runs == [1] * len(computes)
    assert sum(table.claims) <= 1.2 * len(computes) if number > 1 else table.claims == table.runs
    assert max(pool.longest for pool in pools) <= 2 * PATIENCE / TICK + 3 * max(computes)
