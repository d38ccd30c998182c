"""Which ticks are due, whatever the clocks say; and the one id that a tick has."""

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import RFC_4122

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from fang_core import MemoryQueue, Runnable, TaskConfig, UsageError
from fang_core.backends.memory.state import MemoryState
from fang_core.backends.scheduling import tick_id
from fang_core.backends.ticking import LOOK_AGAIN, READ_AGAIN_AFTER, Timetable, next_tick
from fang_core.backends.ticks import ScheduleState
from fang_core.schedules.schedule import Cron, ScheduleOnce
from fang_core.schedules.stored import Schedules
from fang_core.tasks.insertion import Rules
from fang_core.tasks.registry import Registry

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


def seconds(n: float) -> timedelta:
    return timedelta(seconds=n)


@pytest.fixture(scope="module")
def classes() -> Iterator[dict[str, Any]]:
    """Kinds are global, and every pool of the process ticks those of its types: these stay among themselves."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fang_core.tasks.runnable.REGISTRY", Registry())

        class EverySecond(Runnable):
            task_config = TaskConfig(task_type="ticks", cron=Cron("* * * * * *"))

            def run(self, queue: Any) -> None: ...

        class EveryTenSeconds(Runnable):
            task_config = TaskConfig(task_type="ticks", cron=Cron("*/10 * * * * *"))

            def run(self, queue: Any) -> None: ...

        class Once(Runnable):
            task_config = TaskConfig(task_type="ticks", cron=ScheduleOnce(NOON))

            def run(self, queue: Any) -> None: ...

        class Elsewhere(Runnable):
            task_config = TaskConfig(task_type="elsewhere", cron=Cron("* * * * * *"))

            def run(self, queue: Any) -> None: ...

        class Unscheduled(Runnable):
            task_config = TaskConfig(task_type="ticks")

            def run(self, queue: Any) -> None: ...

        yield {cls.__name__: cls for cls in (EverySecond, EveryTenSeconds, Once, Elsewhere, Unscheduled)}


def timetable(classes: dict[str, Any], *names: str) -> Timetable:
    table = Timetable(("ticks",), Rules())
    table.serve({name: classes[name] for name in names})
    return table


def test_it_serves_the_schedules_of_its_task_types(classes: dict[str, Any]) -> None:
    assert timetable(classes, *classes).names == ["EverySecond", "EveryTenSeconds", "Once"]


def test_old_and_new_pools_make_one_tick_of_a_renamed_class() -> None:
    """The schedule goes by the first of its kinds, whichever release the pool is of."""
    state = MemoryState(clock=lambda: NOON)
    releases: list[tuple[str, tuple[str, ...]]] = [
        ("SendNews", ()),
        ("SendPaper", ("SendNews",)),
        ("Deliver", ("SendNews", "SendPaper")),
    ]
    tables = []
    for kind, former in releases:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("fang_core.tasks.runnable.REGISTRY", release := Registry())

            class News(Runnable):
                task_config = TaskConfig(kind=kind, former_kinds=former, task_type="ticks", cron=Cron("@hourly"))

                def run(self, queue: Any) -> None: ...

        tables.append(Timetable(("ticks",), Rules()))
        tables[-1].serve(release.kinds("threaded"))
        assert tables[-1].names == ["SendNews"]
    for table in tables:
        table.saw(state.schedules.read(table.names), 0.0)
    made = [state.schedules.tick(table.tick(name, at)) for table in tables for name, at in table.due(3600.0)]

    assert made == [True, False, False]
    assert [(task.kind, task.scheduled_at) for task in state.tasks.values()] == [("SendNews", NOON + seconds(3600))]


def test_without_schedules_there_is_nothing_to_wait_for(classes: dict[str, Any]) -> None:
    table = timetable(classes, "Unscheduled", "Elsewhere")
    assert table.must_look(0.0)
    table.saw(ScheduleState(NOON, {}), 0.0)
    assert not table.must_look(0.0)
    assert table.due(0.0) == []
    assert table.seconds_until_next(0.0) == READ_AGAIN_AFTER


def test_first_sight_makes_no_backfill(classes: dict[str, Any]) -> None:
    table, state = timetable(classes, "EverySecond"), MemoryState(lambda: NOON)
    assert table.must_look(0.0)
    table.saw(state.schedules.read(table.names), 0.0)
    assert not table.must_look(0.0)
    assert table.due(0.0) == []
    assert table.seconds_until_next(0.25) == 0.75
    assert table.due(1.0) == [("EverySecond", NOON + seconds(1))]


@pytest.mark.parametrize("missed", [1, 2, 59, 100_000])
def test_of_missed_ticks_the_latest_is_due(classes: dict[str, Any], missed: int) -> None:
    table = timetable(classes, "EverySecond")
    table.saw(ScheduleState(NOON, {"EverySecond": NOON - seconds(missed)}), 0.0)
    assert table.due(0.5) == [("EverySecond", NOON)]
    table.ticked("EverySecond", NOON)
    assert table.due(0.5) == []


def test_what_happens_once_is_due_once_however_late(classes: dict[str, Any]) -> None:
    table = timetable(classes, "Once")
    table.saw(ScheduleState(NOON + timedelta(days=9), {"Once": NOON - seconds(1)}), 0.0)
    assert table.due(0.0) == [("Once", NOON)]
    table.ticked("Once", NOON)
    assert table.due(1e6) == []
    assert table.seconds_until_next(0.0) == READ_AGAIN_AFTER


def test_a_tick_ahead_that_was_scheduled_by_hand_is_not_due_again(classes: dict[str, Any]) -> None:
    table = timetable(classes, "EveryTenSeconds")
    table.saw(ScheduleState(NOON, {"EveryTenSeconds": NOON + seconds(10)}), 0.0)
    assert table.due(15.0) == []
    assert table.due(20.0) == [("EveryTenSeconds", NOON + seconds(20))]


def test_a_schedule_that_another_pool_is_just_adding_is_asked_for_again_soon(classes: dict[str, Any]) -> None:
    table = timetable(classes, "EverySecond", "Once")
    table.saw(ScheduleState(NOON, {"Once": NOON}), 0.0)
    assert table.must_look(0.0)
    assert table.seconds_until_next(0.0) == LOOK_AGAIN


def test_a_class_that_is_learned_later_is_asked_for(classes: dict[str, Any]) -> None:
    table = timetable(classes, "EverySecond")
    table.saw(ScheduleState(NOON, {"EverySecond": NOON}), 0.0)
    table.serve({name: classes[name] for name in ("EverySecond", "EveryTenSeconds")})
    assert table.must_look(0.0)


def test_the_backend_is_asked_again_after_a_while(classes: dict[str, Any]) -> None:
    table = timetable(classes, "EveryTenSeconds")
    table.saw(ScheduleState(NOON, {"EveryTenSeconds": NOON}), 7.0)
    assert not table.must_look(7.0 + READ_AGAIN_AFTER - 0.1)
    assert table.must_look(7.0 + READ_AGAIN_AFTER)


steps = st.lists(
    st.tuples(st.integers(0, 1), st.floats(0, 90), st.sampled_from([0.0, 0.0, -5.0, 0.001, 30.0])), max_size=40
)


@given(steps)
def test_a_tick_that_was_done_is_never_due_again_whatever_the_clocks_do(
    classes: dict[str, Any], steps: list[tuple[int, float, float]]
) -> None:
    """Two pools over one backend whose clock may jump; each pool's monotonic clock has a start of its own."""
    now, mono = NOON, [3.0, 5_000.0]
    state = MemoryState(lambda: now)
    pools = [timetable(classes, "EverySecond", "EveryTenSeconds") for _ in mono]
    done: Counter[tuple[str, datetime]] = Counter()
    for pool, elapsed, jump in steps:
        table = pools[pool]
        mono = [each + elapsed for each in mono]
        now += seconds(elapsed + jump)
        if table.must_look(mono[pool]):
            table.saw(state.schedules.read(table.names), mono[pool])
        for name, at in table.due(mono[pool]):
            if state.schedules.tick(table.tick(name, at)):
                done[name, at] += 1
            table.ticked(name, at)
            assert (name, at) not in table.due(mono[pool])
            assert all(later > at for same, later in table.due(mono[pool]) if same == name)
        assert table.due(mono[pool]) == []
        assert 0 <= table.seconds_until_next(mono[pool]) <= READ_AGAIN_AFTER
    rows = Counter((task.kind, task.scheduled_at) for task in state.tasks.values())
    assert set(rows) == set(done)
    assert all(count == 1 for count in rows.values())


