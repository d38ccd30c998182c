"""Tasks that take time, or the processor, by one process and by several on one table."""

import time
from contextlib import ExitStack

from benchmarks.driver import Driver
from benchmarks.report import Table
from benchmarks.scenarios import Bench, scenario


def seconds_of(drivers: list[Driver]) -> float:
    """Until all of them together have run what is there, each starting and stopping its pool."""
    began = time.perf_counter()
    for driver in drivers:
        driver.begin("drain_all")
    for driver in drivers:
        driver.result()
    return time.perf_counter() - began


@scenario("short-tasks")
def short_tasks(bench: Bench) -> Table:
    """How much of what the workers could run do they run, where tasks wait for 1 or 10 ms?"""
    columns = ("mode", "task, ms", "workers", "tasks a second", "of what workers could")
    table = Table("Tasks that wait", columns)
    for peer in ("own_async", "own_threaded"):
        for ms in (1, 10):
            for count in (50, 500):
                most = 1000 / ms * count
                tasks = bench.tasks(min(60_000, int(most * 3)))
                with bench.system(peer, workers=count) as driver:
                    driver.ask("insert_waits", tasks=tasks, ms=ms)
                    rate = tasks / seconds_of([driver])
                table.rows.append((peer, str(ms), str(count), rate, f"{100 * rate / most:.0f} %"))
    return table


@scenario("processes")
def processes(bench: Bench) -> Table:
    """Do processes on one table get into each other's way? Tasks of 1 ms, ten async workers in each."""
    table = Table("Processes on one table, tasks of 1 ms", ("processes", "tasks a second", "against one"))
    tasks = bench.tasks(40_000)
    rates: list[float] = []
    for count in (1, 2, 4, 8):
        with bench.system("own_async", workers=10) as first, ExitStack() as stack:
            drivers = [first, *(stack.enter_context(first.twin(workers=10)) for _ in range(count - 1))]
            for driver in drivers:
                driver.ask("insert_waits", tasks=tasks // count, ms=1)  # each has imported what it needs
            rates.append(tasks / seconds_of(drivers))
        table.rows.append((str(count), rates[-1], rates[-1] / rates[0]))
    return table


@scenario("cpu-bound")
def cpu_bound(bench: Bench) -> Table:
    """Does a second process double what a first one computes? Two threads in each."""
    table = Table("Tasks that compute (threaded)", ("processes", "tasks a second", "against one"))
    tasks = bench.tasks(1_000)
    rates: list[float] = []
    for count in (1, 2):
        with bench.system("own_threaded", workers=2) as first, ExitStack() as stack:
            drivers = [first, *(stack.enter_context(first.twin(workers=2)) for _ in range(count - 1))]
            for driver in drivers:
                driver.ask("insert_computations", tasks=tasks // count, loops=500_000)
            rates.append(tasks / seconds_of(drivers))
        table.rows.append((str(count), rates[-1], rates[-1] / rates[0]))
    return table
