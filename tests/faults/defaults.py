"""The two that are tried with the default settings, a lease of 60 seconds: last, when the server has been up as long.

Before that a free lock is not believed, since a restart of the server has let go of all of them.
"""

from typing import Final

from tests.faults.kills import kill_by_turns
from tests.faults.registry import BOUND, SUSPECTED, fault
from tests.faults.stops import stop_and_continue
from tests.faults.trial import Trial

DEFAULT_LEASE: Final = 60.0


@fault("F01 by default", "12 kills by turns, with the default settings", modes=("mixed",), is_late=True)
def kill_at_random_by_default(trial: Trial) -> None:
    # A free lock is not believed either within a lease of a hiccup of the watcher: the bound is that of the lease.
    kill_by_turns(trial, kills=12, bound=DEFAULT_LEASE + BOUND + SUSPECTED)


@fault(
    "F04 by default",
    "SIGSTOP past the lease, with the default settings",
    also=("I8", "I10"),
    modes=("mixed",),
    is_late=True,
)
def stop_past_the_default_lease(trial: Trial) -> None:
    stop_and_continue(trial, DEFAULT_LEASE + BOUND, knows_late=False)
