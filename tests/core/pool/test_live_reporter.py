"""What a pool tells of itself: once a second if it has changed, and whatever its backend does."""

from uuid import UUID, uuid4

import pytest

from fang_core import BackendUnavailable, StatementRefused
from fang_core.backends.pools import MOST_LIVE, Live
from fang_core.claims.expiry import ClaimTime
from fang_core.claims.inflight import LONG, InFlight
from fang_core.config import RetentionMode
from fang_core.pool.identity import PoolIdentity
from fang_core.pool.telling.live_reporter import AGAIN_AFTER, EVERY, LiveReporter
from fang_core.record import LiveRun, Progress
from tests.core.pool.fakes import NOW, FakeRuntime, FakeStore, claim

RUN = LiveRun(UUID(int=101), "Claimed", 1.5, 1)


class LiveStore(FakeStore):
    async def tell_live(self, pool_id: UUID, live: Live, /) -> None:
        await self._answer(None, "tell_live", pool_id, live)

    @property
    def told(self) -> list[Live]:
        return [live for _, _, live in self.calls]


class Bench:
    def __init__(self, runtime: FakeRuntime) -> None:
        self.runtime = runtime
        self.store = LiveStore(runtime)
        self.identity = PoolIdentity()
        self.live = Live()
        self.reporter = LiveReporter(
            runtime,
            self.store,  # type: ignore[arg-type]
            self.identity,
            lambda now: self.live,
        )
        self.reporter.start()
        runtime.settle()


@pytest.fixture
def bench(runtime: FakeRuntime) -> Bench:
    return Bench(runtime)


def test_it_writes_when_something_has_changed_and_now_and_then(bench: Bench) -> None:
    assert bench.store.told == []  # a pool that drains for a moment writes nothing
    bench.runtime.advance(EVERY)
    assert bench.store.told == [Live()]
    bench.runtime.advance(AGAIN_AFTER - EVERY)
    assert len(bench.store.calls) == 1
    bench.runtime.advance(EVERY)
    assert len(bench.store.calls) == 2
    bench.live = Live(1, 0, (RUN,))
    bench.runtime.advance(EVERY)
    assert bench.store.told[2:] == [bench.live]
    bench.live = Live(1, 0, (RUN._replace(seconds=2.5),))  # which readers know
    bench.runtime.advance(EVERY)
    assert len(bench.store.calls) == 3
    bench.live = Live(1, 0, (RUN._replace(seconds=3.5, progress=Progress(1)),))
    bench.runtime.advance(EVERY)
    assert bench.store.told[3:] == [bench.live]
    bench.identity.id = uuid4()  # it was taken for dead
    bench.runtime.advance(EVERY)
    assert bench.store.calls[-1][1] == bench.identity.id


@pytest.mark.parametrize("error", [BackendUnavailable("away"), ValueError("nobody expected this")])
def test_it_goes_on_after_errors(bench: Bench, error: Exception) -> None:
    bench.runtime.advance(EVERY)
    bench.live = Live(1, 0)
    bench.store.fail("tell_live", error)
    bench.runtime.advance(EVERY)
    bench.runtime.advance(AGAIN_AFTER)
    assert bench.store.told[1:] == [bench.live, bench.live]
    bench.runtime.call(bench.reporter.close(1.0))
    assert bench.runtime.serving == []


def test_a_text_that_the_database_cannot_hold_is_left_out(bench: Bench) -> None:
    bench.runtime.advance(EVERY)
    bench.live = Live(1, 0, (RUN._replace(progress=Progress(1, 2, "é")),))
    bench.store.fail("tell_live", StatementRefused("no é"))
    bench.runtime.advance(EVERY)
    bare = Live(1, 0, (RUN._replace(progress=Progress(1, 2)),))
    assert bench.store.told[1:] == [bench.live, bare]


def test_of_what_is_held_the_longest_runs_are_told() -> None:
    in_flight = InFlight(RetentionMode.REMOVE_FINISHED, lambda: False, 1)
    pool_id, claimed = uuid4(), ClaimTime(NOW, 0.0)
    runs = in_flight.take(claim(*range(MOST_LIVE + 6)).tasks, pool_id, claimed).ready
    waiting, over, short, *long = runs
    for n, run in enumerate(long):
        run.began = 190.0 - n
    short.began, over.began, over.over = 200.0, 50.0, True
    live = in_flight.live(200.0 + LONG / 2)
    assert (live.busy, live.waiting) == (len(long) + 1, 1)
    assert [run.id for run in live.runs] == [run.task.id for run in reversed(long)][:MOST_LIVE]
    assert live.runs[0].seconds == 200.0 + LONG / 2 - long[-1].began
    assert waiting.task.id not in {run.id for run in live.runs}