# Ids ------------------------------------------------------------------------------------------------------------------

times = st.datetimes(datetime(1970, 1, 1), datetime(9000, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - as it wants


@given(st.text(max_size=20), times, st.integers(-23, 23))
def test_a_tick_has_one_id_in_every_zone(name: str, at: datetime, offset: int) -> None:
    made = tick_id(name, at)
    assert made == tick_id(name, at.astimezone(timezone(timedelta(hours=offset))))
    assert (made.version, made.variant) == (7, RFC_4122)
    assert made.int >> 80 == (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


@given(st.text(max_size=20), st.text(max_size=20), times, times)
def test_different_ticks_have_different_ids(name: str, other: str, at: datetime, later: datetime) -> None:
    assert (tick_id(name, at) == tick_id(other, later)) == ((name, at) == (other, later))


# By hand --------------------------------------------------------------------------------------------------------------


def test_the_next_tick_by_hand_is_the_one_that_a_pool_would_make(classes: dict[str, Any]) -> None:
    table = timetable(classes, "EverySecond")
    by_hand = next_tick(classes["EverySecond"](), Schedules(NOON, []), Rules())
    assert by_hand == table.tick("EverySecond", NOON + seconds(1))
    assert by_hand.row.id == tick_id("EverySecond", NOON + seconds(1))


def test_a_class_without_a_next_tick_cannot_be_scheduled(classes: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"Unscheduled has no schedule: give it TaskConfig\(cron="):
        next_tick(classes["Unscheduled"](), Schedules(NOON, []), Rules())
    with pytest.raises(UsageError, match="Once has no tick left"):
        next_tick(classes["Once"](), Schedules(NOON, []), Rules())


def test_scheduling_twice_in_memory_makes_one_task(classes: dict[str, Any]) -> None:
    queue = MemoryQueue(clock=lambda: NOON)
    first = queue.schedule_task(classes["EveryTenSeconds"]())
    second = queue.schedule_task(classes["EveryTenSeconds"]())
    assert (first.conflict, second.conflict) == (False, True)
    assert first.scheduled_at == NOON + seconds(10)
    assert [task.id for task in queue.tasks] == [first.id] == [second.id]


def test_a_default_that_would_end_the_thread_is_an_error_of_the_class() -> None:
    is_there = False

    def leave() -> int:
        if is_there:
            raise SystemExit
        return 0

    class Leaving(Runnable):
        task_config = TaskConfig(task_type="ticks", cron=Cron("* * * * * *"))
        n: int = Field(default_factory=leave)

        def run(self, queue: Any) -> None: ...

    is_there = True
    with pytest.raises(UsageError, match="Leaving cannot be built without arguments: SystemExit"):
        timetable({"Leaving": Leaving}, "Leaving").tick("Leaving", NOON)
