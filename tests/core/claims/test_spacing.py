"""Where a pool's next claim begins if other pools claim from the same keys."""

from hypothesis import given
from hypothesis import strategies as st

from fang_core.claims.spacing import EVERY, MANY, Spacing


def claims(spacing: Spacing, locked: list[int], *, at: int = 0, keys: int = 10) -> list[int]:
    """Returns where the claims after each of these begin, as numbers of keys; each passes ten keys."""
    begins = []
    for each in locked:
        at = int(spacing.after(str(at), str(at + keys), locked=each))
        begins.append(at)
    return begins


def test_a_claim_goes_on_behind_the_last_key() -> None:
    assert claims(Spacing(), [0] * 6) == [10, 20, 30, 40, 50, 60]
    assert claims(Spacing(), [MANY - 1] * 6) == [10, 20, 30, 40, 50, 60]


def test_after_one_that_passed_many_locked_keys_a_pool_goes_back_by_two_claims() -> None:
    assert claims(Spacing(), [0, 0, 0, 0, 0, MANY, 0]) == [10, 20, 30, 40, 50, 40, 50]


@given(st.lists(st.integers(0, 2 * MANY), min_size=40, max_size=40))
def test_it_comes_round_all_keys_in_twice_as_many_claims_whatever_the_others_lock(locked: list[int]) -> None:
    assert max(claims(Spacing(), locked)) >= 10 * 40 / 2 - 10
    assert claims(Spacing(), [MANY] * 2 * EVERY) == [10, 20, 30, 20, 30, 40, 50, 40]
