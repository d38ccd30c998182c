"""Inserts: single ones beside a plain INSERT of the same row, and in bulk."""

from typing import Final

from benchmarks.bench import Bench
from benchmarks.figures import bar, spread
from benchmarks.report import Table

ROUNDS: Final = 5


def insert_single(bench: Bench) -> Table:
    """What does insert_task cost beside a plain INSERT of the same row, and does waking cost the inserting side?

    All by the same driver, each client on a connection of its own, in autocommit, in turn. A pool that waits, or works,
    is one in another process.
    """
    table = Table(
        "insert-single",
        "Single inserts by one process, rows a second",
        ("clients", "plain INSERT", "insert_task", "% of plain", "insert_task, a pool beside", "% of plain"),
    )
    for mode in ("async", "threaded"):
        for clients in (1, 32):
            plain, alone, beside = _single(bench, f"own_{mode}", clients)
            name = f"{mode}, {clients}"
            table.rows.append(
                (name, spread(plain), spread(alone), _percent(alone, plain), spread(beside), _percent(beside, plain))
            )
            table.bars += [bar(f"{name}: plain INSERT", plain), bar(f"{name}: insert_task", alone)]
            table.bars.append(bar(f"{name}: a pool beside", beside))
            table.raw[name] = {"plain": plain, "alone": alone, "beside": beside}
    table.notes.append("percentages are those of each round")
    table.notes.append("the pool beside takes each task as it comes, on the same cores")
    return table


def _percent(values: list[float], plain: list[float]) -> str:
    return spread([100 * value / of for value, of in zip(values, plain, strict=True)])


def _single(bench: Bench, peer: str, clients: int) -> tuple[list[float], list[float], list[float]]:
    """A plain INSERT; ``insert_task``; the same where a pool waits."""
    tasks = bench.tasks(1_000 if clients == 1 else 10_000)
    plain: list[float] = []
    alone: list[float] = []
    beside: list[float] = []
    with bench.system(peer) as client, bench.system(peer) as served, served.twin() as pool:
        pool.begin("idle", settling=0, seconds=3600)  # until its process is ended
        for _ in range(ROUNDS):
            plain.append(client.ask("insert_plain", clients=clients, tasks=tasks))
            alone.append(client.ask("insert_single", clients=clients, tasks=tasks))
            beside.append(served.ask("insert_single", clients=clients, tasks=tasks))
        pool.kill()
    return plain, alone, beside


def insert_bulk(bench: Bench) -> Table:
    """How many rows a second does insert_tasks write, 20,000 at a time?"""
    table = Table("insert-bulk", "Bulk inserts, rows a second", ("mode", "insert_tasks"))
    tasks = bench.tasks(100_000)
    for mode in ("async", "threaded"):
        with bench.system(f"fang_{mode}", workers=1) as driver:
            rates = [tasks / driver.ask("insert", tasks=tasks) for _ in range(ROUNDS)]
        table.rows.append((mode, spread(rates)))
        table.bars.append(bar(mode, rates))
    return table
