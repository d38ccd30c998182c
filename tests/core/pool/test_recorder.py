"""The service that writes a pool's history: when it writes what, and that nothing it meets ends it."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from fang_core import BackendUnavailable
from fang_core.claims.expiry import ClaimTime
from fang_core.monitoring.history import POOL, Flush, Flushed, StatsRow, minute_of
from fang_core.monitoring.tally import Tally
from fang_core.pool.telling.recorder import IDLE, Recorder
from fang_core.runs.run import Run
from tests.core.pool.fakes import NOW, FakeRuntime, FakeStore, claim

PAIR = ("common", "Claimed")


class HistoryStore(FakeStore):
    def __init__(self, runtime: FakeRuntime) -> None:
        super().__init__(runtime)
        self.began = runtime.now
        self.rows: dict[tuple[datetime, tuple[str, str]], StatsRow] = {}

    async def tell_time(self) -> datetime:
        await self._answer(None, "tell_time")
        return NOW + timedelta(seconds=self._runtime.now - self.began)

    async def flush_stats(self, writer: UUID, flush: Flush, /) -> Flushed:
        self.rows.update({(flush.minute, pair): row for pair, row in flush.rows.items()})
        await self._answer(None, "flush_stats", writer)
        return Flushed(NOW + timedelta(seconds=self._runtime.now - self.began), True)

    async def fold_stats(self, *_: Any) -> int:
        raise AssertionError

    def total(self, field: str, pair: tuple[str, str] = PAIR) -> float:
        return sum(getattr(row, field) for (_, of), row in self.rows.items() if of == pair)


class Pool:
    def __init__(self, runtime: FakeRuntime) -> None:
        self.runtime = runtime
        self.store = HistoryStore(runtime)
        self.tally = Tally()
        self.held: list[Run] = []
        self.recorder = Recorder(runtime, self.store, self.tally, lambda: tuple(self.held), lambda: 4)
        self.recorder.start()
        runtime.settle()

    def run(self, *numbers: int) -> None:
        """Claims tasks, and runs each for half a second."""
        runs = [Run(task, UUID(int=1)) for task in claim(*numbers).tasks]
        self.tally.claimed(runs, NOW, self.runtime.now)
        for run in runs:
            run.began = self.runtime.now
            self.tally.timed(run, 0.5)

    def flushes(self) -> int:
        return len(self.store.called("flush_stats"))


@pytest.fixture
def pool(runtime: FakeRuntime) -> Pool:
    return Pool(runtime)


def test_it_writes_every_few_seconds_while_there_is_something_new(pool: Pool) -> None:
    for n in range(4):
        pool.run(n)
        pool.runtime.advance(6.0)
    assert pool.flushes() == 4
    assert pool.store.total("finished") == 4
    assert len({writer for _, writer in pool.store.called("flush_stats")}) == 1


def test_an_idle_pool_tells_of_its_workers_once_a_minute(pool: Pool) -> None:
    pool.runtime.advance(10 * IDLE)
    assert pool.flushes() <= 10
    assert pool.store.total("worker_s", POOL) == pytest.approx(4 * 10 * IDLE, rel=0.15)
    assert pool.store.total("run_s", POOL) == 0.0


def test_workers_count_as_busy_while_their_run_goes_on(runtime: FakeRuntime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.uniform", lambda low, high: 1.0)  # with others the last flush may come after the end
    pool = Pool(runtime)
    (run,) = [Run(task, UUID(int=1)) for task in claim(1).tasks]
    pool.tally.claimed([run], NOW, pool.runtime.now)
    pool.held.append(run)
    run.began = pool.runtime.now
    pool.runtime.advance(62.0)
    assert pool.store.total("run_s", POOL) == pytest.approx(60.0, abs=6.0)
    assert (pool.store.total("started"), pool.store.total("finished")) == (1, 0)


def test_the_end_writes_what_is_left(pool: Pool) -> None:
    pool.run(1, 2)
    pool.runtime.call(pool.recorder.close(1.0))
    assert pool.store.total("finished") == 2
    pool.runtime.advance(100.0)
    assert pool.flushes() == 1


def test_a_pool_that_found_nothing_to_do_writes_nothing(pool: Pool) -> None:
    pool.runtime.call(pool.recorder.close(1.0))
    assert pool.store.verbs == []


@pytest.mark.parametrize("verb", ["tell_time", "flush_stats"])
@pytest.mark.parametrize("error", [BackendUnavailable("away"), ValueError("nobody expected this")])
def test_no_error_ends_it_and_nothing_is_lost_or_doubled(
    pool: Pool, caplog: pytest.LogCaptureFixture, verb: str, error: Exception
) -> None:
    for _ in range(3):
        pool.store.fail(verb, error)
    pool.run(1, 2)
    pool.runtime.advance(100.0)
    pool.run(3)
    pool.runtime.advance(10.0)
    assert pool.store.total("finished") == 3
    assert [record.exc_info is not None for record in caplog.records] == [isinstance(error, ValueError), False]
    assert "the pool's history is written again" in caplog.messages[-1]


def test_a_backend_that_does_not_answer_holds_up_no_end(pool: Pool, caplog: pytest.LogCaptureFixture) -> None:
    pool.run(1)
    pool.store.reply("flush_stats", pool.runtime.event())
    closing = pool.runtime.begin(pool.recorder.close(1.0))
    pool.runtime.advance(1.0)
    assert closing.has_ended
    assert caplog.messages == ["the last seconds of the pool's history were not written in time"]


def test_a_claim_tells_the_time_so_that_nobody_is_asked(runtime: FakeRuntime) -> None:
    store, tally = HistoryStore(runtime), Tally()
    recorder = Recorder(runtime, store, tally, tuple, lambda: 4, claimed=lambda: ClaimTime(NOW, runtime.now - 120.0))
    recorder.start()
    runtime.settle()
    tally.rescued(*PAIR)
    recorder.end()
    runtime.call(recorder.close(1.0))
    assert store.verbs == ["flush_stats"]
    assert {minute for minute, _ in store.rows} == {minute_of(NOW + timedelta(seconds=120))}
