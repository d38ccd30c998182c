"""Ticker and maintenance without a pool: whatever their backend does, they go on, and they end when they are to."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from fang_core import BackendUnavailable, Cron, Runnable, SchemaError, TaskConfig
from fang_core.backends.pools import PruneRequest
from fang_core.backends.ticking import Timetable
from fang_core.backends.ticks import ScheduleState, Tick
from fang_core.backends.waking import SCHEDULES
from fang_core.config import PoolOptions
from fang_core.monitoring.history import Flush, Flushed
from fang_core.pool.maintenance import (
    ADOPT_BATCH,
    ADOPT_EVERY,
    BATCH,
    EVERY,
    FOLDS,
    NAME_AGAIN_AFTER,
    SHARE,
    Maintenance,
)
from fang_core.pool.ticker import Ticker
from fang_core.tasks.insertion import Rules
from tests.core.pool.fakes import FakeFlowStore, FakeRuntime, FakeStore

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
AWAY = BackendUnavailable("away")
ERRORS = [AWAY, ValueError("nobody expected this")]


class EveryMinute(Runnable):
    task_config = TaskConfig(cron=Cron("0 * * * * *"), task_type="ticked")

    def run(self, queue: Any) -> None: ...


class ScheduleStore(FakeStore):
    """Its clock begins at noon."""

    def __init__(self, runtime: FakeRuntime) -> None:
        super().__init__(runtime)
        self._began = runtime.now
        self.ticked: list[datetime] = []

    async def declare_schedules(
        self, declared: Mapping[str, Any], dropped: Sequence[str], again: bool = False, /
    ) -> None:
        await self._answer(None, "declare_schedules", *declared, *dropped, again)

    async def read_schedules(self, names: Sequence[str], *_: Any) -> ScheduleState:
        now = NOON + timedelta(seconds=self._runtime.now - self._began)
        last = max(self.ticked, default=NOON)
        state: ScheduleState = await self._answer(
            ScheduleState(now, dict.fromkeys(names, last)), "read_schedules", *names
        )
        return state

    async def tick(self, tick: Tick, /) -> bool | None:
        raised: bool | None = await self._answer(True, "tick", tick.at)
        if raised is not None:
            self.ticked.append(tick.at)
        return raised


class UpkeepStore(FakeFlowStore):
    async def prune(self, request: PruneRequest, /) -> int:
        count: int = await self._answer(0, "prune", request.limit)
        return count

    async def unknown_kinds(self, task_types: Sequence[str], /) -> list[str]:
        kinds: list[str] = await self._answer([], "unknown_kinds", *task_types)
        return kinds

    async def unserved_types(self, due_for: timedelta, /) -> list[str]:
        types: list[str] = await self._answer([], "unserved_types")
        return types

    async def tell_time(self) -> datetime:
        raise AssertionError

    async def flush_stats(self, writer: UUID, flush: Flush, /) -> Flushed:
        raise AssertionError

    async def fold_stats(self, keep: timedelta | None, limit: int, /) -> int:
        count: int = await self._answer(0, "fold_stats", keep, limit)
        return count


def minutes(*numbers: int) -> list[datetime]:
    return [NOON + timedelta(minutes=number) for number in numbers]


@pytest.fixture
def schedules(runtime: FakeRuntime) -> ScheduleStore:
    return ScheduleStore(runtime)


@pytest.fixture
def ticker(runtime: FakeRuntime, schedules: ScheduleStore) -> Ticker:
    timetable = Timetable(("ticked",), Rules(max_payload_bytes=1_000, duplicated_tasks=True))
    timetable.serve({"EveryMinute": EveryMinute})
    ticker = Ticker(runtime, schedules, timetable)
    ticker.start()
    runtime.settle()
    return ticker


@pytest.fixture
def upkeep(runtime: FakeRuntime) -> UpkeepStore:
    return UpkeepStore(runtime)


@pytest.fixture
def maintenance(runtime: FakeRuntime, upkeep: UpkeepStore) -> Maintenance:
    maintenance = Maintenance(runtime, upkeep, PoolOptions())
    maintenance.start()
    runtime.settle()
    return maintenance


def test_the_ticker_inserts_each_tick_at_its_time(
    ticker: Ticker, runtime: FakeRuntime, schedules: ScheduleStore
) -> None:
    runtime.advance(59.9)
    assert schedules.ticked == []
    runtime.advance(0.2)
    assert schedules.ticked == minutes(1)
    runtime.advance(120.0)
    assert schedules.ticked == minutes(1, 2, 3)


def test_a_class_is_declared_once_more_if_a_schedule_has_changed_however_often_that_fails(
    ticker: Ticker, runtime: FakeRuntime, schedules: ScheduleStore
) -> None:
    news, again = [("declare_schedules", "EveryMinute", is_again) for is_again in (False, True)]
    schedules.fail("declare_schedules", AWAY, times=2)
    ticker.on_told(SCHEDULES)
    runtime.advance(30.0)
    assert schedules.called("declare_schedules") == [news, again, again, again]


@pytest.mark.parametrize("error", ERRORS)
def test_no_error_ends_the_ticker(
    ticker: Ticker, runtime: FakeRuntime, schedules: ScheduleStore, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    schedules.fail("read_schedules", error, times=3)
    runtime.advance(200.0)
    assert schedules.ticked == minutes(1, 2, 3)
    failures = [record for record in caplog.records if "will be tried again" in record.message]
    assert [record.exc_info is not None for record in failures] == [error is not AWAY]
    assert len([record for record in caplog.records if "tick again" in record.message]) == 1


def test_a_tick_whose_reply_was_lost_is_asked_for_again(
    ticker: Ticker, runtime: FakeRuntime, schedules: ScheduleStore
) -> None:
    schedules.fail("tick", AWAY, times=2)
    runtime.advance(65.0)
    assert schedules.called("tick") == [("tick", at) for at in minutes(1, 1, 1)]


def test_a_task_that_cannot_be_inserted_holds_up_no_later_tick(
    ticker: Ticker, runtime: FakeRuntime, schedules: ScheduleStore, caplog: pytest.LogCaptureFixture
) -> None:
    schedules.fail("tick", ValueError("such a task cannot be built"))
    runtime.advance(125.0)
    assert schedules.called("tick") == [("tick", at) for at in minutes(1, 2)]
    assert len([record for record in caplog.records if "could not tick" in record.message]) == 1


def test_a_tick_of_a_schedule_that_is_just_written_to_is_asked_for_each_second(
    ticker: Ticker, runtime: FakeRuntime, schedules: ScheduleStore
) -> None:
    schedules.reply("tick", None, None)
    runtime.advance(62.5)
    assert schedules.called("tick") == [("tick", at) for at in minutes(1, 1, 1)]
    assert schedules.ticked == minutes(1)


def test_the_ticker_ends_when_it_is_closed(ticker: Ticker, runtime: FakeRuntime, schedules: ScheduleStore) -> None:
    runtime.call(ticker.close(1.0))
    runtime.advance(600.0)
    assert schedules.ticked == []


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("verb", ["prune", "unknown_kinds", "unserved_types", "fold_stats"])
def test_no_error_ends_maintenance(
    maintenance: Maintenance,
    runtime: FakeRuntime,
    upkeep: UpkeepStore,
    caplog: pytest.LogCaptureFixture,
    verb: str,
    error: Exception,
) -> None:
    upkeep.fail(verb, error)
    runtime.advance(3 * EVERY)
    assert len(upkeep.called(verb)) == 3
    assert [record.exc_info is not None for record in caplog.records] == [error is not AWAY, False]
    assert "maintenance works again" in caplog.messages[-1]


@pytest.mark.parametrize("verb", ["prune", "fold_stats"])
def test_a_part_that_never_works_holds_up_no_other_and_is_told_of_once(
    runtime: FakeRuntime, upkeep: UpkeepStore, caplog: pytest.LogCaptureFixture, verb: str
) -> None:
    """As when somebody has locked or dropped the table of the history: tasks without a lane would never be claimed."""
    Maintenance(runtime, upkeep, PoolOptions(), lambda: ["a"]).start()
    upkeep.fail(verb, SchemaError("table fang.fang_stats is missing"), times=10)
    runtime.advance(10 * EVERY + 1)
    assert len(upkeep.called(verb)) == len(upkeep.called("unserved_types")) == 10
    assert len(upkeep.called("adopt")) == 10 * EVERY / ADOPT_EVERY
    assert len(caplog.records) == 1
    runtime.advance(EVERY)
    assert "maintenance works again" in caplog.messages[-1]


def test_it_prunes_until_no_batch_is_full(maintenance: Maintenance, runtime: FakeRuntime, upkeep: UpkeepStore) -> None:
    upkeep.reply("prune", BATCH, BATCH, BATCH - 1)
    runtime.advance(EVERY)
    assert len(upkeep.called("prune")) == 3


def test_it_adds_up_the_history_until_nothing_is_left(
    maintenance: Maintenance, runtime: FakeRuntime, upkeep: UpkeepStore
) -> None:
    upkeep.reply("fold_stats", FOLDS, FOLDS - 1)
    runtime.advance(EVERY)
    assert upkeep.called("fold_stats") == 2 * [("fold_stats", timedelta(days=90), FOLDS)]


def test_a_pool_without_history_adds_up_none(runtime: FakeRuntime, upkeep: UpkeepStore) -> None:
    Maintenance(runtime, upkeep, PoolOptions(stats=False)).start()
    runtime.advance(EVERY)
    assert upkeep.called("fold_stats") == []


def test_it_stops_pruning_when_it_is_closed(
    maintenance: Maintenance, runtime: FakeRuntime, upkeep: UpkeepStore
) -> None:
    answers = runtime.event()
    upkeep.reply("prune", answers, BATCH, BATCH)
    runtime.advance(EVERY)
    closing = runtime.begin(maintenance.close(1.0))
    answers.set()
    runtime.settle()
    assert closing.has_ended
    assert len(upkeep.called("prune")) == 1


@pytest.mark.parametrize("verb", ["unknown_kinds", "unserved_types"])
def test_what_waits_in_vain_is_named_once_an_hour(
    maintenance: Maintenance, runtime: FakeRuntime, upkeep: UpkeepStore, caplog: pytest.LogCaptureFixture, verb: str
) -> None:
    upkeep.reply(verb, *[["Unknown"]] * 1_000)
    named: Callable[[], int] = lambda: len([line for line in caplog.messages if line.endswith("'Unknown'")])  # noqa: E731
    runtime.advance(NAME_AGAIN_AFTER)
    assert named() == 1
    runtime.advance(2 * EVERY)
    assert named() == 2


def test_tasks_without_a_lane_are_looked_for_while_the_pool_knows_managed_types(
    runtime: FakeRuntime, upkeep: UpkeepStore
) -> None:
    managed: list[str] = []
    maintenance = Maintenance(runtime, upkeep, PoolOptions(), lambda: managed)
    maintenance.start()
    runtime.advance(EVERY + 1)
    assert upkeep.called("adopt") == []
    managed.append("a")
    runtime.advance(ADOPT_EVERY)
    assert upkeep.called("adopt") == [("adopt", ("a",), ADOPT_BATCH)]
    upkeep.reply("adopt", False)
    runtime.advance(ADOPT_EVERY)
    assert len(upkeep.called("adopt")) == 3
    upkeep.calls.clear()
    runtime.advance(EVERY)
    assert len(upkeep.called("adopt")) == EVERY / ADOPT_EVERY
    assert len(upkeep.called("prune")) == 1
    managed.clear()
    runtime.advance(ADOPT_EVERY)
    upkeep.calls.clear()
    runtime.advance(3 * EVERY)
    assert (len(upkeep.called("adopt")), len(upkeep.called("prune"))) == (0, 3)


def test_a_new_pool_soon_looks_for_tasks_without_a_lane(runtime: FakeRuntime, upkeep: UpkeepStore) -> None:
    Maintenance(runtime, upkeep, PoolOptions(), lambda: ["a"]).start()
    runtime.advance(ADOPT_EVERY)
    assert len(upkeep.called("adopt")) == 1
    assert upkeep.called("prune") == []


def test_looks_for_tasks_without_a_lane_take_a_small_part_of_the_time(
    runtime: FakeRuntime, upkeep: UpkeepStore
) -> None:
    maintenance = Maintenance(runtime, upkeep, PoolOptions(), lambda: ["a"])
    maintenance.start()
    answers = runtime.event()
    runtime.advance(EVERY - ADOPT_EVERY)
    upkeep.calls.clear()
    upkeep.reply("adopt", answers)
    runtime.advance(ADOPT_EVERY)
    runtime.advance(0.3)
    answers.set()
    runtime.settle()
    assert len(upkeep.called("adopt")) == 1
    runtime.advance(0.3 / SHARE - 0.1)
    assert len(upkeep.called("adopt")) == 1
    runtime.advance(0.2)
    assert len(upkeep.called("adopt")) == 2
