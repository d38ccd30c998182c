"""How a pool claims suspects that run alone: few at once, none that waits for ever, and no pool that stands still."""

from math import inf
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fang_core.backends.claims import ClaimRequest
from fang_core.claims import quarantine as module
from fang_core.claims.prefetch import MOST
from fang_core.claims.quarantine import ABSTAINS, FIRST_WAIT, REMEMBERED, Quarantine
from fang_core.claims.suspects import ANY_SUSPECTS, NO_SUSPECTS

POOL = UUID(int=99)


def claim(quarantine: Quarantine, *, gave_back: bool = False, group_size: int = ANY_SUSPECTS) -> None:
    quarantine.claimed(ClaimRequest(POOL, ("common",), ("K",), 50, group_size=group_size))
    if gave_back:
        quarantine.gave_back()


def allowed(quarantine: Quarantine, mono: float, *, is_idle: bool = False, has_locked: bool = False) -> bool:
    """Whether the next claim may bring suspects that run alone; ``allows_more`` says the same of a later moment."""
    quarantine._asked = NO_SUSPECTS
    size = quarantine.group_size(1, is_idle=is_idle, has_locked=has_locked, mono=mono)
    assert size in {ANY_SUSPECTS, ANY_SUSPECTS + 1}
    assert quarantine.abstains == (size > ANY_SUSPECTS)
    assert not quarantine.allows_more(1, is_idle=is_idle, has_locked=has_locked)
    return size == ANY_SUSPECTS


def wait_in_vain(quarantine: Quarantine, number: int = 1, *, mono: float = 0.0) -> float:
    """How long the suspect waited."""
    quarantine.waits(UUID(int=number), mono)
    quarantine.waits(UUID(int=number), mono + 1)
    seconds = quarantine.until_over(mono)
    assert not quarantine.is_over(mono + seconds - 0.001)
    assert quarantine.is_over(mono + seconds)
    assert quarantine.went_back(mono + seconds) == ABSTAINS * seconds
    return seconds


# How many -------------------------------------------------------------------------------------------------------------


def test_claims_after_one_that_brought_too_much_are_small_and_double_until_the_usual_size() -> None:
    quarantine = Quarantine()
    assert quarantine.limit(MOST) == MOST
    claim(quarantine, gave_back=True)
    limits = []
    for _ in range(12):
        limits.append(quarantine.limit(MOST))
        claim(quarantine)
    assert limits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, MOST, MOST]


def test_a_claim_that_leaves_suspects_out_says_nothing_of_them() -> None:
    quarantine = Quarantine()
    claim(quarantine, gave_back=True)
    claim(quarantine, group_size=NO_SUSPECTS)
    assert quarantine.limit(MOST) == 1


@given(st.lists(st.booleans(), max_size=300), st.integers(1, 100))
def test_whatever_the_order_a_task_is_claimed_twice_on_average_at_most(suspects: list[bool], wanted: int) -> None:
    """Lets suspects run alone, and runs end at once, so that the next claim brings all tasks but those that ran."""
    quarantine = Quarantine()
    queue = list(suspects)
    claimed = 0
    while queue:
        brought = queue[: quarantine.limit(wanted)]
        claimed += len(brought)
        first = brought.index(True) if True in brought else len(brought)
        claim(quarantine, gave_back=len(brought) > first + 1)
        queue = queue[first + 1 :]  # what stands behind a suspect goes back
    assert claimed <= 2 * len(suspects) + wanted


# How long it waits ----------------------------------------------------------------------------------------------------


def test_a_suspect_goes_back_and_none_is_claimed_for_ten_times_as_long_as_it_waited() -> None:
    quarantine = Quarantine()
    assert wait_in_vain(quarantine) == FIRST_WAIT
    ends = FIRST_WAIT * (1 + ABSTAINS)
    assert quarantine.until_allowed(ends - 2.0) == 2.0
    assert not allowed(quarantine, ends - 0.001)
    assert allowed(quarantine, ends)
    assert (quarantine.until_allowed(ends), quarantine.until_over(ends)) == (inf, inf)


