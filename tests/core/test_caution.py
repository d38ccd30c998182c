"""How a pool claims where suspects are about: few at once, none that waits for ever, and no pool that stands still."""

import uuid
from datetime import UTC, datetime
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fang_core import caution as cautions
from fang_core.caution import ABSTAINS, FIRST_WAIT, REMEMBERED, Caution
from fang_core.demand import MOST
from fang_core.lifecycle import SUSPECT_AFTER, is_suspect
from fang_core.record import ClaimedTask
from fang_core.store import Claim, ClaimRequest

POOL = uuid.UUID(int=99)
DUE = datetime(2026, 1, 1, tzinfo=UTC)


def task(number: int, *, crashes: int = 0) -> ClaimedTask:
    return ClaimedTask(uuid.UUID(int=number), "K", "{}", 1, 0, 20, crashes, "common", 0, DUE)


def suspect(number: int = 1) -> ClaimedTask:
    return task(number, crashes=SUSPECT_AFTER)


def claim(caution: Caution, tasks: list[ClaimedTask], *, mono: float = 0.0, suspects: bool = True) -> None:
    request = ClaimRequest(POOL, ("common",), ("K",), 50, suspects=suspects)
    caution.claimed(request, Claim(tasks, DUE, "", registered=True), mono=mono)


def wait_in_vain(caution: Caution, number: int = 1, *, mono: float = 0.0) -> float:
    """How long the suspect waited."""
    claim(caution, [suspect(number)], mono=mono)
    seconds = caution.until_over(mono)
    assert not caution.is_over(mono + seconds - 0.001)
    assert caution.is_over(mono + seconds)
    assert caution.went_back(mono + seconds) == ABSTAINS * seconds
    return seconds


# How many -------------------------------------------------------------------------------------------------------------


def test_claims_after_a_suspect_are_small_and_double_until_the_usual_size() -> None:
    caution = Caution()
    assert caution.limit(MOST) == MOST
    claim(caution, [task(2), suspect(), task(3)])
    limits = []
    for _ in range(12):
        limits.append(caution.limit(MOST))
        claim(caution, [task(4)])
    assert limits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, MOST, MOST]


def test_a_claim_that_leaves_suspects_out_says_nothing_of_them() -> None:
    caution = Caution()
    claim(caution, [suspect()])
    claim(caution, [task(2)], suspects=False)
    assert caution.limit(MOST) == 1


@given(st.lists(st.booleans(), max_size=300), st.integers(1, 100))
def test_whatever_the_order_a_task_is_claimed_twice_on_average_at_most(suspects: list[bool], wanted: int) -> None:
    """Runs end at once here, so every task of the queue is there for the next claim but the ones that ran."""
    caution = Caution()
    queue = [task(n, crashes=SUSPECT_AFTER if is_one else 0) for n, is_one in enumerate(suspects)]
    claimed = 0
    while queue:
        brought = queue[: caution.limit(wanted)]
        claimed += len(brought)
        claim(caution, brought)
        first = next((place for place, each in enumerate(brought) if is_suspect(each)), len(brought))
        caution.began()
        queue = queue[first + 1 :]  # what stands behind a suspect goes back
    assert claimed <= 2 * len(suspects) + wanted


def test_a_suspect_and_an_innocent_by_turns_cost_three_claims_of_a_row() -> None:
    caution = Caution()
    claim(caution, [suspect()])
    for number in range(2, 22, 2):
        assert caution.limit(50) == 1
        claim(caution, [task(number)])
        assert caution.limit(50) == 2
        claim(caution, [suspect(number + 1), task(number + 2)])


# How long it waits ----------------------------------------------------------------------------------------------------


def test_a_suspect_goes_back_and_none_is_claimed_for_ten_times_as_long_as_it_waited() -> None:
    caution = Caution()
    assert wait_in_vain(caution) == FIRST_WAIT
    ends = FIRST_WAIT * (1 + ABSTAINS)
    assert caution.abstains
    assert caution.until_allowed(ends - 2.0) == 2.0
    assert not caution.allows(is_idle=False, has_apart=False, mono=ends - 0.001)
    assert caution.allows(is_idle=False, has_apart=False, mono=ends)
    assert not caution.abstains
    assert (caution.until_allowed(ends), caution.until_over(ends)) == (inf, inf)


def test_an_idle_pool_claims_suspects_at_once() -> None:
    caution = Caution()
    wait_in_vain(caution)
    assert caution.allows(is_idle=True, has_apart=False, mono=FIRST_WAIT)
    assert caution.allows(is_idle=False, has_apart=False, mono=FIRST_WAIT)


