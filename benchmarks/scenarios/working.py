"""Tasks that take time, or the processor, by one process and by several on one table."""

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks.bench import Bench
from benchmarks.driver import Driver
from benchmarks.figures import Bar, Line, percentile
from benchmarks.report import Table
from fang_core.registry import Mode
from tests.waking.longs import waits

MODES: Final[tuple[Mode, ...]] = ("async", "threaded")

System = Callable[[], AbstractContextManager[Driver]]


def short_tasks(bench: Bench) -> Table:
    """How much of what the workers could run do they run, where tasks wait for 1 or 10 ms?"""
    columns = ("mode", "task, ms", "workers", "tasks a second", "of what workers could")
    table = Table("short-tasks", "Tasks that wait, tasks a second", columns)
    for mode in ("async", "threaded"):
        for ms in (1, 10):
            for count in (50, 500):
                most = 1000 / ms * count
                tasks = bench.tasks(min(60_000, int(most * 3)))
                with bench.system(f"own_{mode}", workers=count) as driver:
                    driver.ask("insert_waits", tasks=tasks, ms=ms)
                    seconds, runs = seconds_of([driver])
                rate = runs / seconds
                table.rows.append((mode, str(ms), str(count), rate, f"{100 * rate / most:.0f} %"))
                table.bars.append(Bar(f"{mode}, {ms} ms, {count} workers", rate, rate, rate))
    return table


def processes(bench: Bench) -> Table:
    """Do processes on one table get into each other's way? Tasks of 1 ms, ten async workers in each."""
    tasks = bench.tasks(40_000)
    title = "Processes on one table, tasks of 1 ms: tasks a second"
    table = Table("processes", title, ("processes", "tasks a second", "against one"), x_name="processes")
    _by_processes(table, (1, 2, 4, 8), partial(bench.system, "own_async", workers=10), _Load("waits", tasks, {"ms": 1}))
    return table


def cpu_bound(bench: Bench) -> Table:
    """Does a second process double what a first one computes? Two threads in each."""
    tasks = bench.tasks(1_000)
    title = "Tasks that compute (threaded), tasks a second"
    table = Table("cpu-bound", title, ("processes", "tasks a second", "against one"), x_name="processes")
    load = _Load("computations", tasks, {"loops": 500_000})
    _by_processes(table, (1, 2), partial(bench.system, "own_threaded", workers=2), load)
    return table


def long_among_short(bench: Bench) -> Table:
    """How long do claimed tasks wait for a worker, in four processes where one task in a hundred is long?"""
    long = 10.0 if bench.scale >= 1 else 1.0
    columns = ("mode", "tasks", "p50", "p99", "worst", "above 200 ms")
    title = f"From claim to start, or back to the table, of tasks of 1 ms with one in a hundred of {long:.0f} s; ms"
    table = Table("long-among-short", title, columns)
    tasks = bench.tasks(10_000)
    for mode in MODES:
        with bench.system(f"own_{mode}") as driver, tempfile.TemporaryDirectory() as directory:
            seconds = waits(mode, driver.url, Path(directory), tasks=tasks, long=long, workers=10)
        found = [1000 * wait for wait in seconds]
        late = sum(wait > 200 for wait in found)
        p50, p99 = percentile(found, 50), percentile(found, 99)
        table.rows.append((mode, f"{tasks:,}", p50, p99, found[-1], str(late)))
        table.bars.append(Bar(mode, p50, p50, p99))
        table.raw[mode] = found
    table.notes += [
        "every wait counts, whether another process had a free worker or not; ten workers in each",
        "in the plot, the thin line goes to p99",
    ]
    return table


def seconds_of(drivers: list[Driver]) -> tuple[float, int]:
    """Until all of them together have run what is there, each starting and stopping its pool; and how many ran."""
    began = time.perf_counter()
    for driver in drivers:
        driver.begin("drain_all")
    runs = sum(driver.result(600) for driver in drivers)
    return time.perf_counter() - began, runs


@dataclass(frozen=True)
class _Load:
    """What a peer's ``insert_<kind>`` is asked for."""

    kind: str
    tasks: int
    fields: Mapping[str, float]


def _by_processes(table: Table, counts: Sequence[int], system: System, load: _Load) -> None:
    rates: list[float] = []
    for count in counts:
        with system() as first, ExitStack() as stack:
            drivers = [first, *(stack.enter_context(first.twin()) for _ in range(count - 1))]
            for driver in drivers:  # each has imported what it needs
                driver.ask(f"insert_{load.kind}", tasks=load.tasks // count, **load.fields)
            seconds, runs = seconds_of(drivers)
            rates.append(runs / seconds)
        table.rows.append((str(count), rates[-1], rates[-1] / rates[0]))
    table.lines.append(Line(load.kind, [(float(count), rate) for count, rate in zip(counts, rates, strict=True)]))
