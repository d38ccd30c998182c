"""Measures single inserts, compared with a plain INSERT of the same row, and bulk inserts."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from operator import truediv
from typing import Final

from benchmarks.bench import Bench
from benchmarks.driver import Driver
from benchmarks.figures import bar, spread
from benchmarks.report import Table

ROUNDS: Final = 5
SETTLING: Final = 3  # seconds until a pool has started and works
ALONE: Final = "insert_task"


def insert_single(bench: Bench) -> Table:
    """Measures what insert_task costs compared with a plain INSERT of the same row, and what waking costs its caller.

    NOTIFY serializes commits, so it should be sent only if a pool waits. All use the same driver, each client a
    connection of its own, in autocommit, in turn.
    """
    columns = ("clients", "plain INSERT", *(name for beside in BESIDE for name in (beside, "% of plain")))
    table = Table("insert-single", "Single inserts by one process, rows a second", columns)
    for mode in ("async", "threaded"):
        for clients in (1, 32):
            plain, besides = _single(bench, f"own_{mode}", clients)
            name = f"{mode}, {clients}"
            row: list[str] = [name, spread(plain)]
            for rates in besides.values():
                row += [spread(rates), spread([100 * rate for rate in map(truediv, rates, plain)])]
            table.rows.append(row)
            table.bars += [bar(f"{name}: {what}", rates) for what, rates in {"plain INSERT": plain, **besides}.items()]
            table.raw[name] = {"plain": plain, **besides}
    table.notes += [
        "insert_task: without a pool; then with a pool whose workers are all busy; with one that takes each task as it "
        "comes; with one that every insert wakes in vain, since no pool knows the kind",
        "pools work on the same cores as the clients that insert; percentages are those of each round",
    ]
    return table


def _single(bench: Bench, peer: str, clients: int) -> tuple[list[float], dict[str, list[float]]]:
    """Measures a plain INSERT, and ``insert_task`` with each of ``BESIDE``, in turn, each on a database of its own."""
    tasks = bench.tasks(500 if clients == 1 else 3_000)
    plain: list[float] = []
    besides: dict[str, list[float]] = {name: [] for name in BESIDE}
    with ExitStack() as stack:
        inserting = {name: stack.enter_context(_beside(bench.system(peer), begin)) for name, begin in BESIDE.items()}
        for _ in range(ROUNDS):
            plain.append(inserting[ALONE].ask("insert_plain", clients=clients, tasks=tasks))
            for name, client in inserting.items():
                besides[name].append(client.ask("insert_single", clients=clients, tasks=tasks))
    return plain, besides


@contextmanager
def _beside(system: AbstractContextManager[Driver], begin: Callable[[Driver], Driver] | None) -> Iterator[Driver]:
    """Starts a process that inserts, and the pool that ``begin`` starts on the same database."""
    with system as client:
        if begin is None:
            yield client
            return
        with begin(client) as pool:
            time.sleep(SETTLING)
            yield client
            pool.kill()


def _busy(client: Driver) -> Driver:
    client.ask("insert_waits", tasks=10, ms=3_600_000)  # for its ten workers
    return _taking(client)


def _taking(client: Driver) -> Driver:
    pool = client.twin()
    pool.begin("idle", settling=0, seconds=3600)
    return pool


def _waiting(client: Driver) -> Driver:
    pool = Driver("own_bystander", client.url)
    pool.begin("stand_by")
    return pool


BESIDE: Final[dict[str, Callable[[Driver], Driver] | None]] = {
    ALONE: None,
    "a busy pool": _busy,
    "a pool that takes them": _taking,
    "a pool that waits on": _waiting,
}


def insert_bulk(bench: Bench) -> Table:
    """Measures how many rows a second insert_tasks writes, 20,000 at a time."""
    table = Table("insert-bulk", "Bulk inserts, rows a second", ("mode", "insert_tasks"))
    tasks = bench.tasks(100_000)
    for mode in ("async", "threaded"):
        with bench.system(f"fang_{mode}", workers=1) as driver:
            rates = [tasks / driver.ask("insert", tasks=tasks) for _ in range(ROUNDS)]
        table.rows.append((mode, spread(rates)))
        table.bars.append(bar(mode, rates))
    return table
