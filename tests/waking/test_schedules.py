"""Schedules that pools tick: once for each tick, whatever happens to the pools, on Postgres and in memory."""

import asyncio
import logging
import types
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest
from pydantic import Field

from fang_core import AsyncRunnable, RetentionMode, Runnable, TaskConfig
from fang_core.backends.memory.state import MemoryState
from fang_core.schedules.schedule import Cron, ScheduleOnce
from fang_core.schedules.stored import ScheduleInfo
from tests.modes import GATES, RAN, Database, Harness, eventually, ran

SECOND: Final = timedelta(seconds=1)
NEW_YEAR: Final = datetime(datetime.now(UTC).year, 1, 1, tzinfo=UTC)
YEARS_AGO: Final = NEW_YEAR - timedelta(days=3_000)
YEARLY: Final = Cron("0 0 1 1 *")
BROKEN: Final[set[str]] = set()
"""Kinds that do not build."""


def define(
    mode: str, name: str, cron: Cron | ScheduleOnce, task_type: str, uniq: bool = False, waits: bool = False
) -> Any:
    """A class with a schedule. Every pool of its task type ticks it, so each test has types of its own."""
    kind = f"tests.{name}.{mode}"

    def run(self: Any, queue: Any) -> None:
        RAN.put(self.n)
        if waits:
            GATES["gate"].wait()

    async def run_async(self: Any, queue: Any) -> None:
        await asyncio.to_thread(run, self, queue)

    def body(scope: dict[str, Any]) -> None:
        scope["__module__"] = __name__
        scope["__annotations__"] = {"n": int}
        scope["n"] = Field(default_factory=lambda: 1 // (kind not in BROKEN))
        scope["task_config"] = TaskConfig(kind=kind, task_type=task_type, cron=cron, uniq=uniq, max_retries=0)
        scope["run"] = run if mode == "threaded" else run_async

    return types.new_class(name, (Runnable if mode == "threaded" else AsyncRunnable,), exec_body=body)


def both(*definition: Any, **options: Any) -> dict[str, Any]:
    """The class by mode."""
    return {mode: define(mode, *definition, **options) for mode in ("threaded", "async")}


def kind_of(cls: Any) -> str:
    kind: str = cls.task_config["kind"]
    return kind


EVERY_SECOND = both("EverySecond", Cron("* * * * * *"), "every-second")
OVERDUE = both("Overdue", YEARLY, "overdue")
ELSEWHERE = both("Elsewhere", YEARLY, "elsewhere")
FRAGILE = both("Fragile", YEARLY, "fragile")
REFUSED = both("Refused", YEARLY, "fragile")
STURDY = both("Sturdy", YEARLY, "fragile")
UNIQUE = both("Unique", YEARLY, "unique", uniq=True, waits=True)
BESIDE = both("Beside", YEARLY, "unique")


class InPostgres:
    def __init__(self, harness: Harness, url: str, database: Database) -> None:
        self._database = database
        self.queue: Callable[[], Any] = lambda: harness.queue(url)

    def now(self) -> datetime:
        ((now,),) = self._database.rows("SELECT clock_timestamp()")
        return now

    def set_last_tick(self, name: str, at: datetime) -> None:
        self._database.execute("INSERT INTO fang.fang_schedules VALUES (%s, %s)", name, at)

    def last_ticks(self) -> dict[str, datetime]:
        return dict(self._database.rows("SELECT name, last_tick FROM fang.fang_schedules"))

    def ticks(self, kind: str) -> list[datetime]:
        """When its tasks were due, one for each row."""
        statement = "SELECT scheduled_at FROM fang.fang_tasks WHERE kind = %s ORDER BY 1"
        return [at for (at,) in self._database.rows(statement, kind)]


class InMemory:
    def __init__(self, harness: Harness) -> None:
        self._state = MemoryState()
        self.queue: Callable[[], Any] = lambda: harness.memory_queue(self._state)

    def now(self) -> datetime:
        return datetime.now(UTC)

    def set_last_tick(self, name: str, at: datetime) -> None:
        self._state.schedules.rows[name] = ScheduleInfo(name, at)

    def last_ticks(self) -> dict[str, datetime]:
        return {name: row.last_tick for name, row in self._state.schedules.rows.items()}

    def ticks(self, kind: str) -> list[datetime]:
        tasks = list(self._state.tasks.values())
        return sorted(task.scheduled_at for task in tasks if task.kind == kind)


@pytest.fixture(params=["postgres", "memory"])
def backend(request: pytest.FixtureRequest, harness: Harness) -> Iterator[InPostgres | InMemory]:
    if request.param == "memory":
        yield InMemory(harness)
    else:
        yield InPostgres(harness, request.getfixturevalue("url"), request.getfixturevalue("database"))
    harness.end()  # before the database goes


@pytest.fixture(autouse=True)
def nothing_broken() -> Iterator[None]:
    yield
    BROKEN.clear()


KEPT: Final = RetentionMode.KEEP_ALL


def test_each_tick_makes_one_task_however_many_pools_come_and_go(
    harness: Harness, backend: InPostgres | InMemory
) -> None:
    began = backend.now()
    queues = [backend.queue(), backend.queue()]

    def start(queue: Any) -> Any:
        return harness.pool(queue, task_type="every-second", retention_mode=KEPT)

    pools = [start(queue) for queue in (*queues, queues[0])]
    for pool in pools:
        assert len(ran()) == 1
        start(queues[1])
        harness.stop(pool)
    ticks = backend.ticks(kind_of(EVERY_SECOND[harness.mode]))
    assert len(ticks) >= 3
    assert began < ticks[0]
    assert ticks == [ticks[0] + n * SECOND for n in range(len(ticks))]


def test_of_missed_ticks_the_latest_runs(harness: Harness, backend: InPostgres | InMemory) -> None:
    kind = kind_of(OVERDUE[harness.mode])
    backend.set_last_tick(kind, YEARS_AGO)
    for _ in range(2):
        harness.pool(backend.queue(), task_type="overdue", retention_mode=KEPT)
    ran()
    eventually(lambda: backend.last_ticks() == {kind: NEW_YEAR})
    assert backend.ticks(kind) == [NEW_YEAR]


def test_a_schedule_of_another_task_type_is_left_alone(harness: Harness, backend: InPostgres | InMemory) -> None:
    elsewhere, overdue = kind_of(ELSEWHERE[harness.mode]), kind_of(OVERDUE[harness.mode])
    for kind in (elsewhere, overdue):
        backend.set_last_tick(kind, YEARS_AGO)
    harness.pool(backend.queue(), task_type="overdue", retention_mode=KEPT)
    ran()
    eventually(lambda: backend.last_ticks()[overdue] == NEW_YEAR)
    assert backend.last_ticks()[elsewhere] == YEARS_AGO
    assert backend.ticks(elsewhere) == []


def test_a_tick_that_was_scheduled_by_hand_is_not_made_again(harness: Harness, backend: InPostgres | InMemory) -> None:
    task_type = f"once.{type(backend).__name__}"
    at = backend.now() + timedelta(seconds=1.5)
    cls = define(harness.mode, task_type, ScheduleOnce(at), task_type)
    queue = backend.queue()

    def start() -> None:
        harness.pool(queue, task_type=task_type, retention_mode=KEPT, poll=timedelta(milliseconds=50))

    start()
    eventually(backend.last_ticks)
    first = harness.call(queue.schedule_task, cls())
    second = harness.call(queue.schedule_task, cls())
    start()
    assert (first.conflict, second.conflict) == (False, True)
    assert (first.id, first.scheduled_at) == (second.id, at)
    ran()
    eventually(lambda: backend.now() > at + timedelta(seconds=0.2))
    assert backend.ticks(kind_of(cls)) == [at]
    assert RAN.empty()


def test_schedules_that_fail_do_not_stop_the_others(
    harness: Harness, url: str, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    backend = InPostgres(harness, url, database)
    fragile, refused, sturdy = (kind_of(classes[harness.mode]) for classes in (FRAGILE, REFUSED, STURDY))
    for kind in (fragile, refused, sturdy):
        backend.set_last_tick(kind, YEARS_AGO)
    BROKEN.add(fragile)
    database.execute(f"ALTER TABLE fang.fang_tasks ADD CONSTRAINT no CHECK (metadata ->> 'type' <> '{refused}')")
    with caplog.at_level(logging.ERROR):
        harness.pool(backend.queue(), task_type="fragile", retention_mode=KEPT)
        ran()
    for kind in (fragile, refused):
        assert f"schedule {kind} could not tick" in caplog.text
        assert backend.ticks(kind) == []
        assert backend.last_ticks()[kind] == YEARS_AGO  # tried again in a minute
    assert backend.ticks(sturdy) == [NEW_YEAR]


def test_a_unique_tick_is_skipped_while_its_twin_runs(
    harness: Harness, backend: InPostgres | InMemory, caplog: pytest.LogCaptureFixture
) -> None:
    unique, beside = UNIQUE[harness.mode], BESIDE[harness.mode]
    for cls in (unique, beside):
        backend.set_last_tick(kind_of(cls), YEARS_AGO)
    queue = backend.queue()
    with caplog.at_level(logging.WARNING):
        harness.call(queue.insert_task, unique(), task_type="twins")
        harness.pool(queue, task_type="twins")
        ran()
        harness.pool(queue, task_type="unique", retention_mode=KEPT)
        ran()
        eventually(lambda: set(backend.last_ticks().values()) == {NEW_YEAR})
    assert NEW_YEAR not in backend.ticks(kind_of(unique))
    assert backend.ticks(kind_of(beside)) == [NEW_YEAR]
    assert not [record for record in caplog.records if "tick" in record.getMessage()]
