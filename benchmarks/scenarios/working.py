"""Measures tasks that take time, or the processor, by one process and by several on one table."""

import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import partial
from operator import truediv
from pathlib import Path
from typing import Final

from benchmarks.bench import Bench
from benchmarks.driver import Driver
from benchmarks.figures import Bar, Line, bar, percentile, spread
from benchmarks.report import Table
from fang_core.tasks.registry import Mode
from tests.waking.longs import waits

MODES: Final[tuple[Mode, ...]] = ("async", "threaded")

ROUNDS: Final = 3

System = Callable[[], AbstractContextManager[Driver]]


def short_tasks(bench: Bench) -> Table:
    """Measures how close the workers come to their possible rate if tasks wait for 1 or 10 ms."""
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
    """Measures whether processes on one table slow each other down: tasks of 1 ms, ten async workers in each."""
    columns = ("processes", "on one table", "against one", "on a table each", "one table against that")
    table = Table("processes", "Processes with tasks of 1 ms, tasks a second", columns, x_name="processes")
    system = partial(bench.system, "own_async", workers=10)
    load = _Load("waits", bench.tasks(40_000), {"ms": 1})
    seen: dict[int, tuple[list[float], list[float]]] = {count: ([], []) for count in (1, 2, 4, 8)}
    for _ in range(ROUNDS):
        for count, (shared, apart) in seen.items():
            shared.append(_rate(system, count, load))
            apart.append(_rate(system, count, load, apart=True))
    for count, (shared, apart) in seen.items():
        against_one = spread(list(map(truediv, shared, seen[1][0])))
        table.rows.append(
            (str(count), spread(shared), against_one, spread(apart), spread(list(map(truediv, shared, apart))))
        )
    for column, name in enumerate(("on one table", "on a table each")):
        points = [(float(count), statistics.median(rates[column])) for count, rates in seen.items()]
        table.lines.append(Line(name, points))
    table.raw = {str(count): rates for count, rates in seen.items()}
    table.notes.append("with a table each there is nothing to contend for: the last column is the price of sharing")
    return table


def cpu_bound(bench: Bench) -> Table:
    """Measures whether a second process doubles the rate of tasks that compute: two threads in each."""
    table = Table(
        "cpu-bound", "Tasks that compute (threaded), tasks a second", ("processes", "tasks a second", "against one")
    )
    system = partial(bench.system, "own_threaded", workers=2)
    load = _Load("computations", bench.tasks(1_000), {"loops": 500_000})
    seen: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(ROUNDS):
        for count, rates in seen.items():
            rates.append(_rate(system, count, load))
    for count, rates in seen.items():
        table.rows.append((str(count), spread(rates), spread(list(map(truediv, rates, seen[1])))))
        table.bars.append(bar(f"{count} processes", rates))
    return table


def long_among_short(bench: Bench) -> Table:
    """Measures how long claimed tasks wait for a worker, in four processes, if one task in a hundred is long."""
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
    """Returns the seconds until they have run all tasks, each starting and stopping its pool, and how many ran."""
    began = time.perf_counter()
    for driver in drivers:
        driver.begin("drain_all")
    runs = sum(driver.result(600) for driver in drivers)
    return time.perf_counter() - began, runs


@dataclass(frozen=True)
class _Load:
    """The arguments of a peer's ``insert_<kind>``."""

    kind: str
    tasks: int
    fields: Mapping[str, float]


def _rate(system: System, count: int, load: _Load, *, apart: bool = False) -> float:
    """Returns the tasks a second of ``count`` processes, each of which has inserted its share."""
    with ExitStack() as stack:
        first = stack.enter_context(system())
        others = (system() if apart else first.twin() for _ in range(count - 1))
        drivers = [first, *map(stack.enter_context, others)]
        for driver in drivers:  # after its imports
            driver.ask(f"insert_{load.kind}", tasks=load.tasks // count, **load.fields)
        seconds, runs = seconds_of(drivers)
        return runs / seconds
