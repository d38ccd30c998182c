"""The history of pools that are killed: F60."""

from typing import Final

from tests.faults.registry import BOUND, SHORT, fault
from tests.faults.trial import Trial

TASKS: Final = 60


@fault(
    "F60",
    "SIGKILL of a worker that has counted runs: what it has flushed is in the history once, the rest is lost",
    given=SHORT | {"stats_every": 0.2},
)
def history_of_killed(trial: Trial) -> None:
    killed = trial.start()
    for _ in range(3):  # each flush overwrites what the last one has written of this minute
        trial.insert(TASKS)
        trial.settle()
        trial.until(lambda: finished(trial) == completed(trial))
    flushed = finished(trial)
    assert flushed == completed(trial) == 3 * TASKS
    trial.insert(4 * TASKS, seconds=0.02)
    trial.until(lambda: completed(trial) > flushed + TASKS)
    for worker in killed:
        trial.strike(worker, worker.kill, BOUND)
    of_killed = completed(trial)
    trial.start()
    trial.settle()
    trial.fleet.stop()
    counted, whole = finished(trial), completed(trial)
    assert flushed + whole - of_killed <= counted <= whole, (
        f"of {whole} runs {counted} are counted: {flushed} were flushed by the killed, {whole - of_killed} were others'"
    )


def finished(trial: Trial) -> int:
    """Runs that the history has."""
    number: int = trial.rows("SELECT coalesce(sum(finished), 0)::int FROM fang.fang_stats")[0][0]
    return number


def completed(trial: Trial) -> int:
    """Tasks whose row was removed by the outcome of a run."""
    ended = "SELECT count(*) FROM audit.tasks WHERE was = 'in_progress' AND became IS NULL"
    number: int = trial.rows(ended)[0][0]
    return number
