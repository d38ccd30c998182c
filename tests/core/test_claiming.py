"""What a pool's next claim asks for."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from fang_core.claiming import Claims
from fang_core.store import ANYWHERE, Claim, ClaimRequest

POOL = UUID(int=7)
NOW = datetime(2026, 1, 2, tzinfo=UTC)


def ask(claims: Claims, mono: float, *, whole: bool = False) -> ClaimRequest:
    """A request that brings nothing."""
    request = claims.request(POOL, ("K",), 5, is_idle=True, whole=whole, mono=mono)
    answer(claims, request, mono, "100:100:")
    return request


def answer(claims: Claims, request: ClaimRequest, mono: float, snapshot: str) -> None:
    now = NOW + timedelta(seconds=mono)
    claims.claimed(request, Claim([], now, snapshot, True), began=mono, ended=mono)


def test_each_task_type_is_first_in_turn() -> None:
    claims = Claims(("a", "b", "c"), 0.0)
    orders = ["".join(ask(claims, 0.01 * n).task_types) for n in range(4)]
    assert orders == ["abc", "bca", "cab", "abc"]
    assert "".join(claims.task_types) == "bca"


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


def test_an_empty_claim_is_repeated_at_once_where_the_next_one_looks_back_and_only_once() -> None:
    claims = Claims(("a",), 0.0)
    ask(claims, 0.0)
    assert not claims.again_at_once()
    request = claims.request(POOL, ("K",), 5, is_idle=True, whole=False, mono=0.03)
    answer(claims, request, 0.03, "100:101:100")
    request = claims.request(POOL, ("K",), 5, is_idle=True, whole=False, mono=0.06)
    answer(claims, request, 0.06, "101:101:")  # the one that ran has ended: what it inserted may lie behind
    assert claims.again_at_once()
    assert not claims.again_at_once()
