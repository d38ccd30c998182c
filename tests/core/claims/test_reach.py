"""At how many keys of a managed type a pool's claims look."""

from fang_core.backends.claims import MOST_LANES
from fang_core.claims.reach import FEWEST, LITTLE, PATIENCE, Reach


def after(reach: Reach, *taken: int, limit: int = 10) -> list[int]:
    """Returns how many keys it looks at after each of these claims."""
    keys = []
    for each in taken:
        reach.claimed(taken=each, limit=limit)
        keys.append(reach.keys(limit))
    return keys


def test_it_looks_at_half_as_many_keys_after_each_claim_that_was_not_filled() -> None:
    assert after(Reach(), 9, 3, 9, 9, 9) == [MOST_LANES // 2, MOST_LANES // 4, MOST_LANES // 8, FEWEST, FEWEST]


def test_where_claims_find_little_it_comes_to_look_at_many() -> None:
    few = round(LITTLE * 40) - 1
    assert set(after(Reach(), few, few, few, limit=40)) == {MOST_LANES}
    reach = Reach()
    after(reach, 9, 9, 9, 9)
    assert after(reach, few, 0, 1, 0, few, 0, 1, limit=40)[::2] == [FEWEST, 2 * FEWEST, 4 * FEWEST, 8 * FEWEST]


def test_it_looks_at_twice_as_many_after_each_claim_in_vain() -> None:
    reach = Reach()
    after(reach, 9, 9, 9, 9)
    assert after(reach, 0, 0, 0, 0, 0) == [2 * FEWEST, 4 * FEWEST, 8 * FEWEST, MOST_LANES, MOST_LANES]


def test_it_looks_at_more_after_many_full_claims_in_a_row() -> None:
    reach = Reach()
    after(reach, 9, 9, 9, 9)
    almost = [10] * (PATIENCE - 1)
    assert set(after(reach, *almost, 9, *almost)) == {FEWEST}
    assert after(reach, 10, *almost, 10)[::PATIENCE] == [2 * FEWEST, 4 * FEWEST]


def test_it_looks_at_enough_keys_for_all_tasks_that_a_claim_asks_for() -> None:
    reach = Reach()
    after(reach, 9, 9, 9, 9)
    assert [reach.keys(limit) for limit in (1, 300, 1_200)] == [FEWEST, 300, MOST_LANES]
