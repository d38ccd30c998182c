"""Measures task types with limits and rates: how much of the rate without limits they reach, how soon a slot that was
left is used again, and whether a rate is kept.
"""

import itertools
from collections.abc import Sequence
from contextlib import ExitStack
from operator import itemgetter, truediv
from typing import Any, Final

from benchmarks.bench import Bench
from benchmarks.driver import Driver
from benchmarks.figures import bar, percentile, spread
from benchmarks.report import Table
from fang_core import Rate

MODES: Final = ("async", "threaded")
PROCESSES: Final = (1, 8)
ROUNDS: Final = 5
KEYS: Final = 1_024
WORKERS: Final = 100
DRAINS: Final = (
    ("async", 1, WORKERS),
    ("async", 1, 5 * WORKERS),
    ("async", 8, WORKERS),
    ("threaded", 1, WORKERS),
    ("threaded", 8, WORKERS),
)
"""The mode, how many processes, and how many workers in each."""
RATE: Final = 500
BURST: Final = Rate(RATE).gcra.burst
"""The burst that such a rate has unless it is given one."""

Run = tuple[str, float, float]
"""The kind of a run, and when it began and ended, by the one clock of the machine."""


def limits(bench: Bench) -> Table:
    """Measures what a limit for each key costs: drains of tasks with 1,024 keys, two at once of each, and of others.

    The others are claimed as usual, ahead of the workers, and, as those with limits are, for idle workers only.
    """
    columns = (
        "mode",
        "processes",
        "workers of each",
        "without limits",
        "for idle workers only",
        "two at once of a key",
    )
    table = Table(
        "limits",
        f"Drain of no-op tasks of {KEYS:,} keys, tasks a second",
        (*columns, "of that without limits", "of that for idle workers"),
    )
    tasks = bench.tasks(50_000)
    for mode, processes, workers in DRAINS:
        plain: list[float] = []
        idle: list[float] = []
        keyed: list[float] = []
        with ExitStack() as stack:
            setting = {"mode": mode, "kinds": ["plain", "keyed"], "workers": workers}
            usual = _processes(bench, stack, processes, **setting)
            others = _processes(bench, stack, processes, **setting, ahead=False)
            for _ in range(ROUNDS):
                plain.append(_rate(_drain(usual, "plain", tasks)))
                idle.append(_rate(_drain(others, "plain", tasks)))
                keyed.append(_rate(_drain(usual, "keyed", tasks)))
        ratios = [list(map(truediv, keyed, each)) for each in (plain, idle)]
        table.rows.append((mode, str(processes), str(workers), *map(spread, (plain, idle, keyed, *ratios))))
        seen = {"without limits": plain, "for idle workers only": idle, "two at once of a key": keyed}
        name = f"{mode}, processes: {processes}, workers of each: {workers}"
        table.bars += [bar(f"{name}: {kind}", rates) for kind, rates in seen.items()]
        table.raw[name] = seen
    table.notes.append(
        "goals: 0.7 by one process, 0.5 by eight; no task with a limit waits for a worker, so claims are small with "
        "few workers; the column for idle workers has the same small claims without limits"
    )
    return table


def slots(bench: Bench) -> Table:
    """Measures the time from the end of a run to the next start in its slot, by the same pool and by another one."""
    table = Table(
        "slots", "From the end of a run to the next one in its slot, ms", ("mode", "pool", "p50", "p95", "most")
    )
    for mode in MODES:
        waits = {"the same": _in_the_same_pool(bench, mode), "another, notified": _in_another_pool(bench, mode)}
        for pool, seconds in waits.items():
            found = [1000 * wait for wait in seconds]
            table.rows.append((mode, pool, percentile(found, 50), percentile(found, 95), max(found)))
            table.bars.append(bar(f"{mode}: {pool}", found))
            table.raw[f"{mode}, {pool}"] = found
    table.notes.append("a type with one slot; goal: p50 below 10 ms")
    return table


