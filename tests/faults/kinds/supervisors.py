"""Processes under a supervisor, which is killed, stopped, and asked to reload while they work: F54."""

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import fang_core
from fang_core.tasks.registry import Mode
from tests.faults.aftermath import SLOTS
from tests.faults.nursery import die_with
from tests.faults.registry import BOUND, SHORT, SHORT_LEASE, fault
from tests.faults.trial import MODES, Trial
from tests.faults.worker import ORDERS
from tests.processes import ends

ROOT: Final = Path(__file__).parents[3]
PROCESSES: Final = 2
FLOWS_AGAIN: Final = 15.0
"""Seconds after a fault from which on nine tenths of the slots that live work, or of the work that there is."""

STARTS: Final = 60.0
"""Seconds within which all processes have started, or been replaced: each is a new interpreter, which imports all."""


class Child(NamedTuple):
    """A process of a supervisor, as ``Trial.strike`` takes it."""

    pid: int
    mode: Mode
    given: dict[str, Any]


class Supervisor:
    """A ``fang worker --processes`` of one mode, and its processes."""

    def __init__(self, trial: Trial, mode: Mode) -> None:
        self._trial = trial
        self.mode = mode
        self._log = trial.directory / f"supervisor-{mode}.log"
        path = [str(Path(fang_core.__file__).parents[1]), str(ROOT)]
        orders = {**trial.fleet.given, "mode": mode, "log": str(self._log)}
        command = [sys.executable, "-P", "-m", "fang_cli", "worker", "tests.faults.supervised:pool"]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "--processes", str(PROCESSES)],
                stdout=subprocess.DEVNULL,
                stderr=log,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(path), ORDERS: json.dumps(orders)},
                preexec_fn=partial(die_with, os.getpid()),  # noqa: PLW1509 - there are no threads
            )
        trial.lasting.callback(self._close)

    def _close(self) -> None:
        pids = self._pids()
        self._process.kill()
        self._process.wait()
        for pid in pids:
            if not ends(pid, 0):
                os.kill(pid, signal.SIGKILL)

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def ends(self, within: float) -> int:
        return self._process.wait(within)

    def said(self) -> str:
        return self._log.read_text()

    def _pids(self) -> set[int]:
        try:
            children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text()
        except FileNotFoundError:
            return set()
        return {int(pid) for pid in children.split()}

    def children(self) -> list[Child]:
        """Those whose pools work."""
        rows = self._trial.rows("SELECT DISTINCT pid FROM fang.fang_pools WHERE NOT stopping")
        return [Child(pid, self.mode, {}) for (pid,) in rows if pid in self._pids()]

    def await_ready(self, former: list[Child] | None = None) -> list[Child]:
        """Until so many processes work as should, none of them one of these."""

        def are_ready() -> bool:
            pids = self._pids()
            return len(pids) == PROCESSES == len(self.children()) and pids.isdisjoint(each.pid for each in former or ())

        try:
            self._trial.until(are_ready, within=STARTS)
        except AssertionError as error:
            error.add_note(self.said())
            raise
        return self.children()


def start(trial: Trial) -> list[Supervisor]:
    """One for each mode of the mix."""
    started = [Supervisor(trial, mode) for mode in MODES[trial.mix]]
    for supervisor in started:
        supervisor.await_ready()
    return started


def stop(supervisors: list[Supervisor]) -> None:
    """In order, at the end of a fault; none may have anything left."""
    for supervisor in supervisors:
        supervisor.send(signal.SIGTERM)
    for supervisor in supervisors:
        assert supervisor.ends(40) == 0, supervisor.said()


@fault("F54", "the supervisor of working processes is killed, and started again", also=("I10",), given=SHORT)
def kill_the_supervisor(trial: Trial) -> None:
    """Its processes end, in order: what they run goes on to its end, what they have not begun goes back uncharged."""
    supervisors = start(trial)
    children = [child for supervisor in supervisors for child in supervisor.children()]
    trial.insert(60, seconds=1)
    trial.until(lambda: trial.starts() >= 4 * len(children))
    for child in children:
        trial.strike(child, lambda: None, BOUND)
    for supervisor in supervisors:
        supervisor.send(signal.SIGKILL)
        supervisor.ends(10)
    for child in children:
        assert ends(child.pid), "a process outlived its supervisor"
    for supervisor in supervisors:
        assert supervisor.said().count("the supervisor has gone: stopping") == PROCESSES
    assert not trial.count("state = 'in_progress'"), "a process left tasks held"
    again = start(trial)
    trial.settle()
    assert trial.starts() == 60, "a run was cut short"
    stop(again)


