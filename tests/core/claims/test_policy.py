"""What a claimer is told to do next: by what the pool holds, what its workers take, and what its claims brought."""

from datetime import UTC, datetime, timedelta
from math import inf
from typing import Any
from uuid import UUID, uuid4

import pytest

from fang_core import RetentionMode, SleepParams
from fang_core.backends.claims import Claim, ClaimRequest, LaneClaim, Transactions
from fang_core.backends.waking import ANYWHERE, LateRows
from fang_core.claims import idle
from fang_core.claims.dispatch import NOTHING_OVERDUE, Overdue
from fang_core.claims.expiry import ClaimTime
from fang_core.claims.idle import SETTLING
from fang_core.claims.inflight import InFlight
from fang_core.claims.lanes import EMPTY_FOR
from fang_core.claims.overlap import PROOFS
from fang_core.claims.policy import (
    LONGEST_WAIT,
    RECONCILE_EVERY,
    ClaimLanes,
    ClaimPolicy,
    ClaimUpTo,
    Do,
    Sleep,
    Step,
    TellTypes,
    WaitForCapacity,
)
from fang_core.claims.quarantine import ABSTAINS, FIRST_WAIT
from fang_core.claims.suspects import ANY_SUSPECTS, NO_SUSPECTS
from fang_core.config import PoolOptions
from fang_core.crashes import SUSPECT_AFTER
from fang_core.lifecycle import Outcome
from fang_core.liveness import EVERY
from fang_core.record import ClaimedTask
from fang_core.runs.run import Run

POOL = UUID(int=7)
NOW = datetime(2026, 1, 2, tzinfo=UTC)
CLAIMED = ClaimTime(NOW, 0.0)
QUIET, RUNNING, ENDED = (
    Transactions(100, frozenset()),
    Transactions(102, frozenset({101})),
    Transactions(102, frozenset()),
)
OVERDUE = Overdue(frozenset({("common", "K")}))
POLL = timedelta(seconds=5)


class Prefetched:
    """What waits for a worker, as a test says it."""

    def __init__(self) -> None:
        self.wants = 3
        self.unwritten_outcomes = 0
        self.waits_too_long = NOTHING_OVERDUE
        self.until_overdue = inf

    def wanted(self, now: float, ending: int = 0) -> int:
        return self.wants

    def idle_workers(self) -> int:
        return self.wants

    def unwritten(self) -> int:
        return self.unwritten_outcomes

    def run_seconds(self) -> float:
        return inf

    def low_mark(self) -> int:
        return 2

    def patience(self, now: float) -> float:
        return self.until_overdue

    def overdue(self, now: float) -> Overdue:
        answer, self.waits_too_long = self.waits_too_long, NOTHING_OVERDUE
        return answer


class Pool:
    """A claimer that does what it is told, at the time of a test."""

    def __init__(self, **options: Any) -> None:
        self.now = 100.0
        self.in_flight = InFlight(RetentionMode.REMOVE_FINISHED, lambda: False, 4)
        self.prefetch = Prefetched()
        sleep = SleepParams(min_sleep_period=POLL, max_sleep_period=POLL)
        self.policy = ClaimPolicy(PoolOptions(sleep_params=sleep, **options), self.in_flight, self.prefetch, self.now)

    def next(self, *, is_cut_off: bool = False) -> Step:
        return self.policy.next_step(self.now, is_cut_off=is_cut_off)

    def request(self, *, whole: bool = False) -> ClaimRequest:
        step = self.next()
        assert isinstance(step, ClaimUpTo)
        return self.policy.request(POOL, ("K",), step.limit, whole=whole, now=self.now)

    def claim(
        self,
        *crashes: int,
        group_limit: int | None = 1,
        transactions: Transactions = QUIET,
        registered: bool = True,
        whole: bool = False,
    ) -> bool:
        """Claims tasks with these crashes and this limit, and holds them; whether the pool is busy."""
        request = self.request(whole=whole)
        tasks = [
            ClaimedTask(uuid4(), "K", "{}", 1, 0, 20, times, "common", 0, NOW, group_limit=group_limit)
            for times in crashes
        ]
        claim = Claim(tasks, NOW + timedelta(seconds=self.now), transactions, registered)
        is_busy = self.policy.claimed(request, claim, began=self.now, ended=self.now)
        gave_back = bool(self.in_flight.take(tasks, POOL, CLAIMED).unwanted)
        self.policy.handed_out(self.now, gave_back=gave_back)
        return is_busy

    def give_up(self) -> Run:
        """Gives the suspect that waits back, and does not write that."""
        (suspect,) = self.in_flight.give_up_suspects()
        return suspect

    def announce(self) -> None:
        assert self.next() is Do.ANNOUNCE
        self.policy.announcing()
        self.policy.announced(True, self.now)

    def settle(self) -> None:
        """Announces, and looks until no transaction can have missed that."""
        self.claim()
        self.announce()
        for _ in range(2):
            self.claim()
            assert isinstance(self.next(), Sleep)

    def write_all(self) -> None:
        self.in_flight.remove([Outcome(task_id, 1, None) for task_id in self.in_flight.known()])


