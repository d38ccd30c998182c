"""Which ticks of schedules in the database are due, and what becomes of them: in memory, at times that a test sets."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fang_core import (
    Cron,
    Every,
    Limit,
    Overlap,
    Runnable,
    ScheduleInfo,
    TaskConfig,
    TaskState,
    UnknownSchedule,
    UsageError,
)
from fang_core.backends.memory.state import MemoryState
from fang_core.backends.pools import manual_pool
from fang_core.backends.scheduling import tick_id
from fang_core.backends.ticking import ASK_AGAIN, MOST_AT_ONCE, READ_AGAIN_AFTER, Timetable
from fang_core.backends.waking import SCHEDULES
from fang_core.lifecycle import Outcome
from fang_core.remarks import Remark
from fang_core.schedules.stored import Verdict, checked_backfill, declaration, jitter_of, judged, schedule_spec
from fang_core.tasks.insertion import NewTask, Overrides, Rules
from fang_core.tasks.managing import Pause
from fang_core.tasks.scheduling import in_order
from fang_core.tasks.stored import stored_options, stored_row

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
RULES = Rules()
ME = Remark("me", None)
MINUTE = timedelta(minutes=1)


class Report(Runnable):
    task_config = TaskConfig(kind="tests.stored.Report", task_type="stored")
    n: int = 1

    def run(self, queue: Any) -> None: ...


class Nightly(Runnable):
    task_config = TaskConfig(kind="tests.stored.Nightly", task_type="stored", cron="0 3 * * *")

    def run(self, queue: Any) -> None: ...


class World:
    """A backend in memory and one pool's timetable; both clocks go on together, unless the backend's jumps."""

    def __init__(self) -> None:
        self.now = NOON
        self.mono = 0.0
        self.state = MemoryState(lambda: self.now)
        self.tables = [Timetable(("stored",), RULES)]

    def put(self, name: str = "report", *, task: Any = None, **spec: Any) -> ScheduleInfo:
        row = Overrides().new_task(task or Report(), RULES)
        timing = {} if spec.keys() & {"cron", "at"} else {"every": MINUTE}
        return self.state.schedules.put(schedule_spec(name, **timing | spec), row, ME)

    def passes(self, **time: float) -> None:
        elapsed = timedelta(**time)
        self.now += elapsed
        self.mono += elapsed.total_seconds()

    def turn(self, table: Timetable | None = None) -> list[tuple[datetime, str]]:
        """One turn of a pool's ticker; the ticks that it asked for, and their verdicts."""
        table = table or self.tables[0]
        if table.must_look(self.mono):
            table.begin_look()
            assert table.saw(self.state.schedules.read(table.names, table.task_types, table.version), self.mono) == []
        made = []
        stopped = set()
        for name, at in table.due(self.mono):
            if name in stopped:
                continue
            verdict = self.state.schedules.tick_stored(table.tick(name, at))
            made.append((at, str(verdict)))
            if verdict is Verdict.WAITS:
                table.waits(name, self.mono)
            elif verdict in (Verdict.STALE, Verdict.PAUSED):
                table.mark_stale()
            else:
                table.ticked(name, at)
                continue
            stopped.add(name)
        return made

    def ticks(self) -> list[datetime]:
        """The times of the ticks of one turn."""
        return [at for at, verdict in self.turn() if verdict == Verdict.TICKED]

    def end(self, state: TaskState) -> None:
        """Ends the first task that goes on."""
        task = next(task for task in self.state.tasks.values() if task.state is TaskState.IN_PROGRESS)
        assert task.pool_id is not None
        assert self.state.complete(task.pool_id, [Outcome(task.id, task.attempt, state)])

    @property
    def states(self) -> list[str]:
        return [str(task.state) for task in self.state.tasks.values()]


@pytest.fixture
def world() -> World:
    return World()


def minutes(*numbers: int) -> list[datetime]:
    return [NOON + number * MINUTE for number in numbers]


def claim(world: World) -> None:

    pool = manual_pool(tick_id("pool", NOON))
    world.state.registry.register(pool)
    assert world.state.fetch_and_touch("stored", pool.id).task is not None


# When -----------------------------------------------------------------------------------------------------------------