def rates(bench: Bench) -> Table:
    """Measures how much of a rate of 500 starts a second is used, and whether it is exceeded."""
    columns = ("mode", "processes", "of the rate", "most starts in a second")
    table = Table("rates", f"Starts of tasks with a rate of {RATE}/s and a burst of {BURST}", columns)
    tasks = bench.tasks(5_000)
    for mode in MODES:
        for processes in PROCESSES:
            with ExitStack() as stack:
                drivers = _processes(bench, stack, processes, mode=mode, kinds=["rated"], workers=10)
                starts = sorted(began for _, began, _ in _drain(drivers, "rated", tasks))
            used = (len(starts) - BURST) / (starts[-1] - starts[0]) / RATE
            most = max(_within_a_second(starts))
            table.rows.append((mode, str(processes), f"{100 * used:.1f} %", str(most)))
            table.bars.append(bar(f"{mode}, {processes} processes", [used]))
            table.raw[f"{mode}, {processes}"] = {"used": used, "most": most}
    table.notes.append(f"goal: 95 %; allowed are {RATE + BURST} in a second, but for runs that begin a little late")
    return table


def _processes(bench: Bench, stack: ExitStack, count: int, **setting: Any) -> list[Driver]:
    first = stack.enter_context(bench.system("own_limits", **setting))
    return [first, *(stack.enter_context(first.twin()) for _ in range(count - 1))]


def _drain(drivers: Sequence[Driver], kind: str, tasks: int) -> list[Run]:
    """Returns the runs of tasks of a kind that all processes drain together."""
    drivers[0].ask("fill", kind=kind, tasks=tasks, keys=KEYS)
    for command in ("start_pool", "drain_pool", "stop_pool"):
        for driver in drivers:
            driver.begin(command, **({"task_types": [kind]} if command == "start_pool" else {}))
        results = [driver.result(600) for driver in drivers]
    return sorted((tuple(run) for runs in results for run in runs), key=itemgetter(1))


def _rate(runs: Sequence[Run]) -> float:
    return len(runs) / (max(ended for *_, ended in runs) - runs[0][1])


def _in_the_same_pool(bench: Bench, mode: str) -> list[float]:
    with ExitStack() as stack:
        drivers = _processes(bench, stack, 1, mode=mode, kinds=["slot"], workers=4)
        drivers[0].ask("fill", kind="slot", tasks=bench.tasks(300), ms=5.0)
        drivers[0].ask("start_pool", task_types=["slot"])
        drivers[0].ask("drain_pool")
        runs = sorted(drivers[0].ask("stop_pool"), key=itemgetter(1))
    return [later[1] - former[2] for former, later in itertools.pairwise(runs)]


def _in_another_pool(bench: Bench, mode: str) -> list[float]:
    """Has one pool leave the slot, whose only worker has another task to run then, and another one wait for it."""
    with ExitStack() as stack:
        (leaves,) = _processes(bench, stack, 1, mode=mode, kinds=["slot", "busy"], workers=1)
        waits = stack.enter_context(Driver("own_limits", leaves.url, setting=_alone(mode)))
        leaves.ask("start_pool", task_types=["slot", "busy"])
        waits.ask("start_pool", task_types=["slot"])
        for _ in range(bench.tasks(60) // 2):
            leaves.ask("fill", kind="slot", tasks=1, ms=150.0)
            _let_work((leaves, waits), 0.05)
            leaves.ask("fill", kind="busy", tasks=1, ms=150.0)
            waits.ask("fill", kind="handed", tasks=1)
            _let_work((leaves, waits), 0.4)
        ended = sorted(ended for kind, _, ended in leaves.ask("stop_pool") if kind == "slot")
        began = sorted(began for _, began, _ in waits.ask("stop_pool"))
    return [later - former for former, later in zip(ended, began, strict=True)]


def _let_work(drivers: Sequence[Driver], seconds: float) -> None:
    for driver in drivers:
        driver.begin("wait", seconds=seconds)
    for driver in drivers:
        driver.result()


def _alone(mode: str) -> dict[str, Any]:
    return {"mode": mode, "kinds": ["handed"], "workers": 1}


def _within_a_second(starts: Sequence[float]) -> list[int]:
    """Returns for each start how many there are within the second that begins with it."""
    counts, last = [], 0
    for first, at in enumerate(starts):
        while last < len(starts) and starts[last] < at + 1.0:
            last += 1
        counts.append(last - first)
    return counts
