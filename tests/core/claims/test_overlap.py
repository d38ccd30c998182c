"""When a pool claims for workers that still have a run."""

from math import ceil

from hypothesis import example, given
from hypothesis import strategies as st

from fang_core.claims.overlap import FASTER, PROOFS, SHARE, Overlap

CLAIM = 0.004
"""Seconds that a claim takes."""

WORKERS = 10


def answered(
    overlap: Overlap,
    brought: int = WORKERS,
    *,
    idle: int = WORKERS,
    asked: int = WORKERS,
    run: float = CLAIM / FASTER,
    mono: float = 0.0,
) -> bool:
    return overlap.answered(asked=asked, brought=brought, idle_workers=idle, seconds=CLAIM, run_seconds=run, mono=mono)


def proved() -> Overlap:
    overlap = Overlap()
    assert [answered(overlap) for _ in range(PROOFS)] == [False] * (PROOFS - 1) + [True]
    return overlap


def answers_until_it_overlaps(overlap: Overlap) -> int:
    return next(number for number in range(1, 1_000) if answered(overlap))


def test_a_pool_whose_runs_have_ended_at_several_answers_claims_for_their_workers() -> None:
    overlap = proved()
    assert overlap.ending(0, CLAIM / 2) == WORKERS
    assert overlap.ending(4, CLAIM / 2) == WORKERS - 4
    assert overlap.ending(WORKERS + 1, CLAIM / 2) == 0


def test_it_expects_nothing_before_it_has_proofs() -> None:
    overlap = Overlap()
    answered(overlap)
    assert overlap.ending(0, 0.0) == 0


def test_runs_that_have_not_ended_in_the_time_of_a_claim_are_not_taken_to_end() -> None:
    assert proved().ending(0, CLAIM) == 0


def test_workers_that_got_other_tasks_are_not_taken_to_be_idle() -> None:
    overlap = proved()
    overlap.forget()
    assert overlap.ending(0, 0.0) == 0
    assert answered(overlap, idle=3, brought=3, asked=3)
    assert overlap.ending(0, 0.0) == 3


def test_runs_that_take_a_while_are_waited_for() -> None:
    overlap = proved()
    assert not answered(overlap, run=CLAIM)
    assert overlap.ending(0, 0.0) == 0
    assert answered(overlap)  # nothing has spoken against it


def test_a_claim_that_brought_less_than_was_asked_for_is_followed_by_none_at_once() -> None:
    overlap = proved()
    assert not answered(overlap, WORKERS - 1)
    assert overlap.ending(0, 0.0) == 0


def test_busy_workers_at_an_answer_take_all_proofs() -> None:
    overlap = proved()
    assert not answered(overlap, 2, asked=2, idle=WORKERS - 1)
    assert answers_until_it_overlaps(overlap) == PROOFS


def test_tasks_that_came_before_their_workers_make_it_take_twice_as_long_each_time_and_successes_less() -> None:
    overlap = proved()
    for times in (2, 4, 8, 16, 32):
        assert not answered(overlap, idle=0)
        assert answers_until_it_overlaps(overlap) == max(times * PROOFS, SHARE)
    for _ in range(16 * PROOFS):
        assert answered(overlap)
    assert not answered(overlap, idle=0)
    assert answers_until_it_overlaps(overlap) == 32 * PROOFS


def test_only_claims_that_were_sent_before_the_runs_ended_count_as_successes() -> None:
    overlap = proved()
    for _ in range(5):
        assert not answered(overlap, idle=0)
        answers_until_it_overlaps(overlap)
    for _ in range(50 * PROOFS):
        assert not answered(overlap, run=CLAIM)
    assert answered(overlap)
    assert not answered(overlap, idle=0)
    assert answers_until_it_overlaps(overlap) == 2 * (32 * PROOFS - 1)  # one of the slow ones had been sent before


def test_single_tasks_allow_no_large_claim_to_go_back() -> None:
    overlap = proved()
    assert not answered(overlap, idle=0)
    for _ in range(2 * WORKERS * SHARE):
        answered(overlap, 1)
    assert answers_until_it_overlaps(overlap) == ceil((WORKERS - 1) * SHARE / WORKERS)


@given(st.lists(st.tuples(st.integers(1, WORKERS), st.booleans()), max_size=500))
@example([*[(1, True)] * 13, (WORKERS, True), (WORKERS, False), *[(1, True)] * 40, (WORKERS, True), (WORKERS, False)])
def test_few_tasks_go_back_whatever_runs_do(claims: list[tuple[int, bool]]) -> None:
    overlap, overlaps, before, in_all, went_back = Overlap(), False, 0, 0, 0
    for brought, runs_have_ended in claims:
        idle = WORKERS if runs_have_ended or not overlaps else WORKERS - before
        overlaps = answered(overlap, brought, asked=brought, idle=idle)
        before, in_all, went_back = min(brought, idle), in_all + brought, went_back + max(0, brought - idle)
        assert went_back <= WORKERS + in_all / SHARE


def test_claims_that_bring_nothing_prove_nothing() -> None:
    overlap = Overlap()
    for _ in range(PROOFS):
        answered(overlap, 0)
    assert not answered(overlap)
