"""What is measured of Fang's threaded mode alone: tasks that take time, or that compute."""

import time

from fang_postgres import migrate
from fang_threaded import Queue, Queueable, Runnable, WorkerPool


class Wait(Runnable):
    ms: float

    def run(self, queue: Queueable) -> None:
        time.sleep(self.ms / 1000)


class Compute(Runnable):
    loops: int

    def run(self, queue: Queueable) -> None:
        for _ in range(self.loops):
            pass


class Peer:
    def __init__(self, url: str, *, workers: int = 10) -> None:
        self._url = url
        self._workers = workers

    async def install(self) -> None:
        migrate.upgrade(self._url)

    async def insert_waits(self, tasks: int, ms: float) -> None:
        with Queue(self._url) as queue:
            queue.insert_tasks([Wait(ms=ms)] * tasks)

    async def insert_computations(self, tasks: int, loops: int) -> None:
        with Queue(self._url) as queue:
            queue.insert_tasks([Compute(loops=loops)] * tasks)

    async def drain_all(self) -> int:
        """Runs until nothing is left that is due; how many ran here."""
        with Queue(self._url) as queue:
            return WorkerPool(queue, number_of_workers=self._workers).drain()
