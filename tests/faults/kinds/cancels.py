"""Tasks that are cancelled while all else goes on: F53."""

import signal
from functools import partial
from itertools import cycle

from fang_core import TaskState
from fang_threaded import Queue
from tests.faults.kinds.stops import GRACE, LAST_CALL
from tests.faults.registry import BOUND, SHORT, SUSPECTED, fault
from tests.faults.trial import Trial


@fault(
    "F53",
    "cancels that race with completions, retries, snoozes, rescue, second claims and shutdown",
    quick=True,
    given={**SHORT, "grace_period": GRACE},
)
def cancel_at_random(trial: Trial) -> None:
    """No run begins after its task was cancelled, beside one that had been claimed; and each run ends that is told."""
    trial.start(2)
    brief = trial.insert(120, seconds=0.02)
    brief += trial.insert(60, deed="raise Exception", seconds=0.01)
    brief += trial.insert(40, deed="snooze once", seconds=0.01)
    endless = trial.insert(12, deed="spin once")
    trial.until(lambda: trial.starts() > 20)
    trial.chance.shuffle(brief)
    asked = [*brief[: len(brief) // 2], *endless]
    trial.chance.shuffle(asked)
    ends = cycle(["kill", "nothing", "stop", "nothing"])
    last_attempts = {}
    with Queue(trial.url) as queue:
        for number, task in enumerate(asked):
            row = queue.cancel_task(task, "a drill")
            if row is not None and row.state in {TaskState.CANCELLED, TaskState.IN_PROGRESS}:
                last_attempts[task] = row.attempt
            if number % 15 == 14:
                _end_one(trial, next(ends))
    trial.settle(within=2 * (GRACE + LAST_CALL + BOUND + SUSPECTED))
    assert last_attempts
    for task, attempt in last_attempts.items():
        assert not trial.starts(task, attempt + 1), "a run began after its task had been cancelled"


def _end_one(trial: Trial, how: str) -> None:
    """Kills a worker, or has it stop, and starts another one like it."""
    if how == "nothing" or len(trial.fleet.alive) < 2:
        return
    victim = trial.chance.choice(trial.fleet.alive)
    if how == "kill":
        trial.strike(victim, victim.kill, BOUND + SUSPECTED)
        trial.replace_dead()
    else:
        trial.strike(victim, partial(victim.send, signal.SIGTERM), GRACE + LAST_CALL + BOUND + SUSPECTED)
        trial.fleet.start(victim.mode, **victim.given)
