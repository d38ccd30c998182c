"""Measures Fang on a file of SQLite, on the disk that holds this checkout: no server takes part."""

import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from benchmarks.bench import Bench
from benchmarks.driver import ROOT, Driver
from benchmarks.figures import bar, percentile, spread, waits
from benchmarks.report import Table

MODES: Final = ("async", "threaded")
SYNCHRONOUS: Final = ("full", "normal")
ROUNDS: Final = 3
WRITERS: Final = 8


def drain(bench: Bench) -> Table:
    """Measures drains of no-op tasks by ten workers of one process."""
    columns = ("mode", "synchronous", "tasks a second", "CPU a task, microseconds", "bulk insert, rows a second")
    table = Table("sqlite-drain", "SQLite: a drain of no-op tasks by ten workers", columns)
    tasks = bench.tasks(20_000)
    with ExitStack() as stack:
        settings = [(mode, synchronous) for mode in MODES for synchronous in SYNCHRONOUS]
        drivers = {each: stack.enter_context(_system(mode=each[0], synchronous=each[1])) for each in settings}
        seen: dict[tuple[str, str], list[tuple[float, float, float]]] = {each: [] for each in settings}
        for _ in range(ROUNDS):
            for each, driver in drivers.items():
                inserted = driver.ask("insert_noops", tasks=tasks)
                drained = driver.ask("drain_all", within=600)
                seen[each].append((tasks / drained["seconds"], 1e6 * drained["cpu"] / tasks, inserted))
    for (mode, synchronous), figures in seen.items():
        table.rows.append((mode, synchronous, *(spread(column) for column in zip(*figures, strict=True))))
        table.bars.append(bar(f"{mode}, {synchronous}", [rate for rate, *_ in figures]))
        table.raw[f"{mode}, {synchronous}"] = figures
    return table


def wake(bench: Bench) -> Table:
    """Measures how soon a task starts that another process has inserted."""
    columns = ("mode", "synchronous", "p50", "p99", "worst")
    table = Table("sqlite-wake", "SQLite: from the commit in one process to the start in another one, ms", columns)
    for mode in MODES:
        for synchronous in SYNCHRONOUS:
            with _system(mode=mode, synchronous=synchronous) as pool, pool.twin() as producer:
                pool.ask("start")
                committed = producer.ask("produce", tasks=bench.tasks(300), gap=0.02)
                time.sleep(1.0)
                found = waits(committed, pool.ask("stop"))
            p50, p99 = percentile(found, 50), percentile(found, 99)
            table.rows.append((mode, synchronous, p50, p99, found[-1]))
            table.raw[f"{mode}, {synchronous}"] = found
    return table


def writers(bench: Bench) -> Table:
    """Measures single inserts by one process, and by eight at once: how long each of them waits for the others."""
    columns = ("synchronous", "processes", "inserts a second", "p50, ms", "p99, ms", "worst, ms")
    table = Table("sqlite-writers", "SQLite: processes that insert one task after the other", columns)
    for synchronous in SYNCHRONOUS:
        for count in (1, WRITERS):
            with ExitStack() as stack:
                first = stack.enter_context(_system(synchronous=synchronous))
                drivers = [first, *(stack.enter_context(first.twin()) for _ in range(count - 1))]
                for driver in drivers:  # after its imports
                    driver.ask("install")
                began = time.perf_counter()
                for driver in drivers:
                    driver.begin("insert_single", tasks=bench.tasks(2_000) // count)
                took = [1000 * seconds for driver in drivers for seconds in driver.result(600)]
                rate = len(took) / (time.perf_counter() - began)
            p50, p99 = statistics.median(took), percentile(took, 99)
            table.rows.append((synchronous, str(count), rate, p50, p99, max(took)))
            table.raw[f"{synchronous}, {count}"] = took
    return table


@contextmanager
def _system(**setting: Any) -> Iterator[Driver]:
    """Starts a process on a file of its own, with the tables."""
    home = ROOT / ".benchmarks"
    home.mkdir(exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="sqlite-", dir=home))
    try:
        with Driver("own_sqlite", str(directory / "tasks.db"), setting=setting) as driver:
            driver.ask("install")
            yield driver
    finally:
        shutil.rmtree(directory)
