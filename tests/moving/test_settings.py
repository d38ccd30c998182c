"""Schedules, pauses and limits move beside tasks: no schedule ticks in both queues, whenever the move is killed."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest

from fang_core import Cron, Limit, MemoryQueue, Overlap, Queueable, Runnable, ScheduleInfo, TaskConfig
from fang_core.backends.moving_settings import Kept, MovedSettings, SettingsMover
from fang_core.testing import Clock
from fang_threaded import WorkerPool
from tests.moving.killing import Countdown, Killed, Mortal
from tests.moving.places import opened

HOUR = timedelta(hours=1)
RAN: list[str] = []
PAIRS = [("memory", "sqlite"), ("sqlite", "postgres"), ("postgres", "redis"), ("redis", "memory")]
"""Each backend is once the source, and once the target."""


class Sweep(Runnable):
    task_config = TaskConfig(kind="moving.Sweep", task_type="sweeps")
    corner: str = "north"

    def run(self, queue: Queueable) -> None:
        RAN.append(self.corner)


class Hourly(Runnable):
    task_config = TaskConfig(kind="moving.Hourly", task_type="sweeps", cron=Cron("0 * * * *"))

    def run(self, queue: Queueable) -> None: ...


@pytest.fixture(params=PAIRS, ids="-".join)
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[Any, Any]]:
    source, target = request.param
    with opened(source, request) as here, opened(target, request) as there:
        yield here.queue, there.queue


def moved(source: Any, target: Any, *, calls: int = -1, types: Sequence[str] | None = None) -> MovedSettings:
    """Moves settings; with ``calls``, until it is killed before the next one."""
    countdown = Countdown(calls)
    mortals: Sequence[Any] = [Mortal(each, countdown) for each in (source, target)]
    return SettingsMover(*mortals, "there", types).move()


def names(queue: Any) -> list[str]:
    return sorted(info.name for info in queue.schedules.list())


def named(queue: Any, name: str) -> ScheduleInfo:
    info: ScheduleInfo = next(info for info in queue.schedules.list() if info.name == name)
    return info


def test_a_schedule_moves_as_it_is(pair: tuple[Any, Any]) -> None:
    source, target = pair
    until = datetime(2100, 1, 1, tzinfo=UTC)
    source.schedules.put(
        *("nightly", Sweep(corner="zoë")),
        cron=Cron("30 2 * * *", "Europe/Berlin"),
        overlap=Overlap.QUEUE_ONE,
        missed="all",
        missed_within=HOUR,
        jitter=timedelta(minutes=5),
        until=until,
        pause_on_failure=True,
        priority=-1,
        max_retries=3,
        headers={"a": "b"},
        reason="as agreed",
        by="ada",
    )
    source.schedules.put("often", Sweep(), every=timedelta(minutes=7), missed="skip")
    source.schedules.put("once", Sweep(), at=until)
    before = {info.name: info for info in source.schedules.list(ticks=3)}

    assert moved(source, target) == MovedSettings(["nightly", "often", "once"], [], [])

    assert names(source) == []
    for info in target.schedules.list(ticks=3):
        former = before[info.name]
        same = ("kind", "payload", "options", "cron", "every", "at", "anchor", "tz", "overlap", "missed", "until")
        same += ("missed_within", "jitter", "pause_on_failure", "paused", "upcoming", "changed_by", "change_reason")
        for name in same:
            assert getattr(info, name) == getattr(former, name), name
    assert moved(source, target) == MovedSettings([], [], [])


def test_a_paused_schedule_stays_paused(pair: tuple[Any, Any]) -> None:
    source, target = pair
    until = datetime(2100, 1, 1, tzinfo=UTC)
    source.schedules.put("nightly", Sweep(), cron="30 2 * * *")
    source.schedules.pause("nightly", until=until, reason="the broom broke", by="ada")
    assert moved(source, target).schedules == ["nightly"]
    info = named(target, "nightly")
    assert (info.paused, info.paused_until, info.paused_by) == (True, until, "ada")
    assert (info.pause_reason, info.until) == ("the broom broke", None)


def test_pauses_and_limits_are_copied(pair: tuple[Any, Any]) -> None:
    source, target = pair
    until = datetime(2100, 1, 1, tzinfo=UTC)
    source.pause("mail", until=until, reason="the server is down", by="ada")
    source.limits.set("sweeps", [Limit(3)], reason="one broom each", by="eve")

    assert moved(source, target) == MovedSettings([], ["mail", "sweeps"], [])

    mail, sweeps = target.limits.list()
    assert (mail.is_paused, mail.paused_until, mail.pause_reason, mail.paused_by) == (
        *(True, until, "the server is down", "ada"),
    )
    assert (sweeps.changed, sweeps.change_reason, sweeps.changed_by) == ((Limit(3),), "one broom each", "eve")
    assert [info.task_type for info in source.limits.list()] == ["mail", "sweeps"]
    assert moved(source, target) == MovedSettings([], [], [])


def test_what_the_target_has_stays_as_it_is_there() -> None:
    source, target = MemoryQueue(), MemoryQueue()
    for queue, corner, most in ((source, "north", 3), (target, "south", 4)):
        queue.schedules.put("nightly", Sweep(corner=corner), cron="30 2 * * *")
        queue.limits.set("sweeps", [Limit(most)])
        queue.pause("mail", until=timedelta(hours=most))
    before = (names(source), target.schedules.list(), target.limits.list())

    assert moved(source, target).kept == [
        Kept("the pause of mail", "the target has another pause of it"),
        Kept("the limits of sweeps", "others were set in the target"),
        Kept("schedule nightly", "the target has another one of this name"),
    ]
    assert (names(source), target.schedules.list(), target.limits.list()) == before


def test_a_schedule_that_the_application_has_put_into_both_leaves_the_source() -> None:
    source, target = MemoryQueue(), MemoryQueue()
    for queue in (source, target):
        queue.schedules.put("often", Sweep(), every=timedelta(minutes=7))
    target.schedules.pause("often", reason="not yet")
    assert moved(source, target).kept == []
    assert (names(source), named(target, "often").pause_reason) == ([], "not yet")


def test_only_those_of_some_types() -> None:
    source, target = MemoryQueue(), MemoryQueue()
    for task_type in ("one", "other"):
        source.schedules.put(f"nightly {task_type}", Sweep(), cron="30 2 * * *", task_type=task_type)
        source.pause(task_type)
    assert moved(source, target, types=["other"]) == MovedSettings(["nightly other"], ["other"], [])
    assert names(source) == ["nightly one"]


def test_a_limit_by_a_key_that_the_target_does_not_know_stays() -> None:
    source, target = MemoryQueue(), MemoryQueue()

    class Keyed(Runnable):
        task_config = TaskConfig(kind="moving.Keyed", task_type="moving.keyed", fair_by="site")
        site: str = "a"

        def run(self, queue: Queueable) -> None: ...

    WorkerPool(source, task_type="moving.keyed").drain()
    source.limits.set("moving.keyed", [Limit(2, by="site")])
    [kept] = moved(source, target).kept
    assert kept.what == "the limits of moving.keyed"
    assert "start a pool with it first" in kept.why
    assert target.limits.list() == []


def test_the_schedule_of_a_class_that_was_replaced_does_not_come_back_in_the_source() -> None:
    source, target = MemoryQueue(), MemoryQueue()
    for queue in (source, target):
        WorkerPool(queue, task_type="sweeps").drain()  # which declares the class
    source.schedules.put("moving.Hourly", Hourly(), cron="0 3 * * *")
    assert moved(source, target).schedules == ["moving.Hourly"]
    assert named(target, "moving.Hourly").cron == "0 3 * * *"
    left = named(source, "moving.Hourly")
    assert (left.paused, left.paused_by, left.pause_reason) == (True, "fang move", "it was moved to there")

    target.schedules.remove("moving.Hourly")
    assert moved(source, target) == MovedSettings([], [], [])  # whoever removed it there is obeyed
    assert not named(target, "moving.Hourly").is_stored


def test_a_paused_schedule_of_a_class_is_paused_once_the_target_knows_the_class() -> None:
    source, target = MemoryQueue(), MemoryQueue()
    WorkerPool(source, task_type="sweeps").drain()
    source.schedules.pause("moving.Hourly", reason="too often")
    [kept] = moved(source, target).kept
    assert kept.why.endswith("no worker on the target has had its class: start one, and run the move again")

    WorkerPool(target, task_type="sweeps").drain()
    assert moved(source, target) == MovedSettings(["moving.Hourly"], [], [])
    assert named(target, "moving.Hourly").pause_reason == "too often"


def test_a_move_to_elsewhere_that_was_killed_is_named() -> None:
    source, target = MemoryQueue(), MemoryQueue()
    source.schedules.put("nightly", Sweep(), cron="30 2 * * *")
    source.schedules.pause("nightly", by="fang move", reason="it is being moved to elsewhere")
    assert moved(source, target).kept == [
        Kept("schedule nightly", "it is being moved to elsewhere: run that move again first, or resume it")
    ]
    assert names(target) == []


def work(*queues: Any) -> None:
    """Has a pool on each queue make the ticks that are due, and run what they insert."""
    for queue in queues:
        with WorkerPool(queue, task_type="sweeps") as pool:
            pool.drain()


@pytest.mark.parametrize("paused", [False, True])
def test_whenever_it_is_killed_no_tick_is_made_twice_or_left_out(paused: bool) -> None:
    """Killed before each of its calls in turn, with an hour between a kill and the next run."""
    for calls in count():
        RAN.clear()
        clock = Clock(datetime(2030, 1, 1, 0, 10, tzinfo=UTC))
        source, target = MemoryQueue(clock=clock), MemoryQueue(clock=clock)
        source.schedules.put("hourly", Sweep(), cron="0 * * * *", missed="all")
        if paused:
            source.schedules.pause("hourly", until=timedelta(days=2), reason="the broom broke", by="ada")
        clock.advance(timedelta(minutes=90))  # a tick is due, which no pool has made
        try:
            moved(source, target, calls=calls)
        except Killed:
            is_killed = True
        else:
            is_killed = False
        work(source, target)
        clock.advance(HOUR)
        work(source, target)
        moved(source, target)
        work(source, target)

        assert len(RAN) == (0 if paused else 2), calls
        assert not any(info.is_stored for info in source.schedules.list())
        info = named(target, "hourly")
        assert (info.until, info.paused, info.pause_reason) == (None, paused, "the broom broke" if paused else None)
        if not is_killed:
            return