def test_it_begins_when_it_is_put_and_ticks_with_its_arguments(world: World) -> None:
    world.put(task=Report(n=7))
    assert world.turn() == []
    assert world.tables[0].seconds_until_next(world.mono) == READ_AGAIN_AFTER
    world.passes(minutes=1)
    assert world.ticks() == minutes(1)
    (task,) = world.state.tasks.values()
    assert (task.metadata["n"], task.scheduled_at, task.id) == (7, minutes(1)[0], tick_id("report", minutes(1)[0]))


def test_putting_the_same_again_changes_nothing_and_loses_no_missed_tick(world: World) -> None:
    put = world.put()
    world.turn()
    world.passes(minutes=5)
    assert world.put() == put
    assert world.ticks() == minutes(5)


@pytest.mark.parametrize("other", [{"cron": "* * * * *"}, {"every": 2 * MINUTE}, {"until": NOON + timedelta(days=1)}])
def test_other_times_begin_anew(world: World, other: dict[str, Any]) -> None:
    world.put()
    world.passes(minutes=5)
    world.put(**other)
    assert world.turn() == []


def test_another_payload_takes_the_place_of_the_first_in_the_next_tick(world: World) -> None:
    world.put()
    world.passes(seconds=59)
    world.turn()
    world.put(task=Report(n=2))
    world.passes(seconds=1)
    assert world.turn() == [(minutes(1)[0], "stale")]
    assert world.ticks() == minutes(1)
    assert [task.metadata["n"] for task in world.state.tasks.values()] == [2]


def test_an_interval_is_counted_from_its_anchor(world: World) -> None:
    world.put(every=Every(timedelta(hours=1), NOON - timedelta(minutes=20)))
    world.turn()
    world.passes(minutes=59)
    assert world.ticks() == minutes(40)


def test_it_ticks_once_at_a_time(world: World) -> None:
    world.put(at=NOON + MINUTE)
    world.turn()
    world.passes(minutes=3)
    assert world.ticks() == minutes(1)
    world.passes(minutes=3)
    assert world.turn() == []


def test_nothing_ticks_after_its_end(world: World) -> None:
    world.put(until=NOON + 2 * MINUTE)
    world.turn()
    world.passes(minutes=9)
    assert world.ticks() == minutes(2)
    world.passes(minutes=9)
    assert world.turn() == []


