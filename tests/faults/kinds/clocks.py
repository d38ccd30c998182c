"""Wall clocks that are wrong, or jump: those of workers, and that of the database: F38 and F39."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any, Final, Literal

from fang_core import Overlap
from fang_core.backends.scheduling import tick_id
from fang_core.backends.ticking import READ_AGAIN_AFTER
from fang_core.flow.limits import settings_of
from fang_threaded import Queue
from tests.faults import audit
from tests.faults.aftermath import assert_nobody_died
from tests.faults.fleet import Worker
from tests.faults.flow_tasks import LIMITED, LIMITS, RATED
from tests.faults.kinds.flow import GIVEN, Manager, assert_rates_held, of_keys
from tests.faults.nursery import Nursery
from tests.faults.ownserver import own_server
from tests.faults.registry import BOUND, fault
from tests.faults.tasks import Blocking, Cooperative
from tests.faults.trial import MODES, Trial
from tests.faults.wallclock import WallClock, wall_clock

HOUR: Final = 3600.0
DAY: Final = 24 * HOUR
LATE: Final = 3.0
"""Seconds after a task is due within which it is claimed, on two busy cores."""

LATE_BY_JUMP: Final = 6.0
"""The same after the clock of the database has jumped: a pool that sleeps may find the task at its next poll."""

SCHEDULE: Final = "each second"
PERIOD: Final = timedelta(seconds=1)

JUMPS: Final = (HOUR, -HOUR, 0, 10 * DAY, -10 * DAY, 1.5, -0.5, 0)

SHOWN_BY_JUMPS: Final = (
    *((HOUR, True), (-HOUR, False), (HOUR + 5, True), (0, False)),
    *((10 * DAY, True), (-10 * DAY, False), (10 * DAY - 3, True)),
)
"""How far the clock is ahead, and whether it then shows a time within seconds that it has not shown before."""

WINDOW: Final = timedelta(seconds=20)
ONCE: Final = "once"


@fault("F38", "workers' clocks an hour ahead and an hour behind, others right", also=("I8",), given=GIVEN)
def wrong_clocks(trial: Trial) -> None:
    """Tasks are due, schedules tick, limits and rates hold by the database's clock, and nobody is taken for dead."""
    trial.start()
    workers: list[Worker] = []
    for seconds in (HOUR, -HOUR):
        clock = trial.lasting.enter_context(wall_clock())
        clock.move(seconds)
        workers += _start_with(trial, clock)
    with _ticking(trial):
        manager = Manager(trial, LIMITED, settings_of(LIMITS))
        for _ in range(8):
            _insert_all(trial)
            time.sleep(0.5)
        _assert_on_time(trial, manager)
        _kill_each(trial, workers)


@fault("F39", "workers' clocks that jump while they work, by seconds, hours and days", also=("I8",), given=GIVEN)
def jumping_clocks(trial: Trial) -> None:
    """As F38."""
    clock = trial.lasting.enter_context(wall_clock())
    workers = _start_with(trial, clock)
    with _ticking(trial):
        manager = Manager(trial, LIMITED, settings_of(LIMITS))
        for seconds in JUMPS:
            _insert_all(trial)
            clock.move(seconds)
            time.sleep(0.7)
        _assert_on_time(trial, manager)
        clock.move(HOUR)
        _kill_each(trial, workers)


@fault(
    "F39 of the database",
    "the database's clock jumps, an hour and ten days ahead, and back: tasks inserted since run, also limited ones",
    also=("I8",),
    given=GIVEN,
)
def jumping_database(trial: Trial) -> None:
    """What waits for a time goes on to; nothing ticks twice; nobody is taken for dead but those who are."""
    clock = _start_on_a_server_with_a_clock(trial)
    with _ticking(trial, missed="latest"):
        for seconds in JUMPS:
            clock.move(seconds)
            now = time.monotonic()
            trial.expect(trial.insert(8), now, LATE_BY_JUMP)
            trial.expect(trial.insert_made(of_keys(trial, LIMITED, 1)), now, LATE_BY_JUMP)
            trial.expect(trial.insert_made(of_keys(trial, RATED, 1)), now, LATE_BY_JUMP)
            trial.settle()
            time.sleep(1)
        assert_nobody_died(trial)
        for seconds in (HOUR, -HOUR):
            clock.move(seconds)
            _kill_each(trial, trial.fleet.alive)
        clock.move(0)


@fault(
    "F39 of schedules",
    "the database's clock jumps, an hour and ten days ahead, and back, under schedules of each kind",
    also=("I8",),
    given=GIVEN,
)
def jumping_schedules(trial: Trial) -> None:
    """No tick is made twice, or for a time that the clock has jumped over; none is left out once the clock shows it."""
    clock = _start_on_a_server_with_a_clock(trial)
    made_for = {"missed": "all", "missed_within": WINDOW}
    timings: dict[str, dict[str, Any]] = {
        "interval": {"every": PERIOD, **made_for},
        "pattern": {"cron": "* * * * * *"},
        "jitter": {"cron": "* * * * * *", "jitter": PERIOD / 2, **made_for},
        **{str(overlap): {"every": PERIOD, "overlap": overlap, "missed": "skip"} for overlap in Overlap},
    }
    shown: list[tuple[datetime, datetime]] = []
    with Queue(trial.url) as queue:
        began = _now(trial)
        for name, timing in timings.items():
            queue.schedules.put(name, _class(trial)(), **timing)
        queue.schedules.put(ONCE, _class(trial)(), at=began + timedelta(seconds=HOUR / 2))

        def all_tick() -> None:
            """Until each schedule has made, or left out, a tick of a time that the clock has not shown before."""
            since, behind = _now(trial), "SELECT count(*) FROM fang.fang_schedules WHERE last_tick < %s AND name <> %s"
            trial.until(lambda: trial.rows(behind, since, ONCE) == [(0,)], READ_AGAIN_AFTER + LATE_BY_JUMP)

        all_tick()
        for seconds, is_new in SHOWN_BY_JUMPS:
            shown.append((began, _until(trial)))
            clock.move(seconds)
            began = _now(trial)
            if is_new:
                all_tick()
            else:
                time.sleep(2)
        shown.append((began, _until(trial)))
        for name in (*timings, ONCE):
            assert queue.schedules.remove(name)
    trial.settle()
    clock.move(0)
    ticks = _ticks_of(trial, [*timings, ONCE])
    for name, made in ticks.items():
        assert len(set(made)) == len(made), f"a tick of {name} was made twice"
        early = [at for at in made if not any(begin - WINDOW <= at <= end for begin, end in shown)]
        assert name == ONCE or not early, f"{name} made up for ticks that the clock has jumped over: {early}"
    assert len(ticks[ONCE]) == 1
    assert_nobody_died(trial)


