"""Tasks that raise anything, and tasks that misuse connections: F12, F13."""

from tests.faults.registry import SHORT, fault
from tests.faults.tasks import EXCEPTIONS
from tests.faults.trial import MODES, Trial


@fault("F12", "every kind of exception, one without a text, one of 50 MB", quick=True)
def raise_anything(trial: Trial) -> None:
    workers = trial.start()
    before = [worker.vitals().descriptors for worker in workers]
    for deed in EXCEPTIONS:
        trial.insert(len(MODES[trial.mix]), deed=deed)
    trial.insert(len(MODES[trial.mix]), deed="snooze once")
    count = trial.starts
    trial.settle()
    assert count() == 2 * (len(EXCEPTIONS) + 1) * len(workers), "each fails once, or snoozes, and then succeeds"
    charged = "was = 'in_progress' AND new_retries = retries + 1"
    assert trial.rows(f"SELECT count(*) FROM audit.tasks WHERE {charged}") == [(len(EXCEPTIONS) * len(workers),)]
    for worker, descriptors in zip(workers, before, strict=True):
        trial.assert_slots(worker)
        assert worker.vitals().descriptors <= descriptors + 3, "descriptors were left open"


@fault("F13", "tasks leave transactions open, and change settings of the session", given={**SHORT, "shared_engine": True})
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