def test_beside_what_others_have_locked_no_suspect_is_claimed_and_at_once_when_it_is_written() -> None:
    caution = Caution()
    assert not caution.allows(is_idle=False, has_apart=True, mono=0.0)
    assert caution.abstains
    assert caution.until_allowed(0.0) == inf
    assert caution.allows(is_idle=False, has_apart=False, mono=0.0)
    assert not caution.abstains


def test_what_was_locked_ends_no_abstention() -> None:
    caution = Caution()
    wait_in_vain(caution)
    assert not caution.allows(is_idle=False, has_apart=True, mono=FIRST_WAIT)
    assert not caution.allows(is_idle=False, has_apart=False, mono=FIRST_WAIT + 1)
    assert caution.until_allowed(FIRST_WAIT + 1) == ABSTAINS * FIRST_WAIT - 1


def test_each_further_wait_is_twice_as_long_until_the_suspect_has_run() -> None:
    caution = Caution()
    assert [wait_in_vain(caution) for _ in range(4)] == [5, 10, 20, 40]
    claim(caution, [suspect()])
    caution.began()
    assert wait_in_vain(caution) == 5


def test_suspects_that_come_by_turns_each_wait_longer() -> None:
    """As where several pools have them in turn: if one forgot the other, both would wait for the same time for ever."""
    caution = Caution()
    assert [wait_in_vain(caution, number) for number in (1, 2, 1, 2, 3)] == [5, 5, 10, 10, 5]


def test_what_is_remembered_is_bounded() -> None:
    caution = Caution()
    for number in range(REMEMBERED + 1):
        wait_in_vain(caution, number)
    assert [wait_in_vain(caution, number) for number in (REMEMBERED, 0)] == [10, 5]


def test_no_suspect_waits_where_it_has_begun_or_none_was_claimed() -> None:
    caution = Caution()
    assert (caution.is_over(1e9), caution.until_over(0.0)) == (False, inf)
    claim(caution, [suspect()])
    caution.began()
    caution.began()
    assert (caution.is_over(1e9), caution.until_over(0.0)) == (False, inf)


class Busy:
    """A pool that never lacks work, with a suspect that is due from the start; runs last for what is given, in turn."""

    def __init__(self, lengths: list[float], workers: int) -> None:
        self._lengths, self._number, self._workers = lengths, 0, workers
        self._caution = Caution()
        self.mono = 0.0
        self.in_vain = 0.0  # seconds for which it stood still for nothing
        self.waits = 0
        self._ends: list[float] = []
        self._fill()

    def run(self) -> None:
        """Until the suspect runs."""
        while not self._suspect_runs():
            self._fill()
            self.mono = min(self._ends)
            self._ends = [end for end in self._ends if end > self.mono]

    def _fill(self) -> None:
        while len(self._ends) < self._workers:
            self._ends.append(self.mono + self._lengths[self._number % len(self._lengths)])
            self._number += 1

    def _suspect_runs(self) -> bool:
        is_idle, has_room = not self._ends, len(self._ends) < self._workers
        if not has_room or not self._caution.allows(is_idle=is_idle, has_apart=False, mono=self.mono):
            return False
        claim(self._caution, [suspect()], mono=self.mono)
        over = self.mono + self._caution.until_over(self.mono)
        alone = max(self._ends, default=self.mono)
        if alone <= over:
            self.mono = alone
            return True
        self.in_vain += over - self.mono
        self.waits += 1
        self._caution.went_back(over)
        self.mono = over
        self._ends = [end for end in self._ends if end > over]
        return False


LENGTHS = st.lists(st.floats(0.1, 7_200.0), min_size=1, max_size=6)


@given(LENGTHS, st.integers(1, 6))
def test_every_suspect_runs_and_its_pool_stands_still_for_a_tenth_of_the_time_at_most(
    lengths: list[float], workers: int
) -> None:
    pool = Busy(lengths, workers)
    pool.run()
    assert pool.in_vain <= pool.mono / 10
    longest = max(*lengths, FIRST_WAIT)
    assert pool.mono <= 2 * (1 + ABSTAINS) * longest + (pool.waits + 2) * longest


def test_a_wait_that_does_not_grow_never_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """So the test above can fail."""
    monkeypatch.setattr(cautions.Caution, "_wait", lambda *_: FIRST_WAIT)
    pool = Busy([613.0, 431.0, 517.0, 379.0], 4)
    pool_runs = iter(range(200))
    monkeypatch.setattr(pool, "_fill", lambda fill=pool._fill: (next(pool_runs), fill()))
    with pytest.raises(StopIteration):
        pool.run()
    assert pool.waits > 5
