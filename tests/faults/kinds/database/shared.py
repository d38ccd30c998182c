"""What faults inside the database share."""

from typing import Final
from uuid import UUID

from tests.faults.trial import Trial

CONNECTIONS: Final = 3
"""By which a queue's own may have grown meanwhile."""

TICKING: Final = "kind LIKE 'faults.Ticking%'"


def relay(trial: Trial) -> str:
    """The deed that inserts for the own mode, or across."""
    return "relay across" if trial.mix == "mixed" else "relay"


def hold(trial: Trial, gate: str = "gate") -> list[UUID]:
    """Two gated tasks for each worker. All of them run when it returns."""
    held = trial.insert(2 * len(trial.fleet.alive), gate=trial.gate(gate))
    trial.until(lambda: all(trial.starts(task) for task in held))
    return held


def until_said(trial: Trial, words: str) -> None:
    """By every worker, in its log: and that its events were told of a failure."""
    for worker in trial.fleet.alive:
        trial.until(lambda worker=worker: words in worker.said() and "event: backend_failed" in worker.said())


def settle_but_for_ticks(trial: Trial, within: float = 30) -> None:
    waiting = f"state IN ('new', 'retried', 'in_progress') AND NOT {TICKING}"
    trial.until(lambda: not trial.count(waiting), within)
