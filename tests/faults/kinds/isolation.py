"""Tasks that run in child processes: what kills them, or their pool: F52."""

import os
import signal
import time
from contextlib import suppress
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from fang_threaded import Queue
from tests.faults.isolated_tasks import IsolatedBlocking, IsolatedCooperative
from tests.faults.registry import BOUND, SHORT, SUSPECTED, fault
from tests.faults.trial import MODES, Trial
from tests.processes import children_of, ends, servers_of

PARKED: Final = "state = 'failed' AND crashes = 3 AND error_message LIKE 'crashed: the child process%%'"
GIVEN: Final = {**SHORT, "isolated": True}
STARTS: Final = 60.0
"""Seconds within which children start: their server imports the library first, which takes a second of a processor."""


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
    "isolated tasks that kill their process, that hang, and whose process is killed, among innocent tasks",
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
        trial.until(lambda: children(trial), STARTS)
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
    trial.until(lambda: all(trial.starts(task) for task in held), STARTS)
    orphans = children(trial)
    assert len(orphans) == len(held)
    for worker in workers:
        trial.strike(worker, worker.kill, BOUND + SUSPECTED)
    assert all(ends(pid, 5) for pid in orphans)
    trial.replace_dead()
    trial.until(lambda: all(trial.starts(task, attempt=2) for task in held), BOUND + SUSPECTED)
    trial.open_gate()
    trial.settle()


TOLD: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@fault(
    "F52 fork server",
    "SIGKILL of two servers in a row that fork the child processes of a pool, whose isolated runs go on",
    also=("I8",),
    given=GIVEN,
)
def fork_server_killed(trial: Trial) -> None:
    """Each run goes on in the child that it has, and the next child has a new server. What a service manager sends to
    all processes of a service ends neither a server nor a child."""
    workers = trial.start()
    pools = [worker.pid for worker in workers]
    killed: set[int] = set()
    for _ in range(2):
        hold(trial)
        servers = servers_of(pools)
        assert len(servers) == len(pools), "a server that was killed has no successor"
        assert killed.isdisjoint(servers)
        for pid in [*servers, *children(trial)]:
            for told in TOLD:
                os.kill(pid, told)
        hold(trial)
        assert servers_of(pools) == servers, "a server has heeded a signal"
        for pid in servers:
            os.kill(pid, signal.SIGKILL)
        killed.update(servers)
    trial.open_gate("held")
    trial.settle()
    assert trial.attempts() == 1, "a run did not outlive its server"
    for worker in workers:
        trial.assert_slots(worker)
    left = children(trial)
    assert trial.fleet.stop() == [0] * len(workers)
    assert all(ends(pid, 5) for pid in left), "a pool left a process behind"


def hold(trial: Trial) -> None:
    """Has each pool run one more isolated task, in one more child."""
    held = insert(trial, 1, gate=trial.gate("held"))
    trial.until(lambda: all(trial.starts(task) for task in held), STARTS)


KILLS: Final = 12


@fault(
    "F52 at each moment",
    f"{KILLS} kills of child processes: while they start, run, send results, and wait for the next run",
    also=("I8",),
    given=GIVEN,
)
def children_killed_at_each_moment(trial: Trial) -> None:
    """A kill costs the run that had begun in that child a crash, and nothing else.

    A run has failed if three children in a row are killed before they begin it.
    """
    workers = trial.start()
    insert(trial, 50, seconds=0.02)
    killed = 0
    while killed < KILLS:
        trial.until(lambda: children(trial), STARTS)
        time.sleep(0.05 * trial.chance.random())
        for pid in trial.chance.sample(found := children(trial), min(1, len(found))):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            killed += 1
        insert(trial, 2, seconds=0.02)
    trial.settle(within=100)
    died = [each for each in trial.record().entries if each.event == "died"]
    assert len(died) <= KILLS, "more runs were charged than children killed"
    for worker in workers:
        trial.assert_slots(worker)
