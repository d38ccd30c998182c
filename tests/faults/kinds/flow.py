"""Limits, pauses and rates of task types whose pools die and whose rows are changed by hand: F56 to F58."""

import asyncio
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import timedelta
from itertools import count, cycle
from typing import Any, Final
from uuid import UUID

from sqlalchemy import make_url

from fang_async import AsyncQueue
from fang_core import Limit, StaleTask, Task, TaskState
from fang_core.flow.limits import UNLIMITED, FlowRule, FlowSettings, settings_of
from fang_threaded import Queue
from tests.faults import audit
from tests.faults.flow_tasks import CLASSES, LIMITED, LIMITS, OPEN, RATED, RATES
from tests.faults.flowlog import Setting, Settings, excess_of_rate, excesses, left, most
from tests.faults.kinds.database.by_hand import some
from tests.faults.registry import SHORT, fault
from tests.faults.trial import MODES, Trial

PROCESSES: Final = 8
KEYS: Final = 20
GIVEN: Final = {**SHORT, "flow": True}

FREED_WITHIN: Final = 60.0
"""Seconds within which what a dead pool held runs again: as soon as it may, behind all that was due before."""

HEEDED: Final = 3.0
"""Seconds after a resume within which what waited has begun, on two busy cores."""

SLEEPY: Final = 60.0
"""Seconds between two polls of pools that are to be told."""


class Manager:
    """Changes what holds for a task type, by queues of the modes of the mix in turn, and notes from when it holds."""

    def __init__(self, trial: Trial, task_type: str, declared: FlowSettings = UNLIMITED) -> None:
        self._trial = trial
        self._type = task_type
        self._declared = declared
        self._modes = cycle(MODES[trial.mix])
        self._is_paused = False
        self.settings = Settings(task_type)
        if declared != UNLIMITED:  # by pools that are ready
            self._note(self._clock(), declared)

    @property
    def now(self) -> Setting:
        return self.settings.held[-1]

    def set_limits(self, rules: Iterable[FlowRule] | None) -> None:
        """None forgets what was set before."""
        if rules is None:
            new = self._declared
            asked = self._call(lambda queue: queue.limits.remove(self._type))
        else:
            rules = list(rules)
            new = settings_of(rules)
            asked = self._call(lambda queue: queue.limits.set(self._type, rules))
        self._note(asked, new)

    def pause(self, until: timedelta | None = None) -> None:
        """A pause that ends by itself is not noted: the database's clock ends it."""
        asked = self._call(lambda queue: queue.pause(self._type, until=until, reason="a drill"))
        if until is None:
            self._is_paused = True
            self._note(asked, self.now.settings)

    def resume(self) -> None:
        asked = self._call(lambda queue: queue.resume(self._type))
        self._is_paused = False
        self._note(asked, self.now.settings)

    def assert_held(self) -> None:
        found = excesses(audit.read_steps(self._trial.url), self.settings)
        assert not found, f"the limits of {self._type} were exceeded {len(found)} times: {found[:5]}"

    def _note(self, asked: float, settings: FlowSettings) -> None:
        self.settings.held.append(Setting(asked, self._clock(), settings, self._is_paused))

    def _call(self, change: Callable[[Any], Any]) -> float:
        """Returns when it was asked for."""
        asked = self._clock()
        if next(self._modes) == "threaded":
            with Queue(self._trial.url) as queue:
                change(queue)
        else:
            asyncio.run(self._call_async(change))
        return asked

    async def _call_async(self, change: Callable[[Any], Any]) -> None:
        async with AsyncQueue(self._trial.url) as queue:
            await change(queue)

    def _clock(self) -> float:
        return clock(self._trial)


def clock(trial: Trial) -> float:
    """Seconds of the database's clock."""
    seconds: float = trial.rows("SELECT extract(epoch FROM clock_timestamp())::float8")[0][0]
    return seconds


# F56: limits ----------------------------------------------------------------------------------------------------------

_FREED: Final = "pool_id = NULL, claimed_at = NULL, updated_at = now()"
_OF_TYPE: Final = f" AND task_type = '{LIMITED}'"
EDITS: Final = (
    f"UPDATE fang.fang_tasks SET state = 'retried', {_FREED} {some(2, 'in_progress')}{_OF_TYPE}",
    f"DELETE FROM fang.fang_tasks {some(1, 'in_progress')}{_OF_TYPE}",
    f"UPDATE fang.fang_tasks SET state = 'new', scheduled_at = now() {some(5, 'cancelled')}{_OF_TYPE}",
    f"UPDATE fang.fang_tasks SET priority = -2, scheduled_at = now() - interval '1 year'"
    f" {some(5, 'new', 'retried')}{_OF_TYPE}",
)

