"""Measures the time from each task's commit to its run, with processes that work and one that inserts."""

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from math import inf
from typing import Any, Final, Self

from benchmarks.bench import Bench
from benchmarks.driver import Driver, PeerFailed
from benchmarks.figures import waits

WORKERS: Final = 10

QUIET: Final = 8.0
"""Seconds without a run, after which none is expected: longer than any poll of an idle pool."""

Traffic = Mapping[str, Any]
"""See ``benchmarks/peers/own_producer.py``."""


@dataclass(frozen=True)
class Seen:
    """The waits of each traffic in order, in ms; and the tasks inserted a second."""

    waits: Sequence[Sequence[float]]
    rate: float

    @property
    def never_ran(self) -> int:
        return sum(wait == inf for waits in self.waits for wait in waits)


class Lane:
    """A database of its own, with processes that work and one that inserts."""

    def __init__(self, bench: Bench, peer: str, processes: int = 1) -> None:
        self._bench = bench
        self._peer = peer
        self._processes = processes
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            first = stack.enter_context(self._bench.system(self._peer, workers=WORKERS))
            twins = [stack.enter_context(first.twin()) for _ in range(self._processes - 1)]
            self._workers = [first, *twins]
            self.url = first.url
            self._producer = stack.enter_context(Driver("own_producer", self.url))
            for driver in (*twins, self._producer):
                driver.ask("version")  # after its imports
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def begin(self, traffic: Sequence[Traffic], *, seed: int) -> None:
        """Starts the clients when all processes wait for tasks."""
        for worker in self._workers:
            worker.begin("record", quiet=QUIET)
        deadline = time.monotonic() + QUIET
        while self._waiting() < self._processes:
            if time.monotonic() > deadline:
                raise PeerFailed(f"{self._waiting()} of {self._processes} pools wait, {QUIET:.0f} s after their start")
            time.sleep(0.05)
        self._producer.begin("produce", traffic=traffic, seed=seed)

    def result(self) -> Seen:
        """Returns the result when all inserted tasks have run, or will not run."""
        produced = self._producer.result(600)
        runs = [run for worker in self._workers for run in worker.result(600)]
        committed = produced["committed"]
        rate = sum(len(of_each) for of_each in committed) / produced["seconds"]
        return Seen([waits(of_each, runs) for of_each in committed], rate)

    def _waiting(self) -> int:
        return int(self._bench.server.query(self.url, "SELECT count(*) FROM fang.fang_pools WHERE waiting")[0][0])
