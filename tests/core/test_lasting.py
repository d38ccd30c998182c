"""Totals of a pool over its lives: none ever goes down."""

from fang_core.monitoring.history import StatsRow
from fang_core.monitoring.lasting import LastingTotals

PAIR, OTHER = ("common", "K"), ("common", "L")


def test_lives_are_added_up_and_a_count_that_was_too_high_stays() -> None:
    lasting, first, second = LastingTotals(), object(), object()
    assert lasting.with_life(None, {}) == {}
    assert lasting.with_life(first, {PAIR: StatsRow(started=3, finished=2, run={5: 2})})[PAIR].finished == 2
    found = lasting.with_life(first, {PAIR: StatsRow(started=4, finished=1, run={5: 3})})
    assert found == {PAIR: StatsRow(started=4, finished=2, run={5: 3})}
    found = lasting.with_life(second, {PAIR: StatsRow(started=1, run={7: 1}), OTHER: StatsRow(failed=1)})
    assert found == {PAIR: StatsRow(started=5, finished=2, run={5: 3, 7: 1}), OTHER: StatsRow(failed=1)}
    assert lasting.with_life(second, {})[PAIR].started == 5
