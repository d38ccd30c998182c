"""Schedules in the database while its clock jumps: each tick once, no more than their window at once, none left out."""

from collections import Counter
from datetime import datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fang_core import Overlap
from fang_core.backends.ticking import READ_AGAIN_AFTER, Timetable
from tests.core.backends.test_stored_ticking import MINUTE, NOON, RULES, World, minutes

steps = st.lists(
    st.tuples(st.integers(0, 1), st.floats(0, 90), st.sampled_from([0.0, 0.0, 0.0, -50.0, 0.001, 300.0])), max_size=40
)
policies = st.fixed_dictionaries(
    {"missed": st.sampled_from(["skip", "latest", "all"]), "overlap": st.sampled_from(Overlap)}
)


@given(steps, policies)
def test_two_pools_make_each_tick_once_whatever_the_clock_does(
    steps: list[tuple[int, float, float]], policy: dict[str, Any]
) -> None:
    """The tasks end as soon as they are inserted, and are forgotten: only the schedule's row knows of the tick."""
    world = World()
    world.put(every=timedelta(seconds=7), **policy)
    world.tables.append(Timetable(("stored",), RULES))
    made: Counter[datetime] = Counter()
    for pool, elapsed, jump in steps:
        world.passes(seconds=elapsed)
        world.now += timedelta(seconds=jump)
        for at, verdict in world.turn(world.tables[pool]):
            made[at] += verdict == "ticked"
            assert at <= world.now or verdict == "stale"
        world.state.tasks.clear()
        assert 0 <= world.tables[pool].seconds_until_next(world.mono) <= READ_AGAIN_AFTER + 1e-6
    assert set(made.values()) <= {0, 1}


far_steps = st.lists(
    st.tuples(
        st.integers(0, 1),
        st.floats(0, 90),
        st.sampled_from([0.0, 0.0, -50.0, 3_600.0, -3_600.0, 864_000.0, -864_000.0]),
    ),
    max_size=40,
)
timings = st.sampled_from([{"every": timedelta(seconds=7)}, {"cron": "*/10 * * * * *"}, {"cron": "*/5 * * * *"}])
LONGEST_PERIOD = 5 * MINUTE
WINDOW = timedelta(seconds=60)


@given(far_steps, timings, st.sampled_from([None, timedelta(seconds=3)]), policies)
def test_after_jumps_of_days_it_makes_up_for_no_more_than_its_window_and_ticks_again_where_it_was_before(
    steps: list[tuple[int, float, float]], timing: dict[str, Any], jitter: timedelta | None, policy: dict[str, Any]
) -> None:
    """A schedule waits until the clock shows a time that it has not shown yet, and for the next tick then."""
    world = World()
    within = {} if policy["missed"] == "latest" else {"missed_within": WINDOW}
    world.put(**timing, jitter=jitter, **policy, **within)
    world.tables.append(Timetable(("stored",), RULES))
    made: Counter[datetime] = Counter()

    def turn(table: Timetable) -> bool:
        """Whether the schedule has ticked."""
        asked = world.turn(table)
        ticks = [at for at, verdict in asked if verdict == "ticked"]
        made.update(ticks)
        assert len(asked) <= WINDOW // timedelta(seconds=7) + 1
        assert all(at <= world.now and (not within or world.now - at <= WINDOW) for at in ticks)
        world.state.tasks.clear()
        return bool(ticks)

    furthest = world.now
    for pool, elapsed, jump in steps:
        world.passes(seconds=elapsed)
        furthest = max(furthest, world.now)
        world.now += timedelta(seconds=jump)
        furthest = max(furthest, world.now)
        turn(world.tables[pool])
    world.passes(seconds=max(0.0, (furthest - world.now).total_seconds()))
    while not turn(world.tables[0]):
        seconds = world.tables[0].seconds_until_next(world.mono)
        assert 0 < seconds <= READ_AGAIN_AFTER + 1e-6
        world.passes(seconds=seconds)
        assert world.now <= furthest + LONGEST_PERIOD + timedelta(seconds=READ_AGAIN_AFTER)
    assert set(made.values()) == {1}


def test_a_single_time_that_a_jump_has_passed_ticks_once() -> None:
    world = World()
    world.put(at=NOON + 30 * MINUTE)
    made = []
    for jump in (60, -60, 0, 60 * 24 * 10, -60 * 24 * 10):
        world.now += jump * MINUTE
        world.passes(minutes=10)
        made += world.ticks()
    assert made == minutes(30)
