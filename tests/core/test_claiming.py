"""What a pool's next claim asks for."""

import threading
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from fang_core.claiming import Claims
from fang_core.store import ANYWHERE, Behind, Claim, ClaimRequest

POOL = UUID(int=7)
NOW = datetime(2026, 1, 2, tzinfo=UTC)


def ask(claims: Claims, mono: float, *, whole: bool = False) -> ClaimRequest:
    """A request that brings nothing."""
    request = claims.request(POOL, ("K",), 5, is_idle=True, has_apart=False, whole=whole, mono=mono)
    answer(claims, request, mono, "100:100:")
    return request


def answer(claims: Claims, request: ClaimRequest, mono: float, snapshot: str) -> None:
    now = NOW + timedelta(seconds=mono)
    claims.claimed(request, Claim([], now, snapshot, True), began=mono, ended=mono)


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
            claims.tell(Behind(task_type, priority, at))
    claims.tell(Behind("b", 0, at))
    assert len(claims._told) == 3
    told = {level: at for level, (at, _) in ask(claims, 0.02).after.items() if at < NOW - timedelta(seconds=1)}
    assert told == dict.fromkeys([("a", 0), ("a", 1)], NOW - timedelta(seconds=899)) | {("b", 0): at}
    assert not claims._told


@pytest.mark.parametrize("order", [1, -1])
def test_who_cannot_say_where_has_everything_read(order: int) -> None:
    claims = Claims(("a",), 0.0)
    at_front(claims, 0.0)
    for behind in [Behind("a", 0, None), Behind("a", 0, NOW)][::order]:
        claims.tell(behind)
    assert not ask(claims, 0.02).after


def test_nothing_is_missed_that_is_told_while_a_claim_is_asked_for() -> None:
    claims = Claims(("a",), 0.0)
    at_front(claims, 0.0)
    count, lowest = 20_000, NOW - timedelta(seconds=10_000)
    over = threading.Event()

    def tell() -> None:
        for n in range(count):
            claims.tell(Behind("a", 0, lowest if n == count // 2 else NOW - timedelta(seconds=n % 100)))
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
    request = claims.request(POOL, ("K",), 5, is_idle=True, has_apart=False, whole=False, mono=0.03)
    answer(claims, request, 0.03, "100:101:100")
    request = claims.request(POOL, ("K",), 5, is_idle=True, has_apart=False, whole=False, mono=0.06)
    answer(claims, request, 0.06, "101:101:")  # the one that ran has ended: what it inserted may lie behind
    assert claims.again_at_once()
    assert not claims.again_at_once()
