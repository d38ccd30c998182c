"""Tasks that raise anything, and tasks that misuse connections: F12, F13."""

from typing import Final

from tests.faults.deeds import EXCEPTIONS
from tests.faults.registry import SHORT, fault
from tests.faults.trial import MODES, Trial

CONNECTIONS: Final = 3
"""By which a queue's own may have grown meanwhile."""


@fault("F12", "every kind of exception, one without a text, one of 50 MB", quick=True, also=("I8", "I9"))
def raise_anything(trial: Trial) -> None:
    workers = trial.start()
    _raise_everything(trial)
    before = [worker.vitals() for worker in workers]
    _raise_everything(trial)
    runs = 2 * (len(EXCEPTIONS) + 1) + 1
    assert trial.starts() == 2 * runs * len(workers), "each fails once, or snoozes, and then succeeds; but for one"
    charged = "was = 'in_progress' AND new_retries = retries + 1"
    assert trial.rows(f"SELECT count(*) FROM audit.tasks WHERE {charged}") == [(2 * len(EXCEPTIONS) * len(workers),)]
    for worker, vitals in zip(workers, before, strict=True):
        trial.assert_slots(worker)
        assert worker.vitals().descriptors <= vitals.descriptors + CONNECTIONS, "descriptors were left open"
        assert worker.vitals().threads <= vitals.threads + 1, "threads were left behind"


def _raise_everything(trial: Trial) -> None:
    for deed in EXCEPTIONS:
        trial.insert(len(MODES[trial.mix]), deed=deed)
    trial.insert(len(MODES[trial.mix]), deed="snooze once")
    trial.insert(len(MODES[trial.mix]), deed="raise Exception", max_retries=0)
    trial.settle()


@fault(
    "F13",
    "tasks leave transactions open, and change settings of the session",
    also=("I8",),
    given={**SHORT, "shared_engine": True},
)
def misuse_connections(trial: Trial) -> None:
    """Threaded: on the engine that the pool itself works on. Async: on connections of their own, as a pool there takes
    no other's."""
    workers = trial.start(poll=1)
    for _ in range(3):
        trial.insert(2 * len(workers), deed="change the session")
        trial.insert(len(workers), deed="leave a transaction open")
        trial.insert(20, seconds=0.02)
        trial.settle()
    assert trial.attempts() == 1, "a task ran again"
    for worker in workers:
        trial.assert_slots(worker)