def test_an_idle_pool_claims_suspects_at_once() -> None:
    quarantine = Quarantine()
    wait_in_vain(quarantine)
    assert not allowed(quarantine, FIRST_WAIT)
    assert quarantine.allows_more(1, is_idle=True, has_locked=False)
    assert not quarantine.allows_more(2, is_idle=True, has_locked=False)
    assert allowed(quarantine, FIRST_WAIT, is_idle=True)
    assert allowed(quarantine, FIRST_WAIT)


def test_beside_what_others_have_locked_no_suspect_is_claimed_and_at_once_when_it_is_written() -> None:
    quarantine = Quarantine()
    assert not allowed(quarantine, 0.0, has_locked=True)
    assert quarantine.until_allowed(0.0) == inf
    assert quarantine.allows_more(1, is_idle=False, has_locked=False)
    assert allowed(quarantine, 0.0)


def test_what_was_locked_ends_no_abstention() -> None:
    quarantine = Quarantine()
    wait_in_vain(quarantine)
    assert not allowed(quarantine, FIRST_WAIT, has_locked=True)
    assert not allowed(quarantine, FIRST_WAIT + 1)
    assert quarantine.until_allowed(FIRST_WAIT + 1) == ABSTAINS * FIRST_WAIT - 1


def test_groups_go_on_while_a_pool_abstains() -> None:
    """It leaves out only suspects that run alone, and those that may not join its group."""
    quarantine = Quarantine()
    wait_in_vain(quarantine)
    sizes = [
        quarantine.group_size(size, is_idle=False, has_locked=False, mono=FIRST_WAIT) for size in (1, 3, NO_SUSPECTS)
    ]
    assert sizes == [2, 3, NO_SUSPECTS]
    assert quarantine.allows_more(4, is_idle=False, has_locked=False)


def test_each_further_wait_is_twice_as_long_until_the_suspect_has_run() -> None:
    quarantine = Quarantine()
    assert [wait_in_vain(quarantine) for _ in range(4)] == [5, 10, 20, 40]
    quarantine.waits(UUID(int=1), 0.0)
    quarantine.began()
    assert wait_in_vain(quarantine) == 5


def test_suspects_that_come_by_turns_each_wait_longer() -> None:
    """As where several pools have them in turn: if one forgot the other, both would wait for the same time for ever."""
    quarantine = Quarantine()
    assert [wait_in_vain(quarantine, number) for number in (1, 2, 1, 2, 3)] == [5, 5, 10, 10, 5]


def test_what_is_remembered_is_bounded() -> None:
    quarantine = Quarantine()
    for number in range(REMEMBERED + 1):
        wait_in_vain(quarantine, number)
    assert [wait_in_vain(quarantine, number) for number in (REMEMBERED, 0)] == [10, 5]


def test_no_suspect_waits_where_it_has_begun_or_none_was_claimed() -> None:
    quarantine = Quarantine()
    assert (quarantine.is_over(1e9), quarantine.until_over(0.0)) == (False, inf)
    quarantine.waits(UUID(int=1), 0.0)
    quarantine.began()
    quarantine.began()
    assert (quarantine.is_over(1e9), quarantine.until_over(0.0)) == (False, inf)


class Busy:
    """A pool that never lacks work, with a suspect that is due from the start; runs last for what is given, in turn."""

    def __init__(self, lengths: list[float], workers: int) -> None:
        self._lengths, self._number, self._workers = lengths, 0, workers
        self._caution = Quarantine()
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
        if not has_room or not allowed(self._caution, self.mono, is_idle=is_idle):
            return False
        self._caution.waits(UUID(int=1), self.mono)
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
    monkeypatch.setattr(module.Quarantine, "_wait", lambda *_: FIRST_WAIT)
    pool = Busy([613.0, 431.0, 517.0, 379.0], 4)
    pool_runs = iter(range(200))
    monkeypatch.setattr(pool, "_fill", lambda fill=pool._fill: (next(pool_runs), fill()))
    with pytest.raises(StopIteration):
        pool.run()
    assert pool.waits > 5
