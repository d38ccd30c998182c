"""What a process costs that has nothing to do."""

import time
from typing import Final

from benchmarks.bench import Bench
from benchmarks.driver import Driver
from benchmarks.report import Table

SETTLING: Final = 12  # an idle pool's polls have become as rare as they get
SECONDS: Final = 20


def idle(bench: Bench) -> Table:
    """Statements of its database, processor time, connections and memory of a pool that waits."""
    columns = ("pool", "statements a second", "CPU %", "connections", "RSS, MB")
    table = Table("idle", "An idle process", columns)
    for mode, workers in (("async", 10), ("async", 1_000), ("threaded", 10)):
        url = bench.server.database()
        with Driver(f"own_{mode}", url) as other:  # what migrates does not count
            other.ask("install")
        with Driver(f"own_{mode}", url, setting={"workers": workers}) as driver:
            driver.begin("idle", settling=SETTLING, seconds=SECONDS)
            time.sleep(SETTLING + 1)  # in which Python starts
            before = bench.server.statements(url)
            time.sleep(SECONDS - 2)
            rate = (bench.server.statements(url) - before) / (SECONDS - 2)
            connections = bench.server.connections(url)
            seen = driver.result()
        name = f"{mode}, {workers:,} workers"
        table.rows.append((name, rate, seen["cpu"], str(connections), seen["rss"]))
    return table
