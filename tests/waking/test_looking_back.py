"""What makes a pool look behind its cursor, and that it rests again."""

from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

import pytest

from fang_core import BackendUnavailable
from fang_core.backends.claims import Claim, ClaimRequest, Transactions
from fang_core.backends.memory.state import MemoryState
from fang_core.backends.waking import ANYWHERE, LateRows
from fang_core.claims import cursor
from fang_core.claims.cursor import BEGINNING
from tests.modes import HOUR, Harness, IdlePools, ran
from tests.patience import PATIENT


class Backend(MemoryState):
    """Keeps the claims that were asked for, and may answer as others would have it."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: SimpleQueue[ClaimRequest] = SimpleQueue()
        self.answer: Callable[[Claim], Claim] = lambda claim: claim

    def claim(self, request: ClaimRequest) -> Claim:
        claim = self.answer(super().claim(request))
        self.requests.put(request)
        return claim

    def tell(self, late: LateRows | None) -> None:
        for _, on_wake, _ in tuple(self.listeners._listeners.values()):
            on_wake(late)

    def requested(self) -> list[ClaimRequest]:
        """Since the last time."""
        return [self.requests.get() for _ in range(self.requests.qsize())]


@pytest.fixture
def backend() -> Backend:
    return Backend()


@pytest.fixture
def pool(harness: Harness, idle_pools: IdlePools, backend: Backend, monkeypatch: pytest.MonkeyPatch) -> Any:
    """One that sleeps, behind its cursor, and does not look back because of the time: on a busy machine that passes."""
    ladder = tuple(step._replace(every=HOUR.total_seconds()) for step in cursor.LADDER)
    monkeypatch.setattr(cursor, "LADDER", ladder)
    pool = harness.pool(harness.memory_queue(backend))
    idle_pools.wait()
    assert backend.requested()[-1].after
    return pool


def test_the_first_claim_walks_through_all_there_is_and_says_so(
    harness: Harness, idle_pools: IdlePools, backend: Backend
) -> None:
    harness.pool(harness.memory_queue(backend))
    idle_pools.wait()
    assert [(bool(request.after), request.looks_back) for request in backend.requested()[:2]] == [
        (False, True),
        (True, False),
    ]


@pytest.mark.usefixtures("pool")
def test_who_is_told_of_rows_behind_looks_there_and_says_so(backend: Backend) -> None:
    backend.tell(ANYWHERE)
    told = backend.requests.get(timeout=PATIENT)
    assert told.after == BEGINNING
    assert told.looks_back


@pytest.mark.usefixtures("pool")
def test_an_ordinary_insert_does_not_make_it_look_back(backend: Backend) -> None:
    backend.tell(None)
    woken = backend.requests.get(timeout=PATIENT)
    assert woken.after
    assert not woken.looks_back


def test_a_drain_ends_with_a_claim_of_everything(harness: Harness, backend: Backend, pool: Any) -> None:
    harness.call(pool.drain)
    assert BEGINNING in [request.after for request in backend.requested()]


def test_a_kind_that_was_learned_may_lie_behind(harness: Harness, backend: Backend, pool: Any) -> None:
    assert pool
    note = type(harness.note())
    name = f"Newly{harness.mode}"
    type(name, (note.__mro__[1],), {"__module__": __name__, "run": note.run, "__qualname__": name})
    backend.tell(None)
    learned = backend.requests.get(timeout=PATIENT)
    assert any(kind.endswith(name) for kind in learned.kinds)
    assert learned.after == BEGINNING


def test_after_a_claim_that_failed_it_starts_over(harness: Harness, backend: Backend, pool: Any) -> None:
    def fail(claim: Claim) -> Claim:
        backend.answer = lambda claim: claim
        backend.requests.put(ClaimRequest(pool.id, (), (), 0))  # the failed one
        raise BackendUnavailable("the reply was lost")

    backend.answer = fail
    backend.tell(None)
    assert backend.requests.get(timeout=PATIENT).limit == 0
    assert backend.requests.get(timeout=PATIENT).after == BEGINNING
    harness.call(pool.queue.insert_task, harness.note(n=3))
    assert ran() == [3]


def test_it_looks_back_once_and_rests_though_transactions_end_all_the_time(
    harness: Harness, idle_pools: IdlePools, backend: Backend
) -> None:
    xid = iter(range(100, 1_000_000))

    def busy(claim: Claim) -> Claim:
        running = next(xid)
        return claim._replace(transactions=Transactions(running + 1, frozenset({running})))

    backend.answer = busy
    pool = harness.pool(harness.memory_queue(backend), listen=False)
    idle_pools.wait()
    backend.requested()

    def wake() -> list[bool]:
        harness.call(_wake_async if harness.mode == "async" else _wake, pool)
        idle_pools.wait()
        return [request.looks_back for request in backend.requested()]

    assert wake() == [False, True]  # one transaction has ended since the first claim
    assert wake() == [True, True]


def _wake(pool: Any) -> None:
    pool._lifetime.claimer.wake()


async def _wake_async(pool: Any) -> None:
    pool._lifetime.claimer.wake()
