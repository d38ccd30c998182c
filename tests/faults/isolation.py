"""Tasks that run in child processes: what kills them, or their pool: F52."""

import os
import signal
import time
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from fang_threaded import Queue
from tests.faults.isolated_tasks import IsolatedBlocking, IsolatedCooperative
from tests.faults.registry import BOUND, SHORT, SUSPECTED, fault
from tests.faults.trial import MODES, Trial
from tests.processes import children_of, ends

PARKED: Final = "state = 'failed' AND crashes = 3 AND error_message LIKE 'crashed: the child process%%'"
GIVEN: Final = {**SHORT, "isolated": True}


def insert(trial: Trial, count: int, **fields: Any) -> list[UUID]:
    """So many isolated tasks of each mode of the mix."""
    options = {name: fields.pop(name) for name in ("timeout", "max_retries") if name in fields}
    classes: list[Any] = [IsolatedBlocking if mode == "threaded" else IsolatedCooperative for mode in MODES[trial.mix]]
    with Queue(trial.url) as queue:
        tasks = queue.insert_tasks([make(**fields) for make in classes for _ in range(count)], **options)
    for task in tasks:
        trial.acknowledge(task.id)
    return [task.id for task in tasks]


def children(trial: Trial) -> list[int]:
    """The processes that run tasks for the workers that live."""
    return children_of({worker.pid for worker in trial.fleet.alive})


@fault(
    "F52",
    "isolated tasks that kill their process, that hang, and whose process is killed, among innocents here and there",
    also=("I8",),
    given=GIVEN,
)
def isolated(trial: Trial) -> None:
    """Each dies alone; two more deaths by another's hand park nothing."""
    workers = trial.start()
    poisonous = [task for deed in ("exit", "segfault", "kill itself") for task in insert(trial, 1, deed=deed)]
    hung = insert(trial, 1, deed="hang once", timeout=timedelta(seconds=5))
    insert(trial, 15, seconds=0.2)
    trial.insert(60, seconds=0.05)
    for _ in range(2):
        trial.until(lambda: children(trial))
        os.kill(trial.chance.choice(children(trial)), signal.SIGKILL)
        time.sleep(0.3)
    trial.settle(within=100)  # a child needs a second of a processor to start
    assert trial.count(f"{PARKED} AND id = ANY(%s)", poisonous) == len(poisonous)
    assert trial.count("true") == len(poisonous), "an innocent was not finished"
    assert all(trial.starts(task) <= 2 for task in hung)  # a busy machine may start a child for longer than the limit
    for worker in workers:
        trial.assert_slots(worker)


@fault("F52 with its pool", "SIGKILL of a process whose isolated runs go on: they end with it", given=GIVEN)
def with_its_pool(trial: Trial) -> None:
    workers = trial.start()
    held = insert(trial, 2, gate=trial.gate())
    trial.until(lambda: all(trial.starts(task) for task in held))
    orphans = children(trial)
    assert len(orphans) == len(held)
    for worker in workers:
        trial.strike(worker, worker.kill, BOUND + SUSPECTED)
    assert all(ends(pid, 5) for pid in orphans)
    trial.replace_dead()
    trial.until(lambda: all(trial.starts(task, attempt=2) for task in held), BOUND + SUSPECTED)
    trial.open_gate()
    trial.settle()
