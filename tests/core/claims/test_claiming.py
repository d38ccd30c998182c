"""What a pool's next claim asks for."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from fang_core.backends.claims import QUANTUM, Claim, ClaimRequest, LaneClaim, LaneRequest, Transactions
from fang_core.backends.waking import ANYWHERE, LateRows
from fang_core.claims.claiming import Claims
from fang_core.record import ClaimedTask

POOL = UUID(int=7)
NOW = datetime(2026, 1, 2, tzinfo=UTC)


def ask(claims: Claims, mono: float, *, whole: bool = False) -> ClaimRequest:
    """A request that brings nothing."""
    request = claims.request(POOL, ("K",), 5, next_group_size=1, is_idle=True, has_locked=False, whole=whole, mono=mono)
    answer(claims, request, mono, Transactions(100, frozenset()))
    return request


def answer(claims: Claims, request: ClaimRequest, mono: float, transactions: Transactions) -> None:
    now = NOW + timedelta(seconds=mono)
    claims.claimed(request, Claim([], now, transactions, True), began=mono, ended=mono)


def test_each_task_type_is_first_in_turn() -> None:
    claims = Claims(("a", "b", "c"), 0.0)
    orders = ["".join(ask(claims, 0.01 * n).task_types) for n in range(4)]
    assert orders == ["abc", "bca", "cab", "abc"]
    assert "".join(claims.serving.next) == "bca"


def test_only_the_first_reads_everything_until_something_asks_for_it() -> None:
    claims = Claims(("a",), 0.0)
    first, second = ask(claims, 0.0), ask(claims, 0.01)
    assert (bool(first.after), first.looks_back) == (False, True)
    assert (bool(second.after), second.looks_back) == (True, False)
    claims.tell(ANYWHERE)
    assert not ask(claims, 0.02).after
    assert ask(claims, 0.03).after
    assert not ask(claims, 0.04, whole=True).after
    assert ask(claims, 0.05).after
    claims.forget()
    assert not ask(claims, 0.06).after


def at_front(claims: Claims, mono: float) -> None:
    """After two claims that brought nothing the third starts at the front."""
    ask(claims, mono)
    ask(claims, mono + 0.01)


def test_the_earliest_of_what_was_told_counts_for_each_level_and_no_more_is_kept() -> None:
    claims = Claims(("a", "b"), 0.0)
    at_front(claims, 0.0)
    for seconds in [*range(500, 900), *range(100, 500)]:
        at = NOW - timedelta(seconds=seconds)
        for task_type, priority in [("a", 0), ("a", 1), ("foreign", 0), ("a", seconds)]:
            claims.tell(LateRows(task_type, priority, at))
    claims.tell(LateRows("b", 0, at))
    assert len(claims._told) == 3
    told = {lane: at for lane, (at, _) in ask(claims, 0.02).after.items() if at < NOW - timedelta(seconds=1)}
    assert told == dict.fromkeys([("a", 0), ("a", 1)], NOW - timedelta(seconds=899)) | {("b", 0): at}
    assert not claims._told


@pytest.mark.parametrize("order", [1, -1])
def test_who_cannot_say_where_has_everything_read(order: int) -> None:
    claims = Claims(("a",), 0.0)
    at_front(claims, 0.0)
    for late in [LateRows("a", 0, None), LateRows("a", 0, NOW)][::order]:
        claims.tell(late)
    assert not ask(claims, 0.02).after


def test_nothing_is_missed_that_is_told_while_a_claim_is_asked_for() -> None:
    claims = Claims(("a",), 0.0)
    at_front(claims, 0.0)
    count, lowest = 20_000, NOW - timedelta(seconds=10_000)
    over = threading.Event()

    def tell() -> None:
        for n in range(count):
            claims.tell(LateRows("a", 0, lowest if n == count // 2 else NOW - timedelta(seconds=n % 100)))
        over.set()

    teller = threading.Thread(target=tell)
    teller.start()
    starts: list[datetime] = []
    while not over.is_set() or claims._told:
        starts.append(ask(claims, 0.02).after["a", 0][0])
    teller.join()
    assert lowest in starts


def test_an_empty_claim_is_repeated_at_once_where_the_next_one_looks_back_and_only_once() -> None:
    claims = Claims(("a",), 0.0)
    ask(claims, 0.0)
    assert not claims.again_at_once()
    request = claims.request(POOL, ("K",), 5, next_group_size=1, is_idle=True, has_locked=False, whole=False, mono=0.03)
    answer(claims, request, 0.03, Transactions(101, frozenset({100})))
    request = claims.request(POOL, ("K",), 5, next_group_size=1, is_idle=True, has_locked=False, whole=False, mono=0.06)
    answer(
        claims, request, 0.06, Transactions(101, frozenset())
    )  # the one that ran has ended: what it inserted may lie behind
    assert claims.again_at_once()
    assert not claims.again_at_once()


# Managed types --------------------------------------------------------------------------------------------------------


def find_managed(claims: Claims, mono: float, *task_types: str, limit: int = 5) -> ClaimRequest:
    """A request that brings nothing, and whose answer says that these types are managed."""
    request = claims.request(POOL, ("K",), 5, next_group_size=1, is_idle=True, has_locked=False, whole=False, mono=mono)
    claim = Claim([], NOW + timedelta(seconds=mono), Transactions(100, frozenset()), True, task_types)
    claims.claimed(request, claim, began=mono, ended=mono)
    return request


def ask_lanes(claims: Claims, task_type: str, mono: float, *, group_size: int = 1, **claim: Any) -> LaneRequest:
    """A claim from a managed type that brings nothing."""
    state: dict[str, bool] = {"is_idle": True, "has_locked": False}
    request = claims.lane_request(POOL, task_type, ("K",), 5, next_group_size=group_size, **state, mono=mono)
    fields = {"room": 5, **claim}
    answer = LaneClaim([], NOW, Transactions(100, frozenset()), True, **fields)
    claims.claimed_lanes(request, answer, began=mono, ended=mono)
    return request


def lanes_of(request: ClaimRequest) -> set[str]:
    """The types of which a claim reads only what lies behind a place."""
    return {task_type for task_type, _ in request.after}


def test_a_claim_asks_for_more_keys_if_those_of_the_last_one_had_few_tasks() -> None:
    claims = Claims(("a", "b"), 0.0)
    find_managed(claims, 0.0, "a", "b")
    ask_lanes(claims, "a", 1.0, is_short=True)
    assert (ask_lanes(claims, "a", 2.0).quantum, ask_lanes(claims, "b", 2.0).quantum) == (QUANTUM // 2, QUANTUM)


def test_after_a_claim_in_vain_that_did_not_come_to_the_last_key_the_next_one_looks_closely() -> None:
    claims = Claims(("a", "b"), 0.0)
    find_managed(claims, 0.0, "a", "b")
    ask_lanes(claims, "a", 1.0, after_lane="k")
    assert [ask_lanes(claims, "a", 2.0).looks_closely, ask_lanes(claims, "b", 2.0).looks_closely] == [True, False]


def test_a_managed_type_is_left_out_of_plain_claims_and_no_place_passes_it() -> None:
    claims = Claims(("a", "b", "c"), 0.0)
    at_front(claims, 0.0)
    find_managed(claims, 0.02, "b")
    assert list(claims.lanes) == ["b"]
    request = ask(claims, 0.03)
    assert sorted(request.task_types) == ["a", "c"]
    assert lanes_of(request) == {"a", "c"}


def test_a_type_that_is_no_longer_managed_is_read_from_its_start() -> None:
    claims = Claims(("a", "b"), 0.0)
    at_front(claims, 0.0)
    find_managed(claims, 0.02, "b")
    for n in range(20):  # other claims leave marks, to which look-backs go
        ask(claims, 0.1 * (1 + n))
    ask_lanes(claims, "b", 2.0, is_managed=False)
    assert not claims.lanes
    request = ask(claims, 2.1)
    assert sorted(request.task_types) == ["a", "b"]
    assert lanes_of(request) == {"a"}
    assert lanes_of(ask(claims, 2.11)) == {"a", "b"}


def test_a_pool_all_of_whose_types_are_managed_asks_for_no_plain_ones() -> None:
    claims = Claims(("a", "b"), 0.0)
    find_managed(claims, 0.0, "a", "b")
    assert not claims.serving.has_types
    assert claims.serving.next == claims.serving.waiting == ()


def test_what_is_told_of_a_managed_type_makes_the_pool_look_there_and_moves_no_place() -> None:
    claims = Claims(("a", "b"), 0.0)
    find_managed(claims, 0.0, "b")
    at_front(claims, 0.01)
    ask_lanes(claims, "b", 0.03, room=0)
    assert not claims.lanes.is_ready("b", 0.04)
    claims.tell(LateRows("b", 0, None))
    claims.lanes.hear()
    assert claims.lanes.is_ready("b", 0.04)
    assert lanes_of(ask(claims, 0.04)) == {"a"}


@pytest.mark.parametrize("loses", [lambda claims: claims.tell(ANYWHERE), lambda claims: claims.forget()])
def test_who_may_have_missed_something_looks_at_full_types_too(loses: Callable[[Claims], None]) -> None:
    claims = Claims(("a", "b"), 0.0)
    find_managed(claims, 0.0, "b")
    ask_lanes(claims, "b", 0.01, room=0)
    loses(claims)
    claims.lanes.hear()
    assert claims.lanes.is_ready("b", 0.02)


def test_claims_from_managed_types_take_suspects_by_the_rules_of_all_claims() -> None:
    claims = Claims(("a", "b"), 0.0)
    find_managed(claims, 0.0, "b")
    claims.quarantine.gave_back()
    assert ask_lanes(claims, "b", 0.01).limit == 1
    assert ask_lanes(claims, "b", 0.02).limit == 2
    assert ask_lanes(claims, "b", 0.03, group_size=7).group_size == 7


def test_a_pool_of_many_types_claims_from_the_managed_ones_that_a_look_has_found() -> None:
    task_types = tuple(f"t{number}" for number in range(100))
    claims = Claims(task_types, 0.0)
    find_managed(claims, 0.0, *task_types[:50])
    claims.looked({"t1": True, "t2": False, "t60": True, "foreign": True}, began=0.0, ended=0.0)
    assert [each for each in claims.lanes if claims.lanes.is_ready(each, 1e6)] == ["t1"]
    assert claims.serving.next == ("t60",)
    assert not claims.serving.looks(0.01, whole=False)
    claims.look_again()  # an insert
    assert claims.serving.looks(0.01, whole=False)


def test_retries_that_come_first_leave_the_cursor_where_it_is() -> None:
    """They lie anywhere: what lies before them was not claimed."""
    claims = Claims(("a",), 0.0, retries_first=True)
    request = ask_for(claims, 2)
    assert request.retries_first
    hour = timedelta(hours=1)
    retried = ClaimedTask(UUID(int=1), "K", "{}", 1, 1, 20, 0, "a", 0, NOW - hour)
    crashed = retried._replace(id=UUID(int=2), retries=0, crashes=1)
    once = retried._replace(id=UUID(int=3), retries=0, scheduled_at=NOW - 2 * hour)
    transactions = Transactions(100, frozenset())
    claims.claimed(request, Claim([retried, crashed], NOW, transactions, True), began=0.0, ended=0.0)
    request = ask_for(claims, 2)
    assert request.after == {}
    claims.claimed(request, Claim([crashed, once], NOW, transactions, True), began=0.0, ended=0.0)
    assert ask_for(claims, 2).after == {("a", 0): (once.scheduled_at, once.id)}


def ask_for(claims: Claims, limit: int) -> ClaimRequest:
    return claims.request(POOL, ("K",), limit, next_group_size=1, is_idle=True, has_locked=False, whole=False, mono=0.0)
