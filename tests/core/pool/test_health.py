"""Whether a pool lives and is ready, in a time that the test decides: the rule, and a lifetime that goes through it."""

from dataclasses import replace

import pytest

from fang_core import BackendUnavailable
from fang_core.pool.telling.health import CLAIM_LATE, HEART_LATE, LOOP_LATE, Vitals, health
from tests.core.pool.fakes import FakeRuntime
from tests.core.pool.test_lifetime import Pool

WELL = Vitals(heart=1.0, loop=0.0, cut_off=False, stopping=False, claims=3, failing=None, claiming=None)


@pytest.mark.parametrize(
    ("vitals", "live", "reason"),
    [
        (WELL, True, ""),
        (replace(WELL, claiming=CLAIM_LATE), True, ""),
        (replace(WELL, heart=HEART_LATE + 1), False, "its heart has not tried to beat for 31 s"),
        (replace(WELL, loop=LOOP_LATE + 1), False, "its event loop has been blocked for 16 s"),
        (replace(WELL, stopping=True, failing=9.0), True, "it stops"),
        (replace(WELL, failing=9.0, cut_off=True), True, "it could not claim for 9 s"),
        (replace(WELL, cut_off=True), True, "the database does not answer its heart"),
        (replace(WELL, claiming=CLAIM_LATE + 1), True, "its claim has had no answer for 31 s"),
        (replace(WELL, claims=0), True, "it has not claimed yet"),
    ],
)
def test_the_rule(vitals: Vitals, live: bool, reason: str) -> None:
    found = health(vitals)
    assert (found.live, found.ready) == (live, not reason)
    assert found.reason.startswith(reason)


@pytest.fixture
def pool(runtime: FakeRuntime) -> Pool:
    return Pool(runtime)


def test_an_idle_pool_stays_ready_and_one_that_stops_is_not(pool: Pool) -> None:
    pool.runtime.call(pool.lifetime.register())
    assert pool.lifetime.health().reason == "it has not claimed yet"
    pool.runtime.call(pool.lifetime.start())
    pool.runtime.settle()
    for _ in range(100):
        assert pool.lifetime.health().ready
        pool.runtime.advance(1.0)
    pool.stop()
    assert pool.lifetime.health().reason == "it stops"


def test_a_pool_whose_workers_are_busy_for_long_is_ready(pool: Pool) -> None:
    pool.start_with(1, 2, 3, 4, 5, 6, 7, 8)
    pool.workers.take()
    pool.workers.take()
    for _ in range(100):
        pool.runtime.advance(1.0)
        assert pool.lifetime.health().ready


def test_a_pool_whose_claims_fail_lives_and_is_ready_again_when_they_are_answered(pool: Pool) -> None:
    pool.start()
    pool.store.fail("claim", BackendUnavailable("away"), times=3)
    reasons = set()
    for _ in range(200):
        pool.runtime.advance(0.1)
        found = pool.lifetime.health()
        assert found.live
        reasons.add(found.reason.partition(" for ")[0])
    assert reasons == {"", "it could not claim"}
    assert pool.lifetime.health().ready
