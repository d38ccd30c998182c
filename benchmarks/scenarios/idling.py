"""Measures what an idle process costs."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

from benchmarks.bench import Bench
from benchmarks.driver import Driver
from benchmarks.report import Table

SETTLING: Final = 66  # polls have become as rare as they get, and connections that stood idle in their pool are closed
SECONDS: Final = 20


def idle(bench: Bench) -> Table:
    """Measures statements on the database, processor time, connections and memory of a waiting pool."""
    columns = ("pool", "statements a second", "CPU %", "connections", "RSS, MB")
    table = Table("idle", "An idle process", columns)
    settings = [("async", 10), ("async", 1_000), ("threaded", 10)]
    with ExitStack() as stack:
        drivers = [stack.enter_context(_idler(bench, mode, workers)) for mode, workers in settings]
        for driver in drivers:  # all at once: none of them does anything
            driver.begin("idle", settling=SETTLING, seconds=SECONDS)
        time.sleep(SETTLING + 1)  # in which Python starts
        before = [bench.server.statements(driver.url) for driver in drivers]
        time.sleep(SECONDS - 2)
        after = [bench.server.statements(driver.url) for driver in drivers]
        connections = [bench.server.connections(driver.url) for driver in drivers]
        for index, (mode, workers) in enumerate(settings):
            seen = drivers[index].result()
            rate = (after[index] - before[index]) / (SECONDS - 2)
            name = f"{mode}, {workers:,} workers"
            table.rows.append((name, rate, seen["cpu"], str(connections[index]), seen["rss"]))
    table.notes.append("all three at once, each on a database of its own")
    return table


@contextmanager
def _idler(bench: Bench, mode: str, workers: int) -> Iterator[Driver]:
    url = bench.server.database()
    try:
        with Driver(f"own_{mode}", url) as other:  # the process that migrates is not measured
            other.ask("install")
        with Driver(f"own_{mode}", url, setting={"workers": workers}) as driver:
            yield driver
    finally:
        bench.server.drop(url)