@fault(
    "F54 stopped",
    "SIGSTOP of the supervisor past the lease, a process of it is killed, SIGCONT",
    also=("I8", "I10", "I11"),
    given=SHORT,
)
def stop_the_supervisor(trial: Trial) -> None:
    """Its processes work on, the dead one is replaced when it goes on, and it kills nobody for its own silence."""
    supervisors = start(trial)
    former = {supervisor: supervisor.children() for supervisor in supervisors}
    for supervisor in supervisors:
        supervisor.send(signal.SIGSTOP)
    trial.insert(40, seconds=SHORT_LEASE)
    trial.until(lambda: trial.starts() >= 4 * len(former) * PROCESSES)
    began = time.monotonic()
    for first, _ in former.values():
        trial.strike(first, partial(os.kill, first.pid, signal.SIGKILL), BOUND)
    trial.settle(within=60)  # longer than the lease, by the others alone
    left = [(began, SLOTS * len(former) * (PROCESSES - 1))]
    trial.expect_flow(began, time.monotonic(), 0.5, left)
    trial.expect_flow(began + FLOWS_AGAIN, time.monotonic(), 0.9, left)
    for supervisor, (first, other) in former.items():
        supervisor.send(signal.SIGCONT)
        now = supervisor.await_ready([first])
        assert other.pid in {each.pid for each in now}, "it killed a process that worked"
        assert "killed by SIGKILL; another one takes its place" in supervisor.said()
    stop(supervisors)


@fault("F54 reload", "SIGHUP of the supervisor while its processes work, twice", also=("I10", "I11"), given=SHORT)
def reload_under_load(trial: Trial) -> None:
    """Every process is replaced, every task runs once, nothing is charged, and no slot is missed."""
    supervisors = start(trial)
    tasks = len(trial.insert(150 * len(supervisors), seconds=1))
    trial.until(trial.starts)
    began = time.monotonic()
    for _ in range(2):
        former = {supervisor: supervisor.children() for supervisor in supervisors}
        for supervisor in supervisors:
            supervisor.send(signal.SIGHUP)
        for supervisor, children in former.items():
            supervisor.await_ready(children)
        tasks += len(trial.insert(100, seconds=0.2))
    trial.settle(within=60)
    trial.expect_flow(began, time.monotonic(), 0.5, [(began, SLOTS * len(supervisors) * PROCESSES)])
    assert trial.starts() == tasks, "a run was cut short"
    for supervisor in supervisors:
        assert supervisor.said().count("is replaced: SIGHUP") == 2 * PROCESSES
    stop(supervisors)


@fault(
    "F54 hung",
    "a process never releases the GIL: its supervisor kills it",
    also=("I8", "I10"),
    given={**SHORT, "keep_all": True},
)
def hang_a_process(trial: Trial) -> None:
    """Its tasks run again, charged once; its sibling is not touched."""
    supervisors = start(trial)
    former = {supervisor: supervisor.children() for supervisor in supervisors}
    hung = trial.insert(len(supervisors), deed="hold the GIL once", seconds=3600)
    trial.until(lambda: trial.starts() >= len(hung))
    for children in former.values():
        for child in children:
            trial.strike(child, lambda: None, SHORT_LEASE + BOUND)
    trial.insert(40, seconds=0.1)
    trial.until(lambda: all(trial.starts(each, attempt=2) for each in hung), within=60)
    for supervisor, children in former.items():
        trial.until(lambda supervisor=supervisor: "has run no Python code for" in supervisor.said())
        now = supervisor.await_ready()
        assert len({each.pid for each in now} & {each.pid for each in children}) == 1, "it touched the sibling"
    trial.settle()
    assert trial.count("id = ANY(%s) AND crashes = 1 AND state = 'finished'", hung) == len(hung)
    stop(supervisors)
