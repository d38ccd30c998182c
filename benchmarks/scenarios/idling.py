"""What a process costs that has nothing to do."""

import time
from typing import Final

from benchmarks.report import Table
from benchmarks.scenarios import Bench, scenario

SETTLING: Final = 12  # an idle pool's polls have become as rare as they get
SECONDS: Final = 20


@scenario("idle")
def idle(bench: Bench) -> Table:
    """Statements of its database, processor time, connections and memory of a pool that waits."""
    table = Table("An idle process (async)", ("workers", "statements a second", "CPU %", "connections", "RSS, MB"))
    for workers in (10, 1_000):
        with bench.system("own_async", workers=workers) as driver:
            driver.begin("idle", settling=SETTLING, seconds=SECONDS)
            time.sleep(SETTLING)
            before = bench.server.statements(driver.url)
            time.sleep(SECONDS - 2)
            rate = (bench.server.statements(driver.url) - before) / (SECONDS - 2)
            connections = bench.server.connections(driver.url)
            seen = driver.result()
        table.rows.append((str(workers), rate, seen["cpu"], str(connections), seen["rss"]))
    return table
