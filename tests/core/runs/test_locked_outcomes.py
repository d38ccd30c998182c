"""When outcomes are tried again whose tasks others have locked."""

from uuid import UUID

from fang_core.lifecycle import Outcome
from fang_core.runs.completion import MOST_IN_A_BATCH
from fang_core.runs.locked_outcomes import LockedOutcomes


def outcomes(*numbers: int) -> list[Outcome]:
    return [Outcome(UUID(int=number), 1, None) for number in numbers]


def tries(locked: LockedOutcomes, now: float, count: int) -> list[float]:
    """The seconds before each of the next ones, which find them locked again."""
    waits = []
    for _ in range(count):
        wait = locked.seconds(now)
        assert wait is not None
        assert not locked.due(now + wait * 0.99)
        now += wait
        waits.append(wait)
        for batch in locked.due(now):
            locked.put(batch, now, again=True)
    return waits


def test_they_are_tried_at_a_slower_and_slower_pace() -> None:
    locked = LockedOutcomes()
    assert (locked.seconds(7.0), locked.due(7.0), bool(locked)) == (None, [], False)
    locked.put(outcomes(1), 7.0, again=False)
    waits = tries(locked, 7.0, 9)
    assert 0.05 <= waits[0] <= 0.15
    assert 2.5 <= waits[-1] <= 7.5
    assert len(locked) == 1


def test_new_ones_begin_the_pace_anew_and_all_are_tried_together() -> None:
    locked = LockedOutcomes()
    locked.put(outcomes(1), 0.0, again=False)
    tries(locked, 0.0, 9)
    locked.put(outcomes(2), 100.0, again=False)
    (batch,) = locked.due(100.15)
    assert batch == outcomes(1, 2)
    assert (len(locked), locked.seconds(100.15)) == (0, None)


def test_who_waits_for_them_has_them_tried_at_once_and_once() -> None:
    locked = LockedOutcomes()
    locked.hasten()
    locked.put(outcomes(1), 0.0, again=False)
    assert not locked.due(0.0)
    locked.hasten()
    assert locked.seconds(0.0) == 0
    assert locked.due(0.0) == [outcomes(1)]
    locked.put(outcomes(1), 0.0, again=True)
    assert not locked.due(0.0)


def test_a_batch_is_of_bounded_size() -> None:
    locked = LockedOutcomes()
    locked.put(outcomes(*range(MOST_IN_A_BATCH + 1)), 0.0, again=False)
    assert [len(batch) for batch in locked.due(1.0)] == [MOST_IN_A_BATCH, 1]


def test_nothing_is_tried_after_the_end() -> None:
    locked = LockedOutcomes()
    assert not locked.will_be_tried(0.0)
    locked.put(outcomes(1), 0.0, again=False)
    assert locked.will_be_tried(1e9)
    locked.close_at = 0.01
    assert locked.will_be_tried(0.0)
    assert (locked.seconds(0.0), locked.seconds(9.0)) == (0.01, 0.0)
    assert not locked.will_be_tried(0.01)
