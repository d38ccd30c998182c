"""What a pool writes into its record when its kinds change."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import pytest

from fang_core.pool.identity import PoolIdentity
from fang_core.pool.recorded_kinds import RecordedKinds
from fang_core.tasks.registry import Kinds
from tests.core.pool.fakes import FakeRuntime, FakeStore


class RecordStore(FakeStore):
    async def update_kinds(self, _pool_id: UUID, kinds: Sequence[str], isolated_kinds: Sequence[str] = (), /) -> bool:
        is_there: bool = await self._answer(True, "update_kinds", tuple(isolated_kinds))
        return is_there


class Pool:
    """What stands around a pool's kinds; ``learnt`` has what ``Kinds`` finds, one answer for each look."""

    def __init__(self, runtime: FakeRuntime, monkeypatch: pytest.MonkeyPatch) -> None:
        self.runtime = runtime
        self.store = RecordStore(runtime)
        self.isolated = frozenset[str]()
        self.learnt: list[bool] = []
        monkeypatch.setattr(Kinds, "learn", lambda *_: self.learnt.pop(0))
        self.kinds = RecordedKinds(
            Kinds("threaded"),
            self.store,
            PoolIdentity(),
            isolated=lambda: self.isolated,
            on_learnt=lambda: self.store.calls.append(("learnt",)),
            declare=self.declare,
        )

    async def declare(self) -> None:
        self.store.calls.append(("declare",))

    def claim(self, learns: bool = False) -> list[tuple[Any, ...]]:
        """Does what precedes a claim; returns what it has called."""
        self.store.calls.clear()
        self.learnt.append(learns)
        assert self.kinds.learn(0.0) is learns
        self.runtime.begin(self.kinds.write())
        self.runtime.settle()
        return self.store.calls


@pytest.fixture
def pool(runtime: FakeRuntime, monkeypatch: pytest.MonkeyPatch) -> Pool:
    return Pool(runtime, monkeypatch)


def test_new_kinds_are_written_once_and_then_declared(pool: Pool) -> None:
    assert pool.claim() == []
    assert pool.claim(learns=True) == [("learnt",), ("update_kinds", ()), ("declare",)]
    assert pool.claim() == []


def test_new_kinds_are_written_again_while_the_record_is_gone(pool: Pool) -> None:
    pool.store.reply("update_kinds", False)
    assert pool.claim(learns=True) == [("learnt",), ("update_kinds", ())]
    assert pool.claim() == [("update_kinds", ()), ("declare",)]


def test_kinds_that_are_isolated_now_are_written_and_declare_nothing(pool: Pool) -> None:
    pool.isolated = frozenset({"Crashing"})
    assert pool.kinds.may_change
    assert pool.claim() == [("update_kinds", ("Crashing",))]
    assert not pool.kinds.may_change
    assert pool.claim() == []
