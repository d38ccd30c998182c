"""The pool of a queue whose tasks are fetched by hand, without a backend."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import pytest

from fang_core import BackendUnavailable
from fang_core.backends.pools import PoolRecord
from fang_core.pool.manual import ManualPool
from tests.core.pool.fakes import FakeHeart, FakeLock, FakeRuntime, FakeStore


class ManualStore(FakeStore):
    def __init__(self, runtime: FakeRuntime) -> None:
        super().__init__(runtime)
        self.made = FakeHeart(self.calls)

    async def register(self, pool: PoolRecord, /) -> None:
        await self._answer(None, "register", pool.id, pool.mode)

    async def unregister(self, pool_id: UUID, /) -> None:
        await self._answer(None, "unregister", pool_id)

    async def update_kinds(self, pool_id: UUID, kinds: Sequence[str], /) -> bool:
        is_there: bool = await self._answer(True, "update_kinds", pool_id)
        return is_there

    async def reconcile(self, pool_id: UUID, known: Sequence[UUID], /) -> int:
        count: int = await self._answer(0, "reconcile", pool_id, list(known))
        return count

    def heart(self, locks: bool, /) -> FakeHeart:
        assert locks
        return self.made

    async def claim(self, *_: Any) -> Any:
        raise AssertionError("the queue claims by itself")

    has_taker = waiting_types = next_due = claim


@pytest.fixture
def store(runtime: FakeRuntime) -> ManualStore:
    return ManualStore(runtime)


@pytest.fixture
def manual(runtime: FakeRuntime, store: ManualStore) -> ManualPool:
    return ManualPool(lambda: runtime, lambda: FakeLock(runtime), store=store, last_store=store)


def test_it_registers_once_and_beats_before_anything_is_held(
    runtime: FakeRuntime, store: ManualStore, manual: ManualPool
) -> None:
    pool_id = runtime.call(manual.begin())
    assert store.calls == [("register", pool_id, "manual"), ("beat", pool_id, False)]
    assert runtime.call(manual.begin()) == pool_id
    runtime.advance(2.5)
    assert store.verbs == ["register", "beat", "beat", "beat"]


def test_after_its_death_the_next_fetch_registers_under_another_id_which_its_heart_takes_up(
    runtime: FakeRuntime, store: ManualStore, manual: ManualPool
) -> None:
    former = runtime.call(manual.begin())
    store.made.gone.add(former)
    runtime.advance(1.0)
    successor = runtime.call(manual.begin())
    assert successor != former
    assert store.called("register") == [("register", former, "manual"), ("register", successor, "manual")]
    runtime.advance(1.0)
    assert store.calls[-1] == ("beat", successor, False)


@pytest.mark.parametrize("is_there", [True, False])
def test_a_doubt_is_settled_by_its_record(
    runtime: FakeRuntime, store: ManualStore, manual: ManualPool, is_there: bool
) -> None:
    pool_id = runtime.call(manual.begin())
    store.reply("update_kinds", is_there)
    runtime.call(manual.doubt(pool_id))
    assert (runtime.call(manual.begin()) == pool_id) is is_there


def test_its_end_gives_back_what_was_fetched_and_then_lets_the_lock_go(
    runtime: FakeRuntime, store: ManualStore, manual: ManualPool
) -> None:
    pool_id = runtime.call(manual.begin())
    runtime.call(manual.end())
    assert store.calls[2:] == [("reconcile", pool_id, []), ("unregister", pool_id), ("heart closed",)]
    runtime.call(manual.end())
    assert store.verbs.count("unregister") == 1
    assert runtime.call(manual.begin()) != pool_id


def test_at_its_end_a_dead_one_has_nothing_to_give_back(
    runtime: FakeRuntime, store: ManualStore, manual: ManualPool
) -> None:
    store.made.gone.add(runtime.call(manual.begin()))
    runtime.advance(1.0)
    runtime.call(manual.end())
    assert store.verbs[-1] == "heart closed"
    assert not store.called("reconcile", "unregister")


def test_a_database_that_is_away_at_the_end_does_not_keep_the_heart_beating(
    runtime: FakeRuntime, store: ManualStore, manual: ManualPool
) -> None:
    runtime.call(manual.begin())
    store.fail("reconcile", BackendUnavailable("away"))
    runtime.call(manual.end())
    runtime.advance(5.0)
    assert store.verbs[-2:] == ["reconcile", "heart closed"]