@pytest.fixture
def pool() -> Pool:
    return Pool()


def test_a_pool_with_room_claims(pool: Pool) -> None:
    assert pool.next() == ClaimUpTo(3)
    request = pool.request()
    assert (request.pool_id, request.kinds, request.limit, request.group_size) == (POOL, ("K",), 3, ANY_SUSPECTS)


def test_a_pool_without_room_waits_until_few_tasks_are_left(pool: Pool) -> None:
    pool.prefetch.wants = 0
    assert pool.next() == WaitForCapacity(LONGEST_WAIT, low=2)
    pool.prefetch.until_overdue = 0.1
    assert pool.next() == WaitForCapacity(0.1, low=2)
    assert pool.policy.patience(pool.now) == 0.1


def test_a_pool_that_is_cut_off_claims_nothing(pool: Pool) -> None:
    assert pool.next(is_cut_off=True) == Sleep(EVERY)
    assert pool.next() == ClaimUpTo(3)


@pytest.mark.parametrize("is_cut_off", [False, True])
def test_what_waits_too_long_comes_first(pool: Pool, is_cut_off: bool) -> None:
    pool.prefetch.waits_too_long = OVERDUE
    assert pool.next(is_cut_off=is_cut_off) is OVERDUE


def test_a_pool_reconciles_once_in_a_while_and_after_a_failure_unless_it_is_cut_off(pool: Pool) -> None:
    pool.now += RECONCILE_EVERY
    assert pool.next(is_cut_off=True) == Sleep(EVERY)
    assert pool.next() is Do.RECONCILE
    assert pool.next() is Do.RECONCILE  # until it has
    pool.policy.reconciled(pool.now)
    assert pool.next() == ClaimUpTo(3)
    pool.policy.failed()
    assert pool.next() is Do.RECONCILE


def test_a_pool_that_is_told_of_inserts_again_compares_what_it_holds_at_once(pool: Pool) -> None:
    pool.policy.tell(ANYWHERE)  # at its start nothing was missed
    assert pool.next() is not Do.RECONCILE
    pool.policy.listen_lost()
    assert pool.next() is not Do.RECONCILE  # before it can be heard again, the server may not have changed yet
    pool.policy.tell(ANYWHERE)
    assert pool.next() is Do.RECONCILE
    pool.policy.reconciled(pool.now)
    assert pool.next() is not Do.RECONCILE


def test_after_a_failure_the_next_claim_reads_everything(pool: Pool) -> None:
    pool.settle()
    assert pool.request().after
    pool.policy.failed()
    pool.policy.reconciled(pool.now)
    assert not pool.request().after


# After a claim that brought nothing -----------------------------------------------------------------------------------


def test_a_pool_announces_once_that_it_waits_and_then_claims_again(pool: Pool) -> None:
    assert not pool.claim()
    pool.announce()
    assert not pool.policy.announces(True)
    assert pool.policy.announces(False)
    pool.claim()
    assert isinstance(pool.next(), Sleep)


def test_a_pool_that_does_not_listen_announces_nothing() -> None:
    pool = Pool(listen=False)
    pool.claim()
    step = pool.next()
    assert isinstance(step, Sleep)
    assert step.task_types == ("common",)
    assert not pool.policy.announces(True)
    assert not pool.policy.announces(False)


def test_an_announcement_whose_reply_was_lost_is_made_again(pool: Pool) -> None:
    pool.claim()
    pool.policy.announcing()
    assert pool.policy.announces(True)
    assert pool.policy.announces(False)
    pool.policy.failed()
    pool.policy.reconciled(pool.now)
    pool.claim()
    assert pool.next() is Do.ANNOUNCE