moments = st.datetimes(datetime(1980, 1, 1), datetime(8000, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - as it wants


@given(st.timedeltas(timedelta(seconds=1), timedelta(days=400)), moments, moments)
def test_intervals_search_forward_and_backward_alike(interval: timedelta, anchor: datetime, moment: datetime) -> None:
    every, instant = Every(interval, anchor), timedelta(microseconds=1)
    tick = every.next_after(moment)
    assert tick is not None
    assert moment < tick <= moment + interval
    assert every.latest(moment, tick) == tick
    assert every.latest(moment, tick - instant) is None
    assert every.latest(tick - instant, tick + interval - instant) == tick


@given(st.timedeltas(timedelta(microseconds=1), timedelta(days=9)), st.text(max_size=9), st.integers(0, 10**9))
def test_jitter_is_the_same_each_time_and_within_its_limit(jitter: timedelta, name: str, second: int) -> None:
    at = NOON + timedelta(seconds=second)
    assert timedelta(0) <= jitter_of(name, at, jitter) < jitter
    assert jitter_of(name, at, jitter) == jitter_of(name, at, jitter)


def test_jitter_moves_the_task_and_not_the_tick(world: World) -> None:
    world.put(jitter=timedelta(hours=1))
    world.turn()
    world.passes(minutes=1)
    assert world.ticks() == minutes(1)
    (task,) = world.state.tasks.values()
    assert task.id == tick_id("report", minutes(1)[0])
    assert task.scheduled_at == minutes(1)[0] + jitter_of("report", minutes(1)[0], timedelta(hours=1))
    assert task.scheduled_at != minutes(1)[0]


def test_a_turn_searches_only_for_ticks_of_schedules_that_were_due(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thousands of schedules would take seconds, each second."""
    searched: list[str] = []
    search = Cron.next_after
    monkeypatch.setattr(Cron, "next_after", lambda cron, after: searched.append(cron.pattern) or search(cron, after))
    for minute in range(1, 10):
        world.put(f"at {minute}", cron=f"{minute} * * * *")
    table = world.tables[0]
    world.turn()
    table.seconds_until_next(world.mono)
    searched.clear()
    world.passes(seconds=61)
    assert world.ticks() == minutes(1)
    table.seconds_until_next(world.mono)
    assert set(searched) == {"1 * * * *"}
    world.state.schedules.pause("at 5", Pause(None, None, ME))
    table.mark_stale()
    searched.clear()
    world.turn()
    world.turn()
    assert len(searched) < 2 * 9


# Missed ticks ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "late", "made"),
    [
        ({}, 30, minutes(5)),
        ({"missed": "latest", "missed_within": timedelta(seconds=20)}, 30, []),
        ({"missed": "skip"}, 30, minutes(5)),
        ({"missed": "skip", "missed_within": timedelta(seconds=20)}, 30, []),
        ({"missed": "skip", "missed_within": timedelta(seconds=20)}, 10, minutes(5)),
        ({"missed": "all"}, 30, minutes(1, 2, 3, 4, 5)),
        ({"missed": "all", "missed_within": timedelta(minutes=2)}, 30, minutes(4, 5)),
    ],
)
def test_missed_ticks(world: World, policy: dict[str, Any], late: int, made: list[datetime]) -> None:
    world.put(**policy)
    world.turn()
    world.passes(minutes=5, seconds=late)
    assert world.ticks() == made
    assert world.turn() == []
    assert 0 < world.tables[0].seconds_until_next(world.mono) <= READ_AGAIN_AFTER + 1e-6
    world.passes(seconds=60 - late)
    assert world.ticks() == minutes(6)


def test_of_very_many_missed_ticks_some_are_made_at_a_time(world: World) -> None:
    world.put(every=timedelta(seconds=1), missed="all")
    world.turn()
    world.passes(seconds=MOST_AT_ONCE + 5)
    assert len(world.ticks()) == MOST_AT_ONCE
    assert world.tables[0].seconds_until_next(world.mono) == 0.0
    assert len(world.ticks()) == 5


def test_a_tick_that_became_too_late_on_its_way_is_not_made(world: World) -> None:
    world.put(missed="skip")
    world.turn()
    world.passes(minutes=1)
    ((name, at),) = world.tables[0].due(world.mono)
    world.passes(minutes=1, seconds=1)
    assert world.state.schedules.tick_stored(world.tables[0].tick(name, at)) is Verdict.LATE
    assert world.states == []


# Overlap --------------------------------------------------------------------------------------------------------------


def test_verdicts() -> None:
    waiting, running, ended = (TaskState.NEW, TaskState.RETRIED), (TaskState.IN_PROGRESS,), (None, TaskState.FINISHED)
    expected = {
        "allow": ("ticked", "ticked"),
        "skip": ("skipped", "skipped"),
        "queue_one": ("skipped", "waits"),
        "cancel_running": ("ticked", "ticked"),
    }
    for overlap in Overlap:
        assert {judged(overlap, state) for state in ended} == {Verdict.TICKED}
        assert (*{judged(overlap, state) for state in waiting}, *{judged(overlap, state) for state in running}) == (
            expected[overlap]
        )
        assert judged(overlap, TaskState.FAILED) is Verdict.TICKED
        assert judged(overlap, TaskState.FAILED, pause_on_failure=True) is Verdict.PAUSED


def test_a_tick_is_skipped_while_the_last_task_goes_on(world: World) -> None:
    world.put(overlap="skip")
    world.turn()
    for expected in ("ticked", "skipped", "skipped"):
        world.passes(minutes=1)
        assert [verdict for _, verdict in world.turn()] == [expected]
    claim(world)
    world.end(TaskState.FINISHED)
    world.passes(minutes=1)
    assert world.ticks() == minutes(4)


def test_one_tick_waits_for_the_end_of_the_last_run(world: World) -> None:
    world.put(overlap="queue_one")
    world.turn()
    world.passes(minutes=1)
    world.turn()
    claim(world)
    world.passes(minutes=1)
    assert world.turn() == [(minutes(2)[0], "waits")]
    assert world.turn() == []
    assert world.tables[0].seconds_until_next(world.mono) == ASK_AGAIN
    world.passes(minutes=1)
    assert world.turn() == [(minutes(3)[0], "waits")]
    world.end(TaskState.FINISHED)
    world.passes(seconds=ASK_AGAIN)
    assert world.ticks() == minutes(3)
    world.passes(minutes=1)
    assert [verdict for _, verdict in world.turn()] == ["skipped"]  # one waits already


def test_the_last_task_is_cancelled_for_the_next(world: World) -> None:
    world.put(overlap="cancel_running")
    world.turn()
    world.passes(minutes=1)
    world.turn()
    world.passes(minutes=1)
    assert world.ticks() == minutes(2)
    assert world.states == ["cancelled", "new"]
    claim(world)
    world.passes(minutes=1)
    assert world.ticks() == minutes(3)
    assert world.states == ["cancelled", "in_progress", "new"]
    requests = [task.cancel_request for task in world.state.tasks.values()]
    assert [None if each is None else each["by"] for each in requests] == ["schedule report", "schedule report", None]


def test_a_failure_pauses_the_schedule_until_somebody_resumes_it(world: World) -> None:
    world.put(pause_on_failure=True)
    world.turn()
    world.passes(minutes=1)
    world.turn()
    claim(world)
    world.end(TaskState.FAILED)
    world.passes(minutes=1)
    assert world.turn() == [(minutes(2)[0], "paused")]
    paused = world.state.schedules.rows["report"]
    assert paused.paused
    assert "has failed" in (paused.pause_reason or "")
    world.passes(minutes=5)
    assert world.turn() == []
    world.state.schedules.resume("report", ME)
    world.tables[0].mark_stale()
    assert world.turn() == []
    world.passes(minutes=1)
    assert world.ticks() == minutes(8)


# Changes --------------------------------------------------------------------------------------------------------------


def change(world: World, name: str) -> None:
    schedules = world.state.schedules
    match name:
        case "pause":
            schedules.pause("report", Pause(None, None, ME))
        case "remove":
            assert schedules.remove("report")
        case "put":
            world.put(overlap="skip")
        case "pause and resume":
            schedules.pause("report", Pause(None, None, ME))
            schedules.resume("report", ME)


@pytest.mark.parametrize("name", ["pause", "remove", "put", "pause and resume"])
def test_a_stale_timetable_makes_no_tick(world: World, name: str) -> None:
    world.put()
    world.turn()
    world.passes(seconds=59)
    change(world, name)
    world.passes(seconds=1)
    ((schedule, at),) = world.tables[0].due(world.mono)
    assert world.state.schedules.tick_stored(world.tables[0].tick(schedule, at)) is Verdict.STALE
    assert world.states == []


def test_ticks_that_fall_into_a_pause_are_not_made_up_for(world: World) -> None:
    world.put(missed="all")
    world.turn()
    world.state.schedules.pause("report", Pause(NOON + 3 * MINUTE, None, ME))
    world.passes(minutes=5)
    world.tables[0].mark_stale()
    assert world.ticks() == minutes(3, 4, 5)
    world.state.schedules.pause("report", Pause(None, None, ME))
    world.passes(minutes=5)
    world.state.schedules.resume("report", ME)
    world.tables[0].mark_stale()
    assert world.turn() == []


def test_a_schedule_that_is_removed_while_its_tick_waits_is_forgotten(world: World) -> None:
    table = world.tables[0]
    world.put()
    world.turn()
    world.passes(minutes=1)
    table.waits("report", world.mono)
    assert table._held_until
    assert world.state.schedules.remove("report")
    table.mark_stale()
    assert world.turn() == []
    assert not table._held_until


def test_every_change_tells_the_pools(world: World) -> None:
    told: list[Any] = []
    world.state.listeners.add(self := object(), ["stored"], lambda _: None, told.append)
    world.put()
    for name in ("pause", "pause and resume", "put", "remove"):
        told.clear()
        change(world, name)
        assert set(told) == {SCHEDULES}, name
    world.state.listeners.remove(self)


def test_what_a_person_puts_wins_over_the_class_until_it_is_removed(world: World) -> None:
    table = world.tables[0]
    table.serve({"tests.stored.Nightly": Nightly})
    world.state.schedules.declare(table.declared, table.dropped)
    world.turn()
    assert world.state.schedules.rows[Nightly.__fang_options__.kind].schedule == Cron("0 3 * * *")
    world.put("tests.stored.Nightly", task=Nightly())
    table.mark_stale()
    world.turn()
    world.passes(minutes=1)
    assert world.ticks() == minutes(1)
    info = world.state.schedules.rows["tests.stored.Nightly"]
    assert (info.schedule, (info.declared or {})["cron"]) == (Every(MINUTE, NOON), "0 3 * * *")
    assert world.state.schedules.remove("tests.stored.Nightly")
    table.mark_stale()
    assert world.turn() == []
    assert not table.is_stored("tests.stored.Nightly")
    world.passes(hours=16)
    assert table.due(world.mono) == [("tests.stored.Nightly", datetime(2026, 6, 2, 3, tzinfo=UTC))]


def test_the_schedule_of_a_class_can_be_paused(world: World) -> None:
    table = world.tables[0]
    table.serve({"tests.stored.Nightly": Nightly})
    world.turn()
    night = datetime(2026, 6, 2, 3, tzinfo=UTC)
    stale = table.tick("tests.stored.Nightly", night)
    world.state.schedules.declare(table.declared, [])
    world.state.schedules.pause("tests.stored.Nightly", Pause(None, None, ME))
    table.mark_stale()
    world.turn()
    world.passes(hours=16)
    assert table.due(world.mono) == []
    assert not world.state.schedules.tick(stale)
    world.state.schedules.resume("tests.stored.Nightly", ME)
    assert not world.state.schedules.tick(stale)
    assert world.states == []


def test_a_row_that_cannot_be_read_is_left_out_and_named(world: World) -> None:
    world.put()
    world.put("other")
    rows = world.state.schedules.rows
    rows["report"] = rows["report"]._replace(every=None, cron="never")
    table = world.tables[0]
    (error,) = table.saw(world.state.schedules.read([], ["stored"]), 0.0)
    assert str(error).startswith("schedule 'report' cannot be read: cron 'never'")
    world.passes(minutes=1)
    assert [name for name, _ in table.due(world.mono)] == ["other"]


def test_what_is_stored_of_a_task_is_read_back(world: World) -> None:
    overrides = Overrides(headers={"a": "b"}, timeout=MINUTE, expires=NOON, priority=-1, uniq=True)
    row = overrides.new_task(Report(n=3), RULES)
    info = ScheduleInfo("x", NOON, kind=row.kind, metadata=row.metadata, options=stored_options(row))
    assert stored_row(info, row.id) == row
    for spoilt, why in (
        (info._replace(options={}), ": put it again"),
        (info._replace(metadata="{}"), ": put it again"),
        (info._replace(metadata="[1"), ": put it again"),
        (info._replace(options={**stored_options(row), "priority": 99}), r" \(priority: Input should be less than"),
        (info._replace(options={**stored_options(row), "max_retries": "many"}), r" \(max_retries: Input should be"),
    ):
        with pytest.raises(UsageError, match=f"'x' holds no task{why}"):
            stored_row(spoilt, row.id)


def test_a_tick_has_the_key_that_its_class_makes_now(world: World) -> None:
    """The class may have got limits, or another key, in a deploy since the schedule was put."""

    class Export(Runnable):
        task_config = TaskConfig(kind="tests.stored.Export", task_type="stored", limits=[Limit(1, by="customer")])
        customer: str = "acme"

        def run(self, queue: Any) -> None: ...

    def lane_of(row: NewTask) -> str | None:
        options = {**stored_options(row), "lane": "before"}
        info = ScheduleInfo("x", NOON, kind=row.kind, metadata=row.metadata, options=options)
        return stored_row(info, row.id).lane

    row = Overrides().new_task(Export(customer="zenith"), RULES)
    assert lane_of(row) == "zenith"
    assert lane_of(row._replace(metadata='{"type": "tests.stored.Export", "customer": 7}')) == "before"
    assert lane_of(row._replace(kind="tests.stored.Elsewhere")) == "before"
    assert lane_of(Overrides().new_task(Report(), RULES)) == "before"  # a class without limits


# By hand --------------------------------------------------------------------------------------------------------------


def test_run_now_is_of_no_tick(world: World) -> None:
    world.put(overlap="skip", task=Report(n=5))
    task = world.state.schedules.run_now("report", uuid4(), RULES)
    assert (task.metadata["n"], task.scheduled_at) == (5, NOON)
    world.turn()
    world.passes(minutes=1)
    assert world.ticks() == minutes(1)
    with pytest.raises(UnknownSchedule, match="there is no schedule 'nothing'"):
        world.state.schedules.run_now("nothing", uuid4(), RULES)


def test_what_is_backfilled_expires_so_long_after_its_insert(world: World) -> None:
    row = Overrides(expires=MINUTE).new_task(Report(), RULES)
    world.state.schedules.put(schedule_spec("report", every=MINUTE, jitter=MINUTE), row, ME)
    world.state.schedules.backfill("report", checked_backfill(NOON - 2 * MINUTE, NOON), RULES)
    tasks = sorted(world.state.tasks.values(), key=lambda task: task.scheduled_at)
    assert [task.expires_at for task in tasks] == [max(NOON, task.scheduled_at) + MINUTE for task in tasks]
    assert tasks[0].scheduled_at < NOON - MINUTE


def test_a_backfill_may_begin_before_all_times(world: World) -> None:
    world.put(cron="@daily", tz="America/New_York")
    begin = datetime.min.replace(tzinfo=UTC)
    assert world.state.schedules.backfill("report", checked_backfill(begin, NOON, "skip"), RULES) == 1
    with pytest.raises(UsageError, match="more than 10000 ticks"):
        world.state.schedules.backfill("report", checked_backfill(begin, NOON), RULES)


def test_a_pause_that_has_ended_is_listed_no_more(world: World) -> None:
    world.put()
    world.state.schedules.pause("report", Pause(NOON + MINUTE, None, ME))
    assert in_order(world.state.schedules.list_all(), 0)[0].paused
    world.passes(minutes=1)
    (info,) = in_order(world.state.schedules.list_all(), 0)
    assert (info.paused, info.paused_until, info.paused_at, info.paused_by, info.pause_reason) == (False, *4 * [None])


@pytest.mark.parametrize("tz", [UTC, timezone(timedelta(hours=1), "CET"), timezone(timedelta(hours=-5, minutes=-30))])
def test_the_schedule_of_a_class_whose_zone_is_an_offset_is_listed_in_it(world: World, tz: timezone) -> None:
    declared = declaration("tests.stored.Offset", "stored", Cron("0 3 * * *", tz))
    world.state.schedules.declare({"offset": declared}, [])
    (info,) = in_order(world.state.schedules.list_all(), 1)
    assert {(tick.at.hour, tick.at.utcoffset()) for tick in info.upcoming} == {(3, tz.utcoffset(None))}


def test_a_backfill_makes_each_past_tick_once(world: World) -> None:
    world.put(missed="all")
    world.turn()
    world.passes(minutes=1)
    world.turn()
    world.passes(minutes=4, seconds=30)
    backfill = checked_backfill(NOON - 2 * MINUTE, NOON + 60 * MINUTE)
    assert world.state.schedules.backfill("report", backfill, RULES) == 7
    assert world.state.schedules.backfill("report", backfill, RULES) == 0
    assert sorted(task.scheduled_at for task in world.state.tasks.values()) == minutes(*range(-2, 6))
    assert world.ticks() == []


@pytest.mark.parametrize(("overlap", "made"), [("skip", 0), ("queue_one", 0), ("cancel_running", 1), ("allow", 4)])
def test_a_backfill_overlaps_as_it_is_told(world: World, overlap: str, made: int) -> None:
    world.put()
    world.turn()
    world.passes(minutes=1)
    world.turn()
    backfill = checked_backfill(NOON - 3 * MINUTE, NOON, overlap)
    assert world.state.schedules.backfill("report", backfill, RULES) == made
