"""Drains of no-op tasks beside a backlog, finished or dead rows, and by more or fewer workers: all should be flat."""

from collections.abc import Callable, Sequence
from typing import Final

from benchmarks.bench import Bench
from benchmarks.driver import Driver
from benchmarks.figures import Line, windows
from benchmarks.report import Table

FILL: Final = """INSERT INTO fang.fang_tasks (metadata, state) SELECT '{{"type": "Noop", "n": 0}}', '{state}'
FROM generate_series(1, {rows})"""
DRAINED: Final = 20_000
MODES: Final = ("fang_async", "fang_threaded")


def backlog(bench: Bench) -> Table:
    """Does a claim cost more where more tasks wait? The first 20,000 of so many."""
    table = Table("backlog", "Drain of the first tasks of a backlog, tasks a second", ("backlog", "async", "threaded"))
    sizes = [10**3, 10**4, 10**5, 10**6, *([10**7] if bench.huge else [])]

    def rate(driver: Driver, rows: int) -> float:
        bench.server.query(driver.url, FILL.format(state="new", rows=rows))
        course = driver.ask("drain", tasks=min(rows, DRAINED), within=600)["course"]
        (begin, first), (end, last) = course[0], course[-1]
        return float((end - begin) / (last - first))  # without its stop, which gives back

    _measure(bench, table, [bench.tasks(size) for size in sizes], rate)
    return table


def kept(bench: Bench) -> Table:
    """Do finished rows that are kept slow a drain down?"""
    table = Table("kept", "Drain beside finished rows, tasks a second", ("finished rows", "async", "threaded"))
    sizes = [10**5, 10**6, *([10**7] if bench.huge else [])]

    def rate(driver: Driver, rows: int) -> float:
        bench.server.query(driver.url, FILL.format(state="finished", rows=rows))
        return _drain(driver, bench.tasks(DRAINED))

    _measure(bench, table, [0, *(bench.tasks(size) for size in sizes)], rate)
    return table


def workers(bench: Bench) -> Table:
    """Does it matter how many workers a pool has, where tasks take no time?"""
    table = Table("workers", "Drain by so many workers, tasks a second", ("workers", "async", "threaded"))
    for count in (1, 10, 100, 1_000):
        rates: list[float | None] = []
        for mode, most in (("fang_async", 1_000), ("fang_threaded", 100)):
            if count <= most:
                with bench.system(mode, workers=count) as driver:
                    rates.append(_drain(driver, bench.tasks(DRAINED)))
            else:
                rates.append(None)
        table.rows.append((str(count), *rates))
    _draw(table)
    return table


def dead_rows(bench: Bench) -> Table:
    """A million tasks under a held xmin: what has died stays in the way of those that follow."""
    columns = ("mode", "tasks", "first tenth", "middle", "last tenth", "last / first")
    table = Table("dead-rows", "Drain while a snapshot is held, tasks a second", columns, x_name="tasks drained")
    tasks = bench.tasks(10**6)
    for mode in MODES:
        with bench.system(mode, workers=10) as driver:
            bench.server.query(driver.url, FILL.format(state="new", rows=tasks))
            with bench.server.held_xmin(driver.url):
                course = driver.ask("drain", tasks=tasks, within=600)["course"]
        rates = [rate for _, rate in windows(course)]
        table.rows.append((mode, f"{tasks:,}", rates[0], rates[5], rates[-1], rates[-1] / rates[0]))
        table.lines.append(Line(mode, windows(course, 20)))
    return table


def _drain(driver: Driver, tasks: int) -> float:
    driver.ask("insert", tasks=tasks)
    return float(tasks / driver.ask("drain", tasks=tasks, within=600)["seconds"])


def _measure(bench: Bench, table: Table, sizes: Sequence[int], rate: Callable[[Driver, int], float]) -> None:
    """A row for each size, each mode on a database of its own."""
    for size in sizes:
        rates = []
        for mode in MODES:
            with bench.system(mode, workers=10) as driver:
                rates.append(rate(driver, size))
        table.rows.append((f"{size:,}", *rates))
    _draw(table)


def _draw(table: Table) -> None:
    """A line for each mode, along the first column."""
    table.x_name = table.columns[0]
    for column, mode in enumerate(table.columns[1:], 1):
        points = [(float(str(row[0]).replace(",", "")), row[column]) for row in table.rows]
        table.lines.append(Line(mode, [(x, y) for x, y in points if isinstance(y, float)]))
