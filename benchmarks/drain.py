"""How fast one process drains no-op tasks in each mode, and inserts them, at default settings; medians of rounds.

Durability is Postgres' default (fsync and synchronous_commit on). `FANG_DATABASE_URL` names a migrated server to use
instead of the embedded one: its `fang` schema must be empty.
"""

import argparse
import asyncio
import os
import statistics
import time
from collections.abc import Callable

from fang_async import AsyncQueue, AsyncQueueable, AsyncRunnable, AsyncWorkerPool
from fang_cli.embedded import EmbeddedPostgres
from fang_postgres import migrate
from fang_threaded import Queue, Queueable, Runnable, WorkerPool


class Noop(Runnable):
    n: int

    def run(self, queue: Queueable) -> None: ...


class AsyncNoop(AsyncRunnable):
    n: int

    async def run(self, queue: AsyncQueueable) -> None: ...


Figures = tuple[float, float]  # inserts and drains, rows a second


def threaded(url: str, tasks: int, workers: int) -> Figures:
    with Queue(url) as queue:
        rows = [Noop(n=n) for n in range(tasks)]
        began = time.perf_counter()
        queue.insert_tasks(rows)
        inserted = time.perf_counter()
        assert WorkerPool(queue, number_of_workers=workers).drain() == tasks
        return tasks / (inserted - began), tasks / (time.perf_counter() - inserted)


def asynchronous(url: str, tasks: int, workers: int) -> Figures:
    async def measure() -> Figures:
        async with AsyncQueue(url) as queue:
            rows = [AsyncNoop(n=n) for n in range(tasks)]
            began = time.perf_counter()
            await queue.insert_tasks(rows)
            inserted = time.perf_counter()
            assert await AsyncWorkerPool(queue, number_of_workers=workers).drain() == tasks
            return tasks / (inserted - began), tasks / (time.perf_counter() - inserted)

    return asyncio.run(measure())


def measure(url: str, tasks: int, workers: int, rounds: int) -> None:
    modes: dict[str, Callable[[str, int, int], Figures]] = {"async": asynchronous, "threaded": threaded}
    seen: dict[str, list[Figures]] = {name: [] for name in modes}
    for _ in range(rounds):
        for name, mode in modes.items():  # interleaved: the machine's speed drifts
            seen[name].append(mode(url, tasks, workers))
    print(f"{tasks} no-op tasks, {workers} workers, one process, {rounds} rounds: median (min - max), a second")
    for name, figures in seen.items():
        for what, values in zip(("insert_tasks", "drain"), zip(*figures, strict=True), strict=True):
            print(f"{name:9} {what:13} {statistics.median(values):8.0f} ({min(values):.0f} - {max(values):.0f})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    given = os.environ.get("FANG_DATABASE_URL")
    if given:
        measure(given, options.tasks, options.workers, options.rounds)
        return
    with EmbeddedPostgres() as server:
        migrate.upgrade(server.url)
        measure(server.url, options.tasks, options.workers, options.rounds)


if __name__ == "__main__":
    main()
