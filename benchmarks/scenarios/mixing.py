"""Measures a mix of the features that applications use."""

from typing import Final

from benchmarks.bench import Bench
from benchmarks.figures import bar, spread
from benchmarks.report import Table
from benchmarks.scenarios.working import seconds_of

ROUNDS: Final = 3


def mixed(bench: Bench) -> Table:
    """Measures what retries, unique tasks and a schedule cost, compared with no-op tasks alone."""
    columns = ("mode", "no-op tasks", "one in ten fails once, one in ten is unique, a tick each second")
    table = Table("mixed", "Drain of a mixed load, runs a second", columns)
    tasks = bench.tasks(50_000)
    for mode in ("async", "threaded"):
        rates: dict[str, list[float]] = {"noops": [], "mixed": []}
        for _ in range(ROUNDS):
            for load, seen in rates.items():
                with bench.system(f"own_{mode}", workers=10) as driver:
                    driver.ask(f"insert_{load}", tasks=tasks)
                    seconds, runs = seconds_of([driver])
                    seen.append(runs / seconds)
        table.rows.append((mode, *(spread(seen) for seen in rates.values())))
        table.bars += [bar(f"{mode}: {load}", seen) for load, seen in rates.items()]
        table.raw[mode] = rates
    return table
