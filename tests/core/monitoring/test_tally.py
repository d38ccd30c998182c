"""What a pool counts of its runs: every one of them, and the times of a sample."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from random import Random
from uuid import UUID

import pytest

from fang_core.monitoring.buckets import bucket, quantiles
from fang_core.monitoring.history import StatsRow
from fang_core.monitoring.stats import MOST_PAIRS, OTHERS
from fang_core.monitoring.tally import AT_FIRST, LONG, TIMED, Tally
from fang_core.record import ClaimedTask
from fang_core.runs.run import Run

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
SENT = 100.0
"""When the claim was sent, by the monotonic clock; it says that it is noon."""


class Pool:
    """A tally, and the runs that the pool holds."""

    def __init__(self) -> None:
        self.tally = Tally(Random(1))
        self.held: list[Run] = []

    def claim(self, count: int = 1, kind: str = "A", task_type: str = "common", attempt: int = 1) -> list[Run]:
        due = NOON - timedelta(seconds=2)
        task = ClaimedTask(UUID(int=1), kind, "{}", attempt, 0, 20, 0, task_type, 0, due)
        runs = [Run(task, UUID(int=2)) for _ in range(count)]
        self.held += runs
        self.tally.claimed(runs, NOON, SENT)
        return runs

    def begin(self, runs: list[Run], *, after: float = 1.0) -> None:
        for run in runs:
            run.began = SENT + after

    def end(self, runs: list[Run], seconds: Iterator[float] | float = 0.01) -> None:
        """Ends runs as a dispatch does: what it does not count has succeeded."""
        for run in runs:
            taken = seconds if isinstance(seconds, float) else next(seconds)
            run.over = True
            if run.timing is not None or taken >= LONG:
                self.tally.timed(run, taken)
            self.held.remove(run)

    def row(self, kind: str = "A", task_type: str = "common") -> StatsRow:
        return self.tally.totals(lambda: tuple(self.held)).get((task_type, kind), StatsRow())

    def counts(self, kind: str = "A") -> dict[str, int]:
        return {name: count for name, count in zip(StatsRow._fields[:8], self.row(kind)[:8], strict=True) if count}


@pytest.fixture
def pool() -> Pool:
    return Pool()


def test_a_run_is_counted_when_it_begins_and_as_a_success_when_the_pool_no_longer_holds_it(pool: Pool) -> None:
    runs = pool.claim(3)
    assert pool.counts() == {"arrived": 3}
    pool.begin(runs[:2])
    assert pool.counts() == {"arrived": 3, "started": 2}
    runs[0].over = True  # its outcome is not written yet
    assert pool.counts() == {"arrived": 3, "started": 2}
    pool.end(runs[:1])
    assert pool.counts() == {"arrived": 3, "started": 2, "finished": 1}


@pytest.mark.parametrize("verb", ["retried", "failed", "cancelled", "went_back"])
def test_what_else_a_run_comes_to_is_no_success(pool: Pool, verb: str) -> None:
    (run,) = pool.claim()
    pool.begin([run])
    getattr(pool.tally, verb)(run.task)
    assert "finished" not in pool.counts()
    pool.end([run])
    counted = {} if verb == "went_back" else {verb: 1}
    assert pool.counts() == {"arrived": 1, "started": 1} | counted


@pytest.mark.parametrize("cancelled", [True, False])
def test_a_task_that_no_worker_begins_is_no_run(pool: Pool, cancelled: bool) -> None:
    (run,) = pool.claim()
    pool.tally.unrun(run.task, cancelled=cancelled)
    pool.held.clear()
    assert pool.counts() == {"arrived": 1} | ({"cancelled": 1} if cancelled else {})


def test_lost_and_rescued_tasks_are_counted_beside_the_rest(pool: Pool) -> None:
    (run,) = pool.claim(attempt=2)
    pool.begin([run])
    pool.end([run])
    pool.tally.lost(run.task)
    pool.tally.rescued("common", "B")
    assert pool.counts() == {"started": 1, "finished": 1, "lost": 1}
    assert pool.counts("B") == {"rescued": 1}


def test_time_in_queue_is_by_the_backends_clock_up_to_the_claim_and_then_by_the_monotonic_one(pool: Pool) -> None:
    runs = pool.claim()
    pool.begin(runs, after=0.5)
    pool.end(runs, 3.0)
    row = pool.row()
    assert (row.queue_s, row.run_s) == (2.5, 3.0)
    assert (row.queue, row.run) == ({bucket(2.5): 1}, {bucket(3.0): 1})


def test_kinds_of_two_types_are_counted_apart(pool: Pool) -> None:
    for task_type in ("a", "b", "a"):
        runs = pool.claim(task_type=task_type)
        pool.begin(runs)
        pool.end(runs)
    assert [pool.row(task_type=task_type).finished for task_type in ("a", "b")] == [2, 1]


def test_beyond_so_many_kinds_they_are_counted_together(pool: Pool) -> None:
    for n in range(MOST_PAIRS + 5):
        runs = pool.claim(kind=f"kind {n}")
        pool.begin(runs)
        pool.end(runs)
    rows = pool.tally.totals(tuple)
    assert len(rows) == MOST_PAIRS + 1
    assert rows["common", OTHERS].finished == 5


def test_a_slow_kind_is_timed_run_by_run_and_a_fast_one_now_and_then(pool: Pool) -> None:
    def timed(count: int, kind: str) -> int:
        runs = pool.claim(count, kind)
        pool.held.clear()
        return sum(run.timing is not None for run in runs)

    assert timed(AT_FIRST, "slow") == AT_FIRST
    assert timed(100_000, "fast") < 0.005 * 100_000  # a burst: little of it is timed, though nobody expected it
    pool.tally.adapt()
    timed(TIMED - 1, "slow")
    pool.tally.adapt()
    assert timed(TIMED - 1, "slow") > 0.98 * TIMED
    pool.claim(100_000, "fast")
    pool.tally.adapt()
    assert TIMED * 0.9 < timed(100_000, "fast") < TIMED * 1.1


@pytest.mark.parametrize("shape", ["lognormal", "two kinds of runs", "periodic"])
def test_a_sample_says_what_all_runs_would(shape: str) -> None:
    """Of 60,000 runs in a minute: p50 within 4 %, p95 within 8 %, sums within 5 %, with this seed."""
    chance, pool, full = Random(7), Pool(), Pool()
    values = {
        "lognormal": lambda n: chance.lognormvariate(-5, 1),
        "two kinds of runs": lambda n: chance.uniform(0.001, 0.002) if chance.random() < 0.8 else 0.5,
        "periodic": lambda n: 0.001 + 0.01 * (n % 16 == 0),
    }[shape]
    every: list[float] = []
    histogram: dict[int, int] = {}
    for _ in range(12):
        taken = [values(n) for n in range(5_000)]
        every += taken
        runs = pool.claim(5_000)
        pool.held.clear()
        for run, seconds in zip(runs, taken, strict=True):
            if run.timing is not None or seconds >= LONG:
                pool.tally.timed(run, seconds)
        pool.tally.adapt()
    for seconds in every:
        histogram[bucket(seconds)] = histogram.get(bucket(seconds), 0) + 1
    row = pool.row()
    assert sum(row.run.values()) == pytest.approx(len(every), rel=0.05)
    assert row.run_s == pytest.approx(sum(every), rel=0.05)
    sampled, true = quantiles(row.run, (0.5, 0.95)), quantiles(histogram, (0.5, 0.95))
    assert sampled[0] == pytest.approx(true[0], rel=0.04)
    assert sampled[1] == pytest.approx(true[1], rel=0.08)
    assert full.row() == StatsRow()


def test_every_long_run_is_timed_even_of_a_fast_kind(pool: Pool) -> None:
    pool.claim(50_000)
    pool.tally.adapt()
    runs = pool.claim(500)
    untimed = [run for run in runs if run.timing is None]
    assert untimed
    for run in untimed[:3]:
        run.began = SENT
        pool.tally.timed(run, 60.0)
    assert pool.row().run[bucket(60.0)] == 3
    assert pool.row().run_s == 180.0


def test_totals_never_count_a_success_too_early(pool: Pool) -> None:
    """All goes on while they are read: here a run fails just after its pool was asked what it holds."""
    (run,) = pool.claim()
    pool.begin([run])

    def held() -> list[Run]:
        found = list(pool.held)
        pool.claim()  # not counted yet
        pool.tally.failed(run.task)
        return found

    row = pool.tally.totals(held)["common", "A"]
    assert (row.started, row.finished, row.failed) == (1, 0, 1)
