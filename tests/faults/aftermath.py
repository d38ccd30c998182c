"""What must be as it was when a fault is over: I8 (same process, all slots), I9 (no leak), I10 (visible)."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final, NamedTuple

from fang_core.tasks.registry import Mode
from fang_threaded import Queue
from tests.faults.fleet import Vitals, Worker
from tests.faults.tasks import Blocking, Cooperative
from tests.faults.trial import MODES, Trial

SLOTS: Final = 4
"""Of each worker, unless it was told otherwise."""

SPARE: Final = 3
"""Connections by which a process may have grown: its queue keeps those that it once needed at a time for a minute."""

GROWTH: Final = 40_000
"""Kilobytes by which a process may have grown: what it runs through for the first time, and an allocator's slack."""


class Before(NamedTuple):
    """How it was before a fault."""

    workers: Sequence[Worker]
    vitals: Sequence[Vitals]
    sessions: int


def warmed_up(trial: Trial, workers: Sequence[Worker]) -> Before:
    """Has these run some tasks, and looks at them when they rest. No others may be alive."""
    assert_all_slots(trial, workers)
    return Before(workers, [worker.vitals() for worker in workers], _sessions(trial))


def assert_as_before(trial: Trial, before: Before, *, visible: str | None = "again") -> None:
    """The same processes run as many tasks at once as before, and hold no more than before; each has logged this, and
    told an event. None for ``visible`` where nothing has failed."""
    for worker in before.workers:
        assert worker.exit_code is None, worker.said()
        if visible is not None:
            said = worker.said()
            assert visible in said, f"nothing in the log says {visible!r}:\n{said}"
            assert "event: " in said, f"no event told of it:\n{said}"
    assert_all_slots(trial, before.workers)
    for worker, was in zip(before.workers, before.vitals, strict=True):
        trial.until(lambda worker=worker, was=was: worker.vitals().descriptors <= was.descriptors + SPARE)
        trial.until(lambda worker=worker, was=was: worker.vitals().threads <= was.threads)
        assert worker.vitals().kilobytes <= was.kilobytes + GROWTH
    trial.until(lambda: _sessions(trial) <= before.sessions + SPARE * len(before.workers))


def assert_all_slots(trial: Trial, workers: Sequence[Worker]) -> None:
    """So many tasks as these have slots run at once. No others may be alive."""
    name = f"all-slots-{trial.starts()}"
    kinds: dict[Mode, Any] = {"threaded": Blocking, "async": Cooperative}
    each = SLOTS * len(workers) // len(MODES[trial.mix])
    made = [kinds[mode](gate=trial.gate(name)) for mode in MODES[trial.mix] for _ in range(each)]
    with Queue(trial.url) as queue:
        # With a time limit, so that a pool of threads has its thread that interrupts runs when its threads are counted.
        together = [task.id for task in queue.insert_tasks(made, timeout=timedelta(hours=1))]
    for task in together:
        trial.acknowledge(task)
    trial.until(lambda: all(trial.starts(task) for task in together))
    trial.open_gate(name)
    trial.settle()


def assert_nobody_died(trial: Trial) -> None:
    """No pool was taken for dead. None may have stopped."""
    assert trial.rows("SELECT count(*) FROM audit.pools WHERE event = 'gone'") == [(0,)], "a live pool was given up"


def assert_each_ran_once(trial: Trial) -> None:
    """No task's run began twice."""
    inserted = trial.rows("SELECT count(*) FROM audit.tasks WHERE was IS NULL")[0][0]
    assert trial.starts() == inserted, "a task ran twice, or never"


def _sessions(trial: Trial) -> int:
    """What the server keeps for Fang."""
    ours = "application_name = 'fang' AND datname = current_database()"
    number: int = trial.rows(f"SELECT count(*) FROM pg_stat_activity WHERE {ours}")[0][0]
    return number