def test_a_pool_settles_in_short_sleeps_and_then_sleeps_until_the_next_due_time(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idle, "LATE", 0.0)  # the clock stands still here
    pool.claim()
    pool.announce()
    for _ in range(3):
        pool.claim(transactions=RUNNING)  # that transaction may have inserted, and not seen that the pool waits
        step = pool.next()
        assert isinstance(step, Sleep)
        assert step.seconds < SETTLING
        assert step.task_types == ()
    pool.claim(transactions=ENDED)
    step = pool.next()
    assert isinstance(step, Sleep)
    assert step.seconds == pytest.approx(POLL.total_seconds(), rel=0.11)
    assert step.task_types == ("common",)
    assert pool.next() == ClaimUpTo(3)  # a sleep is not repeated


def test_a_claim_that_says_little_is_made_again_at_once(pool: Pool) -> None:
    pool.settle()
    pool.claim(transactions=RUNNING)
    assert isinstance(pool.next(), Sleep)
    pool.now += 1.0
    pool.claim(transactions=ENDED)
    assert pool.next() == ClaimUpTo(3)  # what has ended since may have left rows that were passed
    pool.claim(transactions=ENDED)
    assert isinstance(pool.next(), Sleep)


def test_only_the_second_claim_in_a_row_that_finds_tasks_makes_a_pool_busy(pool: Pool) -> None:
    assert [pool.claim(0), pool.claim(0), pool.claim(0)] == [False, True, True]
    pool.settle()
    assert [pool.claim(0), pool.claim(0)] == [False, True]


def test_a_pool_without_a_record_does_not_rest(pool: Pool) -> None:
    pool.claim(registered=False)
    assert pool.next() == ClaimUpTo(3)


# Suspects -------------------------------------------------------------------------------------------------------------


def test_a_suspect_begins_once_it_is_alone_and_nothing_is_claimed_beside_it(pool: Pool) -> None:
    pool.claim(0)
    innocent = pool.in_flight.known()
    pool.claim(SUSPECT_AFTER)
    assert isinstance(pool.next(), WaitForCapacity)
    pool.in_flight.remove([Outcome(task_id, 1, None) for task_id in innocent])
    assert pool.next() is Do.BEGIN_SUSPECTS
    assert pool.in_flight.begin_suspects()
    pool.policy.suspects_began()
    pool.now += 2 * FIRST_WAIT
    assert pool.next() == WaitForCapacity(LONGEST_WAIT, low=2)
    pool.write_all()
    assert pool.next() == ClaimUpTo(3)


def test_a_suspect_beside_a_long_run_goes_back_and_is_left_to_other_pools(pool: Pool) -> None:
    pool.claim(0)
    pool.claim(SUSPECT_AFTER)
    pool.now += FIRST_WAIT - 0.25
    assert pool.next() == WaitForCapacity(0.25, low=2)
    pool.now += 0.25
    assert pool.next() is Do.GIVE_UP_SUSPECTS
    suspect = pool.give_up()
    assert pool.policy.suspects_went_back(pool.now) == ABSTAINS * FIRST_WAIT
    assert isinstance(pool.next(), WaitForCapacity)  # until that is written
    pool.in_flight.remove([Outcome(suspect.task.id, 1, None)])
    assert pool.request().group_size == 2
    assert not pool.policy.calls_for_suspects
    pool.write_all()
    assert pool.policy.calls_for_suspects
    assert pool.request().group_size == ANY_SUSPECTS  # an idle pool takes them
    assert not pool.policy.calls_for_suspects


def test_a_pool_that_abstains_sleeps_no_longer_than_that() -> None:
    pool = Pool(listen=False)
    pool.claim(0)
    pool.claim(SUSPECT_AFTER)
    pool.now += FIRST_WAIT
    suspect = pool.give_up()
    pool.now += pool.policy.suspects_went_back(pool.now) - 0.5
    pool.in_flight.remove([Outcome(suspect.task.id, 1, None)])
    pool.policy.reconciled(pool.now)
    pool.claim()
    step = pool.next()
    assert isinstance(step, Sleep)
    assert step.seconds == pytest.approx(0.5)


def test_suspects_begin_at_once_beside_others_and_as_many_as_may_be_tried_together(pool: Pool) -> None:
    pool.claim(0)
    pool.claim(SUSPECT_AFTER, SUSPECT_AFTER, group_limit=3)
    assert pool.request().group_size == 3
    pool.claim(SUSPECT_AFTER, group_limit=3)
    assert pool.request().group_size == NO_SUSPECTS
    assert not pool.policy.calls_for_suspects
    suspect = pool.in_flight.known()[-1]
    pool.in_flight.remove([Outcome(suspect, 1, None)])
    assert pool.policy.calls_for_suspects
    assert pool.request().group_size == 3


