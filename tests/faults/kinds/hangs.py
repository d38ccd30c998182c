"""Runs that do not return, or let nobody else run: F10, F11."""

import signal
from functools import partial
from typing import Final

from tests.faults.kinds.stops import GRACE, LAST_CALL
from tests.faults.registry import BOUND, SHORT, SHORT_LEASE, fault
from tests.faults.trial import Trial


@fault(
    "F10",
    "C code that holds the GIL past the lease, and C code that never returns",
    also=("I8", "I10"),
    given={**SHORT, "grace_period": GRACE},
)
def hang_in_c(trial: Trial) -> None:
    """The first are taken over, and the process goes on under another id; the second go when it is told to end."""
    holders = trial.start()
    bystanders_work = trial.insert(len(holders), gate=trial.gate())
    trial.until(lambda: trial.starts() == len(bystanders_work))
    held = trial.insert(len(holders), deed="hold the GIL once", seconds=2 * SHORT_LEASE)
    trial.until(lambda: trial.starts() == len(bystanders_work) + len(held))
    for worker in holders:
        trial.strike(worker, lambda: None, BOUND)
    successors = trial.start()
    trial.until(lambda: all(trial.starts(each, attempt=2) for each in [*bystanders_work, *held]))
    trial.open_gate()
    trial.settle()
    for worker in successors:
        worker.kill()
    for worker in holders:
        trial.until(lambda worker=worker: "lost" in worker.said())
        trial.assert_slots(worker)

    hung = trial.insert(len(holders), deed="hang once")
    trial.until(lambda: all(trial.starts(each) for each in hung))
    for worker in holders:
        trial.strike(worker, partial(worker.send, signal.SIGTERM), GRACE + LAST_CALL + BOUND)
    for worker in holders:
        # Where it is the event loop that hangs, the heartbeat's thread ends the process.
        assert worker.ends(GRACE + LAST_CALL) == 75
    trial.start()
    trial.settle()


SPIN: Final = 3 * SHORT_LEASE


@fault(
    "F11", "an event loop blocked for three leases, threads busy with Python code as long", also=("I8",), given=SHORT
)
def busy_with_python(trial: Trial) -> None:
    """The heart has a thread of its own: nothing is taken away."""
    busy = trial.start()
    spinning = trial.insert(4 * len(busy), deed="spin", seconds=SPIN)
    trial.until(trial.starts)
    trial.start()
    trial.settle(within=10 * SPIN)
    # What waits while the loop is blocked may go back, and be claimed again; what has begun may not.
    assert trial.starts() == len(spinning), "a live run was taken away"
    assert all(worker.exit_code is None for worker in busy)
