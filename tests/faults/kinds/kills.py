"""Processes that are killed: F01 to F03, F09."""

import time
from functools import partial
from typing import Final

from tests.faults.effects import CREATE_EFFECTS, DEATHS
from tests.faults.registry import BOUND, SHORT, SUSPECTED, fault
from tests.faults.trial import Trial

MEMORY_LIMIT: Final = 400_000
"""Kilobytes above which a process is killed, as the kernel or a container's host would."""


@fault("F01", "SIGKILL of a random worker every 300 ms under load, restarted at once", quick=True, given=SHORT)
def kill_at_random(trial: Trial) -> None:
    kill_by_turns(trial, kills=8, bound=BOUND + SUSPECTED)


def kill_by_turns(trial: Trial, kills: int, bound: float) -> None:
    """Kills, restarts and inserts; a random one of those that live, be they ready or not."""
    trial.start(2)
    trial.insert(60 * kills, seconds=0.05)
    trial.insert(kills, deed="relay across" if trial.mix == "mixed" else "relay")
    trial.until(trial.starts)
    for _ in range(kills):
        time.sleep(0.3)
        victim = trial.chance.choice(trial.fleet.alive)
        trial.strike(victim, victim.kill, bound)
        trial.replace_dead()
        trial.insert(10, seconds=0.02 * trial.chance.randrange(5))
    trial.settle(within=2 * bound)


@fault("F02", "SIGKILL between a task's effect and its completion", given=SHORT)
def kill_after_effect(trial: Trial) -> None:
    trial.start(2)
    trial.insert(20, seconds=0.1)
    doomed = trial.insert(2, deed="die after its effect")
    keep_alive(trial, BOUND)
    assert all(trial.starts(each, attempt=2) for each in doomed), "its effect was seen, its completion was not"


@fault(
    "F02 as one", "processes and sessions killed anywhere around a transaction of effect and completion", given=SHORT
)
def kill_around_transaction(trial: Trial) -> None:
    """By the tasks themselves between any two steps, and by another's hand at random."""
    trial.database.execute(CREATE_EFFECTS)
    trial.start(2)
    tasks = trial.insert(200, deed="take effect")
    for death in DEATHS:
        tasks += trial.insert(2, deed="take effect", death=death)
    trial.until(trial.starts)
    for _ in range(6):
        trial.replace_dead()
        tasks += trial.insert(100, deed="take effect")
        time.sleep(0.1 * trial.chance.random())
        trial.rows("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE state = 'idle in transaction'")
        if alive := trial.fleet.alive:  # none, where the last two have just killed themselves
            trial.chance.choice(alive).kill()
    keep_alive(trial)
    parked = [task for (task,) in trial.rows("SELECT id FROM fang.fang_tasks")]
    effects = [task for (task,) in trial.rows("SELECT task FROM effects")]
    assert sorted([*effects, *parked]) == sorted(tasks), "one effect of each task, but of what was killed for good none"


@fault("F03", "SIGKILL between the claim and the start of the first run", quick=True, given=SHORT)
def kill_before_start(trial: Trial) -> None:
    doomed = trial.start(dies_at_start=True)
    trial.insert(8)
    for victim in doomed:
        trial.strike(victim, partial(victim.ends, 20), BOUND)
    assert not trial.starts(), "it died too late"
    trial.start()
    trial.settle()
    assert trial.attempts() == 2


def keep_alive(trial: Trial, bound: float | None = None) -> None:
    """Restarts what dies, and kills what eats too much, until every task's life has ended."""

    def is_over() -> bool:
        for worker in trial.fleet.alive:
            if worker.vitals().kilobytes > MEMORY_LIMIT:
                worker.kill()
        trial.replace_dead(bound)
        return not trial.count("state IN ('new', 'retried', 'in_progress')")

    trial.until(is_over, within=90)


@fault("F09", "the host name and pid of a killed worker are taken by the next one at once", given=SHORT)
def same_pid(trial: Trial) -> None:
    trial.start(pid=4711)
    for _ in range(3):
        trial.insert(8, seconds=0.5)
        trial.until(lambda: all(trial.held(worker) for worker in trial.fleet.alive))
        for victim in trial.fleet.alive:
            trial.strike(victim, victim.kill, BOUND + SUSPECTED)
        trial.replace_dead()
    trial.settle()