CHANGES: Final[tuple[list[FlowRule] | None, ...]] = (
    [Limit(5), Limit(1, by="name")],
    [Limit(12)],
    [Limit(2, by="name")],
    [],
    [Limit(8), Limit(2, by="name")],
    None,
)
"""Of numbers alone; from keys to all, and back; to no limits at all, and back while work is under way."""


@fault(
    "F56",
    f"2 tasks at once of each of {KEYS} keys and 12 in all, {PROCESSES} processes: kills, rescues, retries, snoozes,"
    " cancels, rows changed by hand, fetch_and_touch_task, and changes of the limits",
    given=GIVEN,
)
def limit_through_all(trial: Trial) -> None:
    manager = _started(trial, LIMITED, settings_of(LIMITS))
    _work(trial, manager, turns=250, kill_every=10, change_every=18)
    _assert_no_slot_is_lost(trial, manager)


@fault(
    "F56 in small",
    "the same by 4 processes for two seconds, without kills and with two changes of the limits",
    quick=True,
    given=GIVEN,
)
def limit_in_small(trial: Trial) -> None:
    manager = _started(trial, LIMITED, settings_of(LIMITS), processes=4)
    _work(trial, manager, turns=20, kill_every=1_000, change_every=8)
    _assert_no_slot_is_lost(trial, manager)


@fault(
    "F56 while working",
    "a task type without limits is limited while many of its tasks run and are claimed, then unlimited again",
    given=GIVEN,
)
def limit_while_working(trial: Trial) -> None:
    """Rows that were inserted before have no lane."""
    manager = _started(trial, OPEN)
    for limit in (8, 3, 1, 8, 3):
        trial.insert(400, of=CLASSES[OPEN], seconds=0.1)
        trial.until(lambda limit=limit: trial.count("state = 'in_progress' AND task_type = %s", OPEN) > limit)
        manager.set_limits([Limit(limit)])
        trial.insert(20, of=CLASSES[OPEN], seconds=0.01)
        time.sleep(0.5)
        manager.set_limits([])
    trial.settle(within=FREED_WITHIN)
    manager.assert_held()


