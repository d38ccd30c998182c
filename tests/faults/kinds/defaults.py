"""The two that are tried with the default settings, a lease of 60 seconds: last, once the server has been up as long.

Before that a watcher that starts does not believe a free lock that it never saw held.
"""

import statistics
from typing import Final

from tests.faults.kinds.kills import kill_by_turns
from tests.faults.kinds.stops import stop_and_continue
from tests.faults.registry import BOUND, DEFAULT_LEASE, SUSPECTED, fault
from tests.faults.trial import Trial

PROMISED: Final = 5.0
"""Seconds within which the tasks of a process that is gone run again, by docs/guarantees.md."""


@fault(
    "F01 by default",
    f"12 kills by turns, with the default settings, the server up for a lease; median of {PROMISED:.0f} s at most",
    modes=("mixed",),
    is_late=True,
)
def kill_at_random_by_default(trial: Trial) -> None:
    # A free lock is not believed either within a lease of a hiccup of the watcher: the bound is that of the lease.
    kill_by_turns(trial, kills=12, bound=DEFAULT_LEASE + BOUND + SUSPECTED)
    assert statistics.median(trial.recoveries()) <= PROMISED, "free locks were not believed"


@fault(
    "F04 by default",
    "SIGSTOP past the lease, with the default settings, the server up for a lease",
    also=("I8", "I10"),
    modes=("mixed",),
    is_late=True,
)
def stop_past_the_default_lease(trial: Trial) -> None:
    stop_and_continue(trial, DEFAULT_LEASE + BOUND, knows_late=False)