def test_suspects_that_do_not_fit_are_given_back_before_the_others_begin(pool: Pool) -> None:
    pool.claim(SUSPECT_AFTER, SUSPECT_AFTER, SUSPECT_AFTER, group_limit=2)
    assert pool.request() == pool.request()._replace(limit=3, group_size=NO_SUSPECTS)  # others are claimed meanwhile
    assert not pool.policy.calls_for_suspects
    refused = pool.in_flight.known()[-1]
    pool.in_flight.remove([Outcome(refused, 1, None)])
    assert pool.policy.calls_for_suspects
    assert pool.next() is Do.BEGIN_SUSPECTS
    assert len(pool.in_flight.begin_suspects()) == 2
    pool.policy.suspects_began()
    assert pool.request().group_size == NO_SUSPECTS
    pool.write_all()
    assert pool.request() == pool.request()._replace(limit=1, group_size=ANY_SUSPECTS)  # lest others go back again


def test_suspects_whose_neighbours_cannot_go_back_go_back_themselves(pool: Pool) -> None:
    pool.claim(SUSPECT_AFTER, SUSPECT_AFTER, group_limit=1)
    assert pool.next() == WaitForCapacity(LONGEST_WAIT, low=2)
    pool.now += FIRST_WAIT
    assert pool.next() is Do.GIVE_UP_SUSPECTS
    pool.give_up()
    assert pool.policy.suspects_went_back(pool.now) == ABSTAINS * FIRST_WAIT


def test_a_pool_sleeps_no_longer_than_its_suspects_wait() -> None:
    pool = Pool(listen=False)
    pool.claim(SUSPECT_AFTER, SUSPECT_AFTER, SUSPECT_AFTER, group_limit=2)
    pool.now += FIRST_WAIT - 0.5
    pool.claim()
    step = pool.next()
    assert isinstance(step, Sleep)
    assert step.seconds == pytest.approx(0.5)


# What happens to the pool ---------------------------------------------------------------------------------------------


def test_new_kinds_are_looked_for_everywhere_and_announced(pool: Pool) -> None:
    pool.settle()
    pool.policy.has_new_kinds()
    assert not pool.request().after
    pool.claim()
    assert pool.next() is Do.ANNOUNCE


def test_a_pool_that_rejoins_has_announced_nothing_and_leaves_no_suspects_to_others(pool: Pool) -> None:
    pool.claim(0)
    pool.claim(SUSPECT_AFTER)
    pool.now += FIRST_WAIT
    suspect = pool.give_up()
    pool.policy.suspects_went_back(pool.now)
    pool.in_flight.remove([Outcome(suspect.task.id, 1, None)])
    assert pool.request().group_size == 2
    pool.policy.rejoined()
    assert pool.request().group_size == ANY_SUSPECTS
    assert not pool.policy.announces(False)
    pool.claim()
    assert pool.next() is Do.ANNOUNCE


def test_a_pool_of_many_types_looks_at_them_before_it_claims() -> None:
    pool = Pool(task_types=tuple(f"type {n}" for n in range(100)))
    assert pool.policy.looks_at_types(pool.now, whole=False) == 300
    pool.policy.looked({"type 7": True, "type 8": False}, began=pool.now, ended=pool.now)
    assert pool.policy.looks_at_types(pool.now, whole=False) is None
    assert pool.policy.looks_at_types(pool.now, whole=True) == 300
    assert pool.request().task_types == ("type 7",)
    assert Pool().policy.looks_at_types(pool.now, whole=True) is None


def rests(**claim: Any) -> tuple[list[Step], float]:
    """Has a run end of a pool whose only type is managed, and from which each claim brings this.

    Returns what the pool does before it rests, and for how long it then does.
    """
    pool = Pool()
    managed = Claim([], NOW, QUIET, True, managed=("common",))
    pool.policy.claimed(pool.request(), managed, began=pool.now, ended=pool.now)
    pool.policy.freed({"common": 1})
    return steps_to_rest(pool, **claim)


def steps_to_rest(pool: Pool, **claim: Any) -> tuple[list[Step], float]:
    """Returns what the pool does before it rests, while each claim brings this, and for how long it then does."""
    policy, now = pool.policy, pool.now
    answer = LaneClaim([], NOW, QUIET, registered=True, **{"room": 3, **claim})
    steps: list[Step] = []
    while not isinstance(step := pool.next(), Sleep):
        steps.append(step)
        assert len(steps) < 10
        match step:
            case TellTypes():
                policy.told_others(began=now, ended=now)
            case Do():
                policy.announced(step is Do.ANNOUNCE, now)
            case ClaimLanes():
                asked = policy.lane_request(POOL, step.task_type, ("K",), step.limit, now=now)
                assert asked is not None
                policy.claimed_lanes(asked, answer, began=now, ended=now)
    return steps, step.seconds


