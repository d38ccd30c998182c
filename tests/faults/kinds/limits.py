"""Runs that hang, with a time limit and without one: F51; and limits that strike at random moments: F55."""

import re
import signal
from functools import partial
from typing import Final

from tests.faults.fleet import Worker
from tests.faults.kinds.stops import GRACE, LAST_CALL
from tests.faults.registry import BOUND, SHORT, fault
from tests.faults.trial import Trial

LIMIT: Final = 1.0
STUCK_AFTER: Final = 1.0
WARN_AFTER: Final = 1.0
ENDS_BY_ITSELF: Final = 2.0
"""Seconds for which an asyncio run blocks its loop, where no limit can strike."""

HANGS: Final = ("spin once", "sleep once", "receive once", "swallow once")
RANDOM: Final = 2_000
"""How many runs are struck at random moments."""


def tells_of_hung_runs(worker: Worker) -> bool:
    """A run that hangs in a thread says where; one that blocks its event loop is told of with that."""
    said = worker.said()
    return re.search(r"(has been going on|has been blocked) for .*deeds.py:\d+", said) is not None


@fault(
    "F51",
    "runs that hang under a limit of 1 s: in Python, in C, in a socket, or go on when they are interrupted",
    quick=True,
    also=("I8", "I10"),
    given={**SHORT, "stuck_after": STUCK_AFTER},
)
def hang_under_a_limit(trial: Trial) -> None:
    """They are retried at their limit, or when they count as stuck; every slot works then."""
    holders = trial.start()
    hung = [task for deed in HANGS for task in trial.insert(len(holders), deed=deed, timeout=LIMIT)]
    bound = LIMIT + STUCK_AFTER + ENDS_BY_ITSELF + BOUND
    trial.until(lambda: trial.starts() >= len(hung))
    for worker in holders:
        trial.strike(worker, lambda: None, bound)
    trial.settle()
    assert {trial.starts(task) for task in hung} == {2}
    for worker in holders:
        said = worker.said()
        assert "event: run_stuck" in said
        assert "TimedOut" in said
        trial.assert_slots(worker)


@fault(
    "F51 without a limit",
    "runs that hang in the same ways without a limit, until their process is stopped",
    given={**SHORT, "grace_period": GRACE, "warn_after": WARN_AFTER},
)
def hang_without_a_limit(trial: Trial) -> None:
    """They are told of and hold their slots; the process ends in time all the same, and they run again elsewhere."""
    holders = trial.start()
    for deed in HANGS:
        trial.insert(len(holders), deed=deed)
    trial.until(lambda: trial.starts() == len(HANGS) * len(holders))
    for worker in holders:
        trial.until(partial(tells_of_hung_runs, worker), WARN_AFTER + ENDS_BY_ITSELF + BOUND)
    for worker in holders:
        trial.strike(worker, partial(worker.send, signal.SIGTERM), GRACE + LAST_CALL + BOUND)
    for worker in holders:
        assert worker.ends(GRACE + LAST_CALL) == 75
    trial.start()
    trial.settle()


@fault(
    "F55",
    f"limits that strike {RANDOM:,} runs at random moments, under load",
    also=("I8",),
    given={**SHORT, "workers": 64},
)
def strike_at_random(trial: Trial) -> None:
    """Each is charged once, and no other run is struck."""
    workers = trial.start()
    struck = []
    for _ in range(50):
        limit = 0.1 + trial.chance.random() / 2
        struck += trial.insert(RANDOM // 50, deed="loop until charged", timeout=limit)
        trial.insert(RANDOM // 50)
    trial.settle(within=240)
    assert trial.starts() == 2 * len(struck) + RANDOM, "a run was struck that had no limit, or one was struck twice"
    for worker in workers:
        trial.assert_slots(worker, 64)
