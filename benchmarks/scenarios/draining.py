"""Measures drains of no-op tasks with a backlog, foreign, finished or dead rows, and more or fewer workers: the curves
should be flat. Also measures what a task costs the worker's process.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, Final

from benchmarks.bench import Bench
from benchmarks.driver import Driver
from benchmarks.figures import Line, bar, spread, windows
from benchmarks.report import Table

FILL: Final = """INSERT INTO fang.fang_tasks (id, metadata, state)
SELECT uuidv7(), '{{"type": "{kind}", "n": 0}}', '{state}' FROM generate_series(1, {rows})"""
"""Inserts rows with ids such as clients make: the primary key grows at one end, and shrinks at the other."""

DRAINED: Final = 20_000
ROUNDS: Final = 3
MODES: Final = ("fang_async", "fang_threaded")
MOST_THREADS: Final = 100


def backlog(bench: Bench) -> Table:
    """Measures whether a claim costs more if more tasks wait: drains the first 20,000 of a backlog."""
    table = Table("backlog", "Drain of the first tasks of a backlog, tasks a second", ("backlog", "async", "threaded"))
    sizes = [10**3, 10**4, 10**5, 10**6, *([10**7] if bench.huge else [])]

    def rate(driver: Driver, rows: int) -> float:
        drained = min(rows, DRAINED)
        course = driver.ask("drain", tasks=drained, within=600)["course"]
        _fill(bench, driver, drained)
        return _rate(course)  # without its stop, which gives back

    _measure(bench, table, [bench.tasks(size) for size in sizes], rate, state="new")
    return table


def kept(bench: Bench) -> Table:
    """Measures whether kept finished rows slow a drain down."""
    table = Table(
        "kept", "Drain with finished rows in the table, tasks a second", ("finished rows", "async", "threaded")
    )
    sizes = [10**5, 10**6, *([10**7] if bench.huge else [])]

    def rate(driver: Driver, rows: int) -> float:
        return _drain(driver, bench.tasks(DRAINED))

    _measure(bench, table, [0, *(bench.tasks(size) for size in sizes)], rate, state="finished")
    return table


def workers(bench: Bench) -> Table:
    """Measures whether the number of workers matters if tasks take no time."""
    table = Table("workers", "Drain by number of workers, tasks a second", ("workers", "async", "threaded"))
    for count in (1, 10, 100, 1_000):
        modes = MODES if count <= MOST_THREADS else MODES[:1]
        with ExitStack() as stack:
            drivers = {mode: stack.enter_context(bench.system(mode, workers=count)) for mode in modes}
            _take_turns(table, count, drivers, lambda driver: _drain(driver, bench.tasks(DRAINED)))
    _draw(table)
    return table


def dead_rows(bench: Bench) -> Table:
    """Drains a million tasks under a held xmin: dead rows stay in the way of later tasks."""
    columns = ("mode", "tasks", "first tenth", "middle", "last tenth", "last / first")
    table = Table("dead-rows", "Drain while a snapshot is held, tasks a second", columns, x_name="tasks drained")
    tasks = bench.tasks(10**6)
    for mode in MODES:
        with bench.system(mode, workers=10) as driver:
            _fill(bench, driver, tasks)
            with bench.server.held_xmin(driver.url):
                course = driver.ask("drain", tasks=tasks, within=600)["course"]
        rates = [rate for _, rate in windows(course)]
        table.rows.append((mode, f"{tasks:,}", rates[0], rates[5], rates[-1], rates[-1] / rates[0]))
        table.lines.append(Line(mode, windows(course, 20)))
    return table


def foreign(bench: Bench) -> Table:
    """Measures whether rows of kinds that no pool knows slow down the rows behind them. The first claim walks through
    them all."""
    columns = ("mode", "foreign rows", "start, ms", "tasks a second", "first tenth", "last tenth", "of none")
    table = Table("foreign", "Drain behind due rows of a foreign kind, tasks a second from the first run on", columns)
    tasks, rows = bench.tasks(100_000), bench.tasks(10**6)
    for mode in MODES:
        with bench.system(mode, workers=10) as without, bench.system(mode, workers=10) as behind:
            _fill(bench, behind, rows, kind="Foreign")
            seen: dict[int, list[dict[str, Any]]] = {0: [], rows: []}
            for _ in range(ROUNDS):
                for driver, drains in zip((without, behind), seen.values(), strict=True):
                    _fill(bench, driver, tasks)
                    drains.append(driver.ask("drain", tasks=tasks, within=600))
        of_none = [_rate(drain["course"]) for drain in seen[0]]
        for count, drains in seen.items():
            rates = [_rate(drain["course"]) for drain in drains]
            parts = [windows(drain["course"]) for drain in drains]
            first, last = (statistics.median(part[index][1] for part in parts) for index in (0, -1))
            start = spread([1000 * drain["starting"] for drain in drains])
            ratios = [rate / none for rate, none in zip(rates, of_none, strict=True)]
            against = spread(ratios) if count else None
            table.rows.append((mode, f"{count:,}", start, spread(rates), first, last, against))
            table.bars.append(bar(f"{mode}, {count:,} foreign rows", rates))
            table.raw[f"{mode}, {count}"] = drains
    table.notes.append("start: to the first run, with connecting and the first claim")
    return table


def worker_cpu(bench: Bench) -> Table:
    """Measures what a task costs the worker's process."""
    columns = ("mode", "CPU a task, microseconds", "tasks a second")
    table = Table("worker-cpu", "Processor time of the worker's process for each no-op task", columns)
    tasks = bench.tasks(100_000)
    seen: dict[str, list[tuple[float, float]]] = {mode: [] for mode in MODES}
    with ExitStack() as stack:
        drivers = {mode: stack.enter_context(bench.system(mode, workers=10)) for mode in MODES}
        for _ in range(ROUNDS):
            for mode, driver in drivers.items():
                driver.ask("insert", tasks=tasks)
                drain = driver.ask("drain", tasks=tasks, within=600)
                seen[mode].append((1e6 * drain["cpu"] / tasks, tasks / drain["seconds"]))
    for mode, figures in seen.items():
        cpu, rates = zip(*figures, strict=True)
        table.rows.append((mode, spread(cpu), spread(rates)))
        table.bars.append(bar(mode, cpu))
        table.raw[mode] = figures
    table.notes.append("user and system time, from before the start of its pool to the end of its stop")
    return table