def test_a_pool_whose_type_is_out_of_rate_sleeps_although_a_run_of_its_own_has_left_a_slot() -> None:
    steps, seconds = rests(room=0, look_in=3.0, after_lane="a")
    assert steps.count(TellTypes(("common",))) <= 1
    assert seconds > 0.0


def test_a_slot_for_which_a_pool_with_idle_workers_has_no_task_is_told_before_it_rests() -> None:
    steps, seconds = rests(after_lane="b")
    assert steps.count(TellTypes(("common",))) == 1
    assert seconds > 0.0


def test_a_pool_that_lost_the_reply_to_its_last_word_announces_that_it_waits() -> None:
    pool = Pool()
    managed = Claim([], NOW, QUIET, True, managed=("common",))
    pool.policy.claimed(pool.request(), managed, began=pool.now, ended=pool.now)
    steps_to_rest(pool)
    steps_to_rest(pool)  # it has settled
    pool.policy.tell(LateRows("common", 0, None))
    pool.policy.announcing()  # that it is busy with what the claim has brought; the reply is lost
    assert Do.ANNOUNCE in steps_to_rest(pool)[0]


@pytest.mark.parametrize("has_other_type", [True, False])
def test_a_pool_that_waits_for_its_own_outcomes_neither_rests_nor_leaves_its_other_types(has_other_type: bool) -> None:
    pool = Pool(task_types=("common", "other") if has_other_type else ("common",))
    policy = pool.policy
    managed = Claim([], NOW, QUIET, True, managed=("common",))
    policy.claimed(pool.request(), managed, began=pool.now, ended=pool.now)
    asked = policy.lane_request(POOL, "common", ("K",), 3, now=pool.now)
    assert asked is not None
    task = ClaimedTask(uuid4(), "K", "{}", 1, 0, 20, 0, "common", 0, NOW)
    answer = LaneClaim([task], NOW, QUIET, registered=True, room=3, after_lane="a")
    policy.claimed_lanes(asked, answer, began=pool.now - 0.5, ended=pool.now)
    pool.prefetch.unwritten_outcomes = 2
    policy.freed({"common": 2})
    if has_other_type:
        assert pool.next() == Sleep(pytest.approx(EMPTY_FOR))  # type: ignore[arg-type]
        pool.now += EMPTY_FOR
        assert pool.next() == ClaimUpTo(3)
    else:
        assert pool.next() == Sleep(0.5)
        pool.prefetch.unwritten_outcomes = 1
        assert pool.next() == ClaimLanes("common", 3)


class Working(Prefetched):
    """What waits for workers that are idle as a test says, and whose runs take no time."""

    def __init__(self) -> None:
        super().__init__()
        self.idle = self.wants

    def idle_workers(self) -> int:
        return self.idle

    def run_seconds(self) -> float:
        return 0.0


def test_workers_that_got_tasks_of_a_type_without_limits_are_not_taken_to_be_idle_soon() -> None:
    pool = Pool(task_types=("limited", "fair"))
    pool.prefetch = working = Working()
    pool.policy = policy = ClaimPolicy(PoolOptions(task_types=("limited", "fair")), pool.in_flight, working, pool.now)
    managed = Claim([], NOW, QUIET, True, managed=("limited", "fair"))
    policy.claimed(pool.request(), managed, began=pool.now, ended=pool.now)

    def claims_from(task_type: str) -> bool:
        """Has the next claim bring what it asks for; returns whether the one after it may be sent at once."""
        step = pool.next()
        assert isinstance(step, ClaimLanes)
        assert step.task_type == task_type
        asked = policy.lane_request(POOL, task_type, ("K",), step.limit, now=pool.now)
        assert asked is not None
        tasks = [ClaimedTask(uuid4(), "K", "{}", 1, 0, 20, 0, task_type, 0, NOW) for _ in range(step.limit)]
        answer = LaneClaim(tasks, NOW, QUIET, True, room=step.limit, is_counted=task_type == "limited")
        return policy.claimed_lanes(asked, answer, began=pool.now - 1.0, ended=pool.now).overlaps

    for _ in range(PROOFS - 1):
        assert not claims_from("limited")
        assert not claims_from("fair")
    assert claims_from("limited")
    working.idle = 0
    assert not claims_from("fair")
    assert not claims_from("fair")
