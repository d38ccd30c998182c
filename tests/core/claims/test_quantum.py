"""How many waiting tasks a pool expects of each key."""

from fang_core.backends.claims import QUANTUM
from fang_core.claims.quantum import ENOUGH, MOST_PATIENCE, PATIENCE, Quantum


def short(quantum: Quantum) -> int:
    quantum.claimed(taken=5, limit=10, is_short=True)
    return quantum.tasks


def full_claims_until_it_expects_more(quantum: Quantum) -> int:
    before, claims = quantum.tasks, 0
    while quantum.tasks == before:
        quantum.claimed(taken=10, limit=10, is_short=False)
        claims += 1
    assert quantum.tasks == 2 * before
    return claims


def test_it_expects_half_as_many_after_each_short_claim_and_one_at_least() -> None:
    quantum = Quantum()
    assert [quantum.tasks, *(short(quantum) for _ in range(4))] == [QUANTUM, 2, 1, 1, 1]


def test_full_claims_make_it_expect_more() -> None:
    quantum = Quantum()
    short(quantum)
    short(quantum)
    assert full_claims_until_it_expects_more(quantum) == PATIENCE
    assert full_claims_until_it_expects_more(quantum) == PATIENCE
    assert quantum.tasks == QUANTUM
    for _ in range(5 * PATIENCE):
        quantum.claimed(taken=10, limit=10, is_short=False)
    assert quantum.tasks == QUANTUM


def test_each_time_in_vain_makes_it_wait_twice_as_long_and_a_success_ends_that() -> None:
    quantum = Quantum()
    short(quantum)
    short(quantum)
    waits = []
    for _ in range(8):
        waits.append(full_claims_until_it_expects_more(quantum))
        short(quantum)
    assert waits == [min(MOST_PATIENCE, PATIENCE * 2**number) for number in range(8)]
    full_claims_until_it_expects_more(quantum)
    full_claims_until_it_expects_more(quantum)
    for _ in range(MOST_PATIENCE):  # it was right
        quantum.claimed(taken=10, limit=10, is_short=False)
    short(quantum)
    assert full_claims_until_it_expects_more(quantum) == PATIENCE


def test_a_claim_that_was_almost_filled_is_taken_as_it_is() -> None:
    quantum = Quantum()
    for _ in range(3):
        quantum.claimed(taken=round(ENOUGH * 100), limit=100, is_short=True)
    assert quantum.tasks == QUANTUM
    quantum.claimed(taken=round(ENOUGH * 100) - 1, limit=100, is_short=True)
    assert quantum.tasks == QUANTUM // 2


def test_claims_that_are_neither_full_nor_short_tell_nothing() -> None:
    quantum = Quantum()
    short(quantum)
    for _ in range(2 * PATIENCE):
        quantum.claimed(taken=5, limit=10, is_short=False)
    assert quantum.tasks == QUANTUM // 2
