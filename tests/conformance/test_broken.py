"""The suite catches every defect of ``broken``, by the tests that are named there; and each of these can fail."""

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from fang_core.conformance import (
    AuditSuite,
    Backend,
    BulkSuite,
    CancelSuite,
    ClaimSuite,
    CompletionSuite,
    ControlSuite,
    EditSuite,
    EveryMethodSuite,
    ExplainSuite,
    FlowSuite,
    HistorySuite,
    LeaseSuite,
    ListSuite,
    ManagingSuite,
    OptionSuite,
    OutlookSuite,
    ReconcileSuite,
    StatsSuite,
    StoredScheduleSuite,
    TickSuite,
    UniquenessSuite,
    WakeSuite,
)
from fang_core.conformance.queue import cancelling, managing, uniqueness
from fang_core.conformance.store import control, flow, leases, ticks, waking
from tests.backends import IN_MEMORY, threaded_on_postgres
from tests.conformance.broken import defects
from tests.conformance.broken.base import Broken, BrokenHeart, BrokenQueue, Check, Whole

GROUPS = (
    ListSuite,
    BulkSuite,
    EditSuite,
    AuditSuite,
    CancelSuite,
    ManagingSuite,
    StoredScheduleSuite,
    OptionSuite,
    EveryMethodSuite,
    UniquenessSuite,
    ClaimSuite,
    CompletionSuite,
    ReconcileSuite,
    FlowSuite,
    LeaseSuite,
    ControlSuite,
    ExplainSuite,
    HistorySuite,
    StatsSuite,
    WakeSuite,
    OutlookSuite,
    TickSuite,
)
CASES = [(defect, check) for defect in defects() for check in defect.caught_by]
IN_DATABASE = [(defect, check) for defect, check in CASES if defect.in_database]
ELSEWHERE = [(defect, check) for defect, check in CASES if not defect.in_database]


def name(value: Any) -> str:
    return value.__name__.removeprefix("test_")


def fails(backend: Backend, defect: type[Broken], check: Check) -> None:
    """Runs a test of the suite over a backend with the defect, and expects it to fail."""
    if issubclass(defect, BrokenQueue):
        defect.wrap(backend)
    else:
        break_stores(backend, defect)
    suite = next(group for group in GROUPS if vars(group).get(check.__name__) is check)()
    with pytest.raises((AssertionError, pytest.fail.Exception, pytest.skip.Exception)) as failure:
        check(suite, backend)
    assert not issubclass(failure.type, pytest.skip.Exception), "the test was skipped"


def break_stores(backend: Backend, defect: type[Broken]) -> None:
    """Has the queue make stores with the defect."""
    make = Whole(backend.queue).store

    async def store() -> Broken:
        whole = Whole(await make())
        if issubclass(defect, BrokenHeart):
            return WithHeart(whole, backend, defect)
        return defect(whole, backend)

    backend.queue.store = store


class WithHeart(Broken):
    """A whole store with a heart that has a defect."""

    def __init__(self, whole: Whole, backend: Backend, defect: type[BrokenHeart]) -> None:
        super().__init__(whole, backend)
        self._defect = defect

    async def heart(self, locks: bool) -> BrokenHeart:
        return self._defect(Whole(await self.whole.heart(locks)), self.backend)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not come is not waited for."""
    for module in (cancelling, managing, uniqueness, control, flow, leases, ticks, waking):
        monkeypatch.setattr(module, "WITHIN", 0.5)


@pytest.mark.parametrize("make", IN_MEMORY.values(), ids=IN_MEMORY)
@pytest.mark.parametrize(("defect", "check"), ELSEWHERE, ids=name)
def test_a_defect_is_caught(make: Any, defect: type[Broken], check: Check) -> None:
    with closing(make()) as backend:
        fails(backend, defect, check)


@pytest.fixture
def backend(emptied_url: str) -> Iterator[Backend]:
    with closing(threaded_on_postgres(emptied_url)) as made:
        yield made


@pytest.mark.parametrize(("defect", "check"), IN_DATABASE, ids=name)
def test_a_defect_that_only_a_database_shows_is_caught(backend: Backend, defect: type[Broken], check: Check) -> None:
    fails(backend, defect, check)


def test_each_test_of_these_groups_catches_a_defect() -> None:
    checks = {name for group in GROUPS for name in vars(group) if name.startswith("test_")}
    assert checks == {check.__name__ for _, check in CASES}