def _started(
    trial: Trial, task_type: str, declared: FlowSettings = UNLIMITED, *, processes: int = PROCESSES
) -> Manager:
    trial.start(processes // len(MODES[trial.mix]))
    return Manager(trial, task_type, declared)


def _work(trial: Trial, manager: Manager, *, turns: int, kill_every: int, change_every: int) -> None:
    """Does it all, about every 50 ms."""
    edits, changes = cycle(EDITS), cycle(CHANGES)
    hand = make_url(trial.url).update_query_dict({"application_name": audit.BY_HAND})
    touched: list[Task] = []
    with Queue(hand) as queue:
        for turn in range(turns):
            if trial.count("state IN ('new', 'retried')") < 100:
                _insert_some(trial)
            trial.database.execute(next(edits).encode())
            _cancel_some(trial, queue)
            _end_by_hand(trial, queue, touched)
            task = queue.fetch_and_touch_task(LIMITED)
            if task is not None:
                touched.append(task)
            if turn % kill_every == kill_every - 1:
                victim = trial.chance.choice(trial.fleet.alive)
                trial.strike(victim, victim.kill, FREED_WITHIN)
                trial.replace_dead()
            if turn % change_every == change_every - 1:
                manager.set_limits(next(changes))
            time.sleep(0.05)
        manager.set_limits(None)
        _end_by_hand(trial, queue, touched)
    trial.settle(within=FREED_WITHIN)


def _insert_some(trial: Trial) -> None:
    deeds = ["work", "work", "work", "raise Exception", "snooze once"]
    trial.insert_made(
        [
            CLASSES[LIMITED][mode](
                name=f"key {trial.chance.randrange(KEYS)}",
                deed=trial.chance.choice(deeds),
                seconds=trial.chance.random() * 0.03,
            )
            for _ in range(20)
            for mode in MODES[trial.mix]
        ]
    )


def _cancel_some(trial: Trial, queue: Queue) -> None:
    for (task,) in trial.rows(f"SELECT id FROM fang.fang_tasks {some(1, 'new', 'in_progress')}"):
        queue.cancel_task(task, "a drill")


def _end_by_hand(trial: Trial, queue: Queue, touched: list[Task]) -> None:
    """Ends what was fetched by hand, unless others have done so."""
    while touched:
        with suppress(StaleTask):
            task = touched.pop()
            queue.update_task_state(
                task, trial.chance.choice([TaskState.FINISHED, TaskState.RETRIED, TaskState.FAILED])
            )


def _assert_no_slot_is_lost(trial: Trial, manager: Manager) -> None:
    """The limits were reached and held, and as many tasks run at once as they allow."""
    manager.assert_held()
    steps = audit.read_steps(trial.url)
    assert left(steps, LIMITED) == 0
    whole, of_key = manager.now.settings.max_running, manager.now.settings.max_running_per_key
    assert whole is not None
    assert of_key is not None
    assert most(steps, LIMITED) >= whole, "the limits were never reached"
    gate = f"slots-{trial.starts()}"
    trial.insert_made(of_keys(trial, LIMITED, of_key + 1, gate=trial.gate(gate)))
    trial.until(lambda: trial.count("state = 'in_progress'") == whole)
    trial.open_gate(gate)
    trial.settle()
    manager.assert_held()


# F57: pauses ----------------------------------------------------------------------------------------------------------


@fault(
    "F57",
    "task types with and without limits are paused and resumed under load, while limits are changed:"
    f" none starts in a pause, all within {HEEDED:.0f} s of its end, and pools poll each {SLEEPY:.0f} s",
    given={**GIVEN, "poll": SLEEPY},
)
def pause_under_load(trial: Trial) -> None:
    managers = [_started(trial, LIMITED, settings_of(LIMITS)), Manager(trial, OPEN)]
    changes = cycle(CHANGES[:3])
    for turn in count():
        _load(trial)
        for manager in managers:
            manager.pause()
        waiting = _load(trial)
        trial.until(lambda: trial.count("state = 'in_progress'") == 0)
        trial.insert(20)  # of a type that goes on: cursors move
        time.sleep(0.2)
        if turn % 3 == 2:
            managers[0].set_limits(next(changes))
        since = time.monotonic()
        for manager in managers:
            manager.resume()
        trial.expect(waiting, since, HEEDED)
        trial.settle()
        if turn == 9:
            break
    for manager in managers:
        manager.pause(until=timedelta(seconds=1))
        trial.expect(_load(trial), time.monotonic(), 1 + HEEDED)
        trial.settle()
        manager.assert_held()


def _load(trial: Trial) -> list[UUID]:
    """More tasks of both types than there are slots."""
    return trial.insert(60, of=CLASSES[OPEN], seconds=0.01) + trial.insert_made(of_keys(trial, LIMITED, 2))


def of_keys(trial: Trial, task_type: str, each: int, **fields: Any) -> list[Any]:
    """So many tasks of each key, by turns for each mode of the mix."""
    modes = cycle(MODES[trial.mix])
    keys = [f"key {key}" for key in range(KEYS)] * each
    return [CLASSES[task_type][next(modes)](name=key, seconds=0.01, **fields) for key in keys]


# F58: rates -----------------------------------------------------------------------------------------------------------

KEPT: Final = 0.95
"""The share of its rate that a type keeps while nobody dies."""


@fault(
    "F58",
    f"50 starts a second, and 10 of each of {KEYS} keys, {PROCESSES} processes, half a minute of kills:"
    f" never exceeded; and {KEPT * 100:.0f} % of it in another half without",
    given=GIVEN,
)
def rate_through_kills(trial: Trial) -> None:
    _started(trial, RATED, settings_of(RATES))
    calm = _spend(trial, seconds=30)
    rate = settings_of(RATES).rate
    assert rate is not None
    began, ended = calm
    steps = [step for step in audit.read_steps(trial.url) if step.delta > 0]
    share = sum(began <= step.at < ended for step in steps) * rate.interval.total_seconds() / (ended - began)
    assert share >= KEPT, f"only {share:.2f} of the rate was kept"
    _spend(trial, seconds=30, kill_every=1.0)
    trial.database.execute(b"DELETE FROM fang.fang_tasks WHERE state IN ('new', 'retried')")
    trial.settle(within=FREED_WITHIN)
    assert_rates_held(trial)


def _spend(trial: Trial, *, seconds: float, kill_every: float = 1_000) -> tuple[float, float]:
    """Has more tasks wait than the rate allows; returns from when to when it did, by the database's clock."""
    began, until, killed = 0.0, time.monotonic() + seconds, time.monotonic()
    while time.monotonic() < until:
        if trial.count("state = 'new'") < 200:
            trial.insert_made(of_keys(trial, RATED, 10))
        began = began or clock(trial)
        if time.monotonic() > killed + kill_every:
            killed = time.monotonic()
            trial.chance.choice(trial.fleet.alive).kill()
            trial.replace_dead()
        time.sleep(0.05)
    return began, clock(trial)


def assert_rates_held(trial: Trial) -> None:
    """Of the type, and of each key."""
    settings = settings_of(RATES)
    assert settings.rate is not None
    assert settings.key_rate is not None
    starts = [step for step in audit.read_steps(trial.url) if step.task_type == RATED and step.delta > 0]
    assert starts
    excess = excess_of_rate(starts, settings.rate)
    assert excess <= 0, f"the rate was exceeded by {excess:.2f} starts"
    for lane in {step.lane for step in starts}:
        excess = excess_of_rate([step for step in starts if step.lane == lane], settings.key_rate)
        assert excess <= 0, f"the rate of {lane!r} was exceeded by {excess:.2f} starts"