def _fill(bench: Bench, driver: Driver, rows: int, *, kind: str = "Noop", state: str = "new") -> None:
    bench.server.query(driver.url, FILL.format(kind=kind, state=state, rows=rows))


def _rate(course: Sequence[tuple[int, float]]) -> float:
    """Returns the tasks a second from the first run to the last."""
    (begin, first), (end, last) = course[0], course[-1]
    return (end - begin) / (last - first)


def _drain(driver: Driver, tasks: int) -> float:
    driver.ask("insert", tasks=tasks)
    return float(tasks / driver.ask("drain", tasks=tasks, within=600)["seconds"])


def _measure(bench: Bench, table: Table, sizes: Sequence[int], rate: Callable[..., float], *, state: str) -> None:
    """Adds a row for each size; each mode has a database of its own with this many rows in the state."""
    for size in sizes:
        with ExitStack() as stack:
            drivers = {mode: stack.enter_context(bench.system(mode, workers=10)) for mode in MODES}
            for driver in drivers.values():
                _fill(bench, driver, size, state=state)
                bench.server.query(driver.url, "CHECKPOINT")  # so that no drain has to write pages of the fill
            _take_turns(table, size, drivers, partial(rate, rows=size))
    _draw(table)


def _take_turns(table: Table, size: int, drivers: Mapping[str, Driver], rate: Callable[[Driver], float]) -> None:
    """Adds a row with the rates of all rounds."""
    seen: dict[str, list[float]] = {mode: [] for mode in drivers}
    for _ in range(ROUNDS):
        for mode, driver in drivers.items():
            seen[mode].append(rate(driver))
    table.rows.append((f"{size:,}", *(spread(seen[mode]) if mode in seen else None for mode in MODES)))
    table.raw[str(size)] = seen


def _draw(table: Table) -> None:
    """Draws a line for each mode, along the first column."""
    table.x_name = table.columns[0]
    for name, mode in zip(table.columns[1:], MODES, strict=True):
        points = [(float(size), statistics.median(seen[mode])) for size, seen in table.raw.items() if mode in seen]
        table.lines.append(Line(name, points))
