"""Drains of no-op tasks: beside a backlog, finished rows, dead rows, and by more or fewer workers."""

from typing import Final

from benchmarks.comparison import windows
from benchmarks.driver import Driver
from benchmarks.report import Table
from benchmarks.scenarios import Bench, scenario

FILL: Final = """INSERT INTO fang.fang_tasks (metadata, state) SELECT '{{"type": "Noop", "n": 0}}', '{state}'
FROM generate_series(1, {rows})"""
DRAINED: Final = 20_000


def drained(driver: Driver, tasks: int) -> float:
    """Tasks a second."""
    return float(tasks / driver.ask("drain", tasks=tasks, within=600)["seconds"])


@scenario("backlog")
def backlog(bench: Bench) -> Table:
    """Does a claim cost more where more tasks wait? The first 20,000 of so many."""
    table = Table("Drain of the first tasks of a backlog, tasks a second", ("backlog", "async", "threaded"))
    sizes = [10**3, 10**4, 10**5, 10**6, *([10**7] if bench.huge else [])]
    for size in sizes:
        rows = bench.tasks(size)
        rates = []
        for peer in ("fang_async", "fang_threaded"):
            with bench.system(peer, workers=10) as driver:
                bench.server.query(driver.url, FILL.format(state="new", rows=rows))
                course = driver.ask("drain", tasks=min(rows, DRAINED), within=600)["course"]
                (begin, first), (end, last) = course[0], course[-1]
                rates.append((end - begin) / (last - first))  # without its stop, which gives back
        table.rows.append((f"{rows:,}", *rates))
    return table


@scenario("kept")
def kept(bench: Bench) -> Table:
    """Do finished rows that are kept slow a drain down?"""
    table = Table("Drain beside finished rows, tasks a second", ("finished rows", "async", "threaded"))
    for size in (0, 10**5, 10**6):
        rows = bench.tasks(size) if size else 0
        rates = []
        for peer in ("fang_async", "fang_threaded"):
            with bench.system(peer, workers=10) as driver:
                bench.server.query(driver.url, FILL.format(state="finished", rows=rows))
                driver.ask("insert", tasks=bench.tasks(DRAINED))
                rates.append(drained(driver, bench.tasks(DRAINED)))
        table.rows.append((f"{rows:,}", *rates))
    return table


@scenario("dead-rows")
def dead_rows(bench: Bench) -> Table:
    """A million tasks under a held xmin: what has died stays in the way of those that follow."""
    columns = ("mode", "tasks", "first tenth", "middle", "last tenth", "last / first")
    table = Table("Drain while a snapshot is held, tasks a second", columns)
    tasks = bench.tasks(10**6)
    for peer in ("fang_async", "fang_threaded"):
        with bench.system(peer, workers=10) as driver:
            bench.server.query(driver.url, FILL.format(state="new", rows=tasks))
            with bench.server.held_xmin(driver.url):
                rates = [rate for _, rate in windows(driver.ask("drain", tasks=tasks, within=600)["course"])]
        table.rows.append((peer, f"{tasks:,}", rates[0], rates[5], rates[-1], rates[-1] / rates[0]))
    return table


@scenario("workers")
def workers(bench: Bench) -> Table:
    """Does it matter how many workers a pool has, where tasks take no time?"""
    table = Table("Drain by so many workers, tasks a second", ("workers", "async", "threaded"))
    tasks = bench.tasks(DRAINED)
    for count in (1, 10, 100, 1_000):
        rates: list[float | None] = []
        for peer, most in (("fang_async", 1_000), ("fang_threaded", 100)):
            if count > most:
                rates.append(None)
                continue
            with bench.system(peer, workers=count) as driver:
                driver.ask("insert", tasks=tasks)
                rates.append(drained(driver, tasks))
        table.rows.append((str(count), *rates))
    return table