def _now(trial: Trial) -> datetime:
    now: datetime = trial.rows("SELECT clock_timestamp()")[0][0]
    return now


def _until(trial: Trial) -> datetime:
    """Returns what the clock shows at most until the trial moves it, at once: a tick may come before."""
    return _now(trial) + PERIOD


def _ticks_of(trial: Trial, names: Sequence[str]) -> dict[str, list[datetime]]:
    """The ticks of schedules that were made, each as often as it was; a tick may be due up to a second later."""
    ticks: dict[str, list[datetime]] = {name: [] for name in names}
    for task, due in trial.rows("SELECT task_id, due FROM audit.tasks WHERE was IS NULL"):
        times = dict.fromkeys((due, due.replace(microsecond=0)))
        ((name, at),) = [(name, at) for name in names for at in times if tick_id(name, at) == task]
        ticks[name].append(at)
    return ticks


def _start_with(trial: Trial, clock: WallClock) -> list[Worker]:
    """A worker of each mode of the mix by this clock."""
    nursery = trial.lasting.enter_context(Nursery(clock.environment))
    return [trial.fleet.start(mode, nursery=nursery).await_ready() for mode in MODES[trial.mix]]


def _start_on_a_server_with_a_clock(trial: Trial) -> WallClock:
    """Starts the workers on a server of the trial's own, and returns the clock of that server."""
    clock = trial.lasting.enter_context(wall_clock())
    with clock.in_environment():
        server = trial.lasting.enter_context(own_server())
    trial.move(server.url)
    audit.use_steady_clock(server.url)
    trial.start()
    return clock


def _insert_all(trial: Trial) -> None:
    """What is due now and later, by hand and by tasks themselves; and what has limits and rates."""
    for seconds in (0, 0.3, 1, 2):
        made = [_class(trial)(deed=deed) for deed in ("work", "snooze once", "raise Exception", "relay")]
        trial.insert_made(made, delay=timedelta(seconds=seconds))
    trial.insert_made(of_keys(trial, LIMITED, 1))
    trial.insert_made(of_keys(trial, RATED, 1))


def _class(trial: Trial) -> Any:
    return trial.chance.choice([{"threaded": Blocking, "async": Cooperative}[mode] for mode in MODES[trial.mix]])


@contextmanager
def _ticking(trial: Trial, missed: Literal["all", "latest"] = "all") -> Iterator[None]:
    """With a schedule of each second. It has one task for each tick, and all tasks end."""
    with Queue(trial.url) as queue:
        queue.schedules.put(SCHEDULE, _class(trial)(), every=PERIOD, missed=missed)
        yield
        trial.until(lambda: len(_ticks(trial)) >= 5)
        queue.schedules.remove(SCHEDULE)
    trial.settle()
    ticks = _ticks(trial)
    assert len(set(ticks)) == len(ticks), "a tick was made twice"


def _ticks(trial: Trial) -> list[Any]:
    inserted = trial.rows("SELECT task_id, due FROM audit.tasks WHERE was IS NULL ORDER BY place")
    return [due for task, due in inserted if tick_id(SCHEDULE, due) == task]


def _assert_on_time(trial: Trial, manager: Manager) -> None:
    """By the clock of the database."""
    trial.settle()
    assert_nobody_died(trial)
    manager.assert_held()
    assert_rates_held(trial)
    (((early, late)),) = trial.rows(
        "SELECT min(extract(epoch FROM at - due))::float8, max(extract(epoch FROM at - due))::float8"
        " FROM audit.tasks WHERE became = 'in_progress' AND task_type = 'common'"
    )
    assert early >= 0, f"a task was claimed {-early:.3f} s before it was due"
    assert late < LATE, f"a task was claimed {late:.1f} s after it was due"
    assert all(later - tick == PERIOD for tick, later in pairwise(_ticks(trial))), "a tick was missed"


def _kill_each(trial: Trial, victims: Sequence[Worker]) -> None:
    """Kills one after the other while it holds tasks, which run again in time."""
    for number, victim in enumerate(victims):
        assert victim.exit_code is None, victim.said()
        gate = f"held {number} {trial.starts()}"
        trial.insert(4 * len(trial.fleet.alive), gate=trial.gate(gate))
        trial.until(lambda victim=victim: trial.held(victim))
        trial.strike(victim, victim.kill, BOUND)
        trial.start()
        trial.open_gate(gate)
    trial.settle()
