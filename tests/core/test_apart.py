"""When outcomes are tried again whose tasks others have locked."""

from uuid import UUID

from fang_core.apart import Apart
from fang_core.completion import MOST_IN_A_BATCH
from fang_core.lifecycle import Outcome


def outcomes(*numbers: int) -> list[Outcome]:
    return [Outcome(UUID(int=number), 1, None) for number in numbers]


def tries(apart: Apart, now: float, count: int) -> list[float]:
    """The seconds before each of the next ones, which find them locked again."""
    waits = []
    for _ in range(count):
        wait = apart.seconds(now)
        assert wait is not None
        assert not apart.due(now + wait * 0.99)
        now += wait
        waits.append(wait)
        for batch in apart.due(now):
            apart.put(batch, now, again=True)
    return waits


def test_they_are_tried_at_a_slower_and_slower_pace() -> None:
    apart = Apart()
    assert (apart.seconds(7.0), apart.due(7.0), bool(apart)) == (None, [], False)
    apart.put(outcomes(1), 7.0, again=False)
    waits = tries(apart, 7.0, 9)
    assert 0.05 <= waits[0] <= 0.15
    assert 2.5 <= waits[-1] <= 7.5
    assert len(apart) == 1


def test_new_ones_begin_the_pace_anew_and_all_are_tried_together() -> None:
    apart = Apart()
    apart.put(outcomes(1), 0.0, again=False)
    tries(apart, 0.0, 9)
    apart.put(outcomes(2), 100.0, again=False)
    (batch,) = apart.due(100.15)
    assert batch == outcomes(1, 2)
    assert (len(apart), apart.seconds(100.15)) == (0, None)


def test_who_waits_for_them_has_them_tried_at_once_and_once() -> None:
    apart = Apart()
    apart.hasten()
    apart.put(outcomes(1), 0.0, again=False)
    assert not apart.due(0.0)
    apart.hasten()
    assert apart.seconds(0.0) == 0
    assert apart.due(0.0) == [outcomes(1)]
    apart.put(outcomes(1), 0.0, again=True)
    assert not apart.due(0.0)


def test_a_batch_is_of_bounded_size() -> None:
    apart = Apart()
    apart.put(outcomes(*range(MOST_IN_A_BATCH + 1)), 0.0, again=False)
    assert [len(batch) for batch in apart.due(1.0)] == [MOST_IN_A_BATCH, 1]


def test_nothing_is_tried_after_the_end() -> None:
    apart = Apart()
    assert not apart.will_be_tried(0.0)
    apart.put(outcomes(1), 0.0, again=False)
    assert apart.will_be_tried(1e9)
    apart.close_at = 0.01
    assert apart.will_be_tried(0.0)
    assert (apart.seconds(0.0), apart.seconds(9.0)) == (0.01, 0.0)
    assert not apart.will_be_tried(0.01)
