"""Processes that are killed from outside again and again, so that innocent tasks become suspects: F08."""

import time
from typing import Final

from tests.faults.kinds.isolation import children
from tests.faults.registry import SHORT, fault
from tests.faults.trial import Trial

SLOTS: Final = 32
WIDE: Final = {**SHORT, "workers": SLOTS}


@fault(
    "F08 killed twice",
    f"a pool of {SLOTS} runs of 2 s is killed twice; then 100 empty tasks",
    modes=("threaded", "async"),
    quick=True,
    given=WIDE,
)
def killed_twice(trial: Trial) -> None:
    trial.start()
    hit = trial.insert(SLOTS, seconds=2)
    for attempt in (1, 2):
        trial.until(lambda attempt=attempt: all(trial.starts(task, attempt) for task in hit))
        (victim,) = trial.fleet.alive
        victim.kill()
        trial.replace_dead()
    (last,) = trial.fleet.alive
    last.await_ready()
    trial.until(lambda: any(trial.starts(task, 3) for task in hit))
    empty = trial.insert(100)
    trial.settle(within=120)
    worst = max(trial.measure_waits(empty))
    assert worst < 8, f"an empty task waited for {worst:.1f} s behind suspects"


@fault(
    "F08 killed eight times",
    f"one of two pools of {SLOTS} is killed eight times, every 5 s, under runs of 5 s",
    modes=("threaded", "async"),
    given=WIDE,
)
def killed_eight_times(trial: Trial) -> None:
    parked = park_by_kills(trial)
    # The eighth kill is the first that can park one, log2(32) + max_crashes; and only one that ran alone then.
    assert parked <= 1, f"{parked} innocents were parked"


@fault(
    "F08 killed eight times, isolated",
    "the same, and suspects run in child processes: none is parked",
    modes=("threaded", "async"),
    given={**WIDE, "isolates_suspects": True},
)
def killed_eight_times_with_children(trial: Trial) -> None:
    parked = park_by_kills(trial)
    assert not parked, f"{parked} innocents were parked"


def park_by_kills(trial: Trial) -> int:
    """Kills the same process and its successors eight times; returns how many innocents that has parked."""
    trial.start(2)
    trial.insert(4 * SLOTS, seconds=5)
    for _ in range(8):
        time.sleep(5)
        victim = trial.fleet.alive[-1]
        victim.kill()
        trial.replace_dead()
    trial.settle(within=200)
    return trial.count("true")


RUN: Final = 10.0
PROCESSES: Final = 2
BEGINS_AGAIN: Final = 15.0


@fault(
    "F08 beside innocents, killed",
    f"{PROCESSES} pools of {SLOTS} under runs of {RUN:.0f} s; one is killed four times in two minutes, twice in a row",
    modes=("threaded", "async"),
    also=("I11",),
    given=WIDE,
)
def killed_from_outside(trial: Trial) -> None:
    kill_from_outside(trial)


@fault(
    "F08 beside innocents, isolated",
    "the same, and suspects run in child processes",
    modes=("threaded", "async"),
    also=("I11",),
    given={**WIDE, "isolates_suspects": True},
)
def killed_with_children(trial: Trial) -> None:
    kill_from_outside(trial)


def kill_from_outside(trial: Trial) -> None:
    """Kills what runs again a second time, so that it is suspected; four fifths of the slots have work."""
    trial.start(PROCESSES)
    began = time.monotonic()
    slots = [(began, PROCESSES * SLOTS)]
    kills = [began + seconds for seconds in (30, 38, 65, 73)]
    ends = kills[-1] + BEGINS_AGAIN + 17
    back: float | None = None
    had_children = False
    while (now := time.monotonic()) < ends:
        trial.insert(int(0.8 * PROCESSES * SLOTS / RUN), seconds=RUN)
        if kills and now >= kills[0]:
            del kills[0]
            victim = trial.fleet.alive[-1]
            slots.append((time.monotonic(), (PROCESSES - 1) * SLOTS))
            trial.strike(victim, victim.kill, BEGINS_AGAIN)
            trial.replace_dead()
            trial.fleet.workers[-1].await_ready()
            slots.append((time.monotonic(), PROCESSES * SLOTS))
            back = slots[-1][0]
        had_children |= bool(children(trial))
        time.sleep(max(0.0, now + 1 - time.monotonic()))
    assert had_children == bool(trial.fleet.given.get("isolates_suspects"))
    assert back is not None
    trial.expect_flow(began + RUN, ends, 0.5, slots)
    trial.expect_flow(back + BEGINS_AGAIN, ends, 0.9, slots)
    trial.settle(within=60)
    assert not trial.count("true"), "an innocent was parked"
