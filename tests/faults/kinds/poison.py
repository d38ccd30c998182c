"""Tasks that kill their process, and their neighbours: F08."""

from math import log2
from typing import Final

from tests.faults.kinds.kills import keep_alive
from tests.faults.registry import SHORT, fault
from tests.faults.trial import Mix, Trial

PARKED: Final = "state = 'failed' AND crashes = 3 AND error_message LIKE 'crashed%%'"


@fault("F08", "poison: os._exit, a segmentation fault, SIGKILL, memory past a limit", given=SHORT)
def poison(trial: Trial) -> None:
    trial.start(2)
    deeds = ("exit", "segfault", "kill itself", "eat memory")
    poisonous = [task for deed in deeds for task in trial.insert(1, deed=deed)]
    trial.insert(60, seconds=0.1)
    keep_alive(trial)
    assert trial.count(f"{PARKED} AND id = ANY(%s)", poisonous) == len(poisonous)
    assert trial.count("true") == len(poisonous), "a neighbour was not finished"


INNOCENTS: Final = 200
POOL_SIZES: Final = (1, 8, 50)
ALONE: Final[tuple[Mix, ...]] = ("threaded", "async")
"""One process serves all."""

PATIENCE: Final = 40
"""Seconds within which every innocent has ended, on two busy cores. Each death of the process is seen after two, and
groups of up to fifty suspects are halved."""


def beside_innocents(trial: Trial) -> None:
    """Three poisons in a queue of short tasks, and one process, started anew whenever it has died."""
    poisonous = []
    innocents = trial.insert(INNOCENTS // 10, seconds=0.005)
    for deed in ("exit", "segfault", "kill itself"):
        poisonous += trial.insert(1, deed=deed)
        innocents += trial.insert(3 * INNOCENTS // 10, seconds=0.005)
    trial.start()
    keep_alive(trial)
    assert trial.count(f"{PARKED} AND id = ANY(%s)", poisonous) == len(poisonous)
    assert trial.count("true") == len(poisonous), "an innocent was not finished"
    most = 3 + int(log2(trial.fleet.given["workers"]))
    assert all(trial.starts(each) <= most for each in poisonous), f"a poison killed more than {most} processes"
    worst = max(trial.measure_waits(innocents))
    assert worst < PATIENCE, f"an innocent waited for {worst:.1f} s"


for _size in POOL_SIZES:
    fault(
        f"F08 beside innocents, {_size}",
        f"three poisons among {INNOCENTS} short tasks, one process at a time, a pool of {_size}",
        modes=ALONE,
        given={**SHORT, "workers": _size},
    )(beside_innocents)
