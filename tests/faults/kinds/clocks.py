"""Wall clocks that are wrong, or jump: those of workers, and that of the database: F38 and F39."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from itertools import pairwise
from typing import Any, Final, Literal

from fang_core.backends.scheduling import tick_id
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
    clock = trial.lasting.enter_context(wall_clock())
    with clock.in_environment():
        server = trial.lasting.enter_context(own_server())
    trial.move(server.url)
    audit.use_steady_clock(server.url)
    trial.start()
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


def _start_with(trial: Trial, clock: WallClock) -> list[Worker]:
    """A worker of each mode of the mix by this clock."""
    nursery = trial.lasting.enter_context(Nursery(clock.environment))
    return [trial.fleet.start(mode, nursery=nursery).await_ready() for mode in MODES[trial.mix]]


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
