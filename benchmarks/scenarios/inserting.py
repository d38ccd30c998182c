"""Inserts: single ones beside a plain INSERT of the same row, and in bulk."""

import statistics
from typing import Final

from benchmarks.report import Table, spread
from benchmarks.scenarios import Bench, scenario

ROUNDS: Final = 5


@scenario("insert-single")
def insert_single(bench: Bench) -> Table:
    """Does waking cost the inserting side? A pool that waits, or works, is one in another process."""
    table = Table(
        "Single inserts, rows a second (asyncio, one process)",
        ("clients", "plain INSERT", "insert_task", "of plain", "insert_task, a pool beside", "of plain"),
    )
    for clients in (1, 32):
        tasks = bench.tasks(1_000 if clients == 1 else 10_000)
        plain: list[float] = []
        alone: list[float] = []
        beside: list[float] = []
        with bench.system("own_async") as client:
            for _ in range(ROUNDS):
                plain.append(client.ask("insert_plain", clients=clients, tasks=tasks))
                alone.append(client.ask("insert_single", clients=clients, tasks=tasks))
        with bench.system("own_async") as client, client.twin(workers=10) as pool:
            pool.begin("idle", settling=0, seconds=3600)  # until its process is ended
            for _ in range(ROUNDS):
                beside.append(client.ask("insert_single", clients=clients, tasks=tasks))
            pool.kill()
        base = statistics.median(plain)
        parts = [f"{100 * statistics.median(values) / base:.0f} %" for values in (alone, beside)]
        table.rows.append((str(clients), spread(plain), spread(alone), parts[0], spread(beside), parts[1]))
    table.notes.append("the pool beside takes each task as it comes, on the same cores")
    return table


@scenario("insert-bulk")
def insert_bulk(bench: Bench) -> Table:
    """How many rows a second does insert_tasks write, 20,000 at a time?"""
    table = Table("Bulk inserts, rows a second", ("mode", "insert_tasks"))
    tasks = bench.tasks(100_000)
    for peer in ("fang_async", "fang_threaded"):
        with bench.system(peer, workers=1) as driver:
            rates = [tasks / driver.ask("insert", tasks=tasks) for _ in range(ROUNDS)]
        table.rows.append((peer, spread(rates)))
    return table
