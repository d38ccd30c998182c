"""From the commit of a task to its run, while transactions come and go and pools go to sleep: none waits for a poll."""

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from math import inf
from typing import Any, Final, Self

from benchmarks.bench import Bench
from benchmarks.driver import Driver, PeerFailed
from benchmarks.figures import Bar, percentile, waits
from benchmarks.report import Table

MODES: Final = {"async": "fang_async", "threaded": "fang_threaded"}
WORKERS: Final = 10

QUIET: Final = 8.0
"""Seconds without a run, after which none is expected: longer than any poll of an idle pool."""

LATE: Final = 100.0
"""Milliseconds that a wake-up takes only if it was lost, and a poll or a look back came in its place."""

LANES: Final = 2
"""Of each traffic, at once."""

Traffic = Mapping[str, Any]
"""See ``benchmarks/peers/own_producer.py``."""


def late_commits(bench: Bench) -> Table:
    """Do claims that start at a cursor find what becomes visible behind it, under load?"""
    columns = ("mode, processes", "tasks a second", "p50", "p99", "worst", "long: p50", "long: worst", "never ran")
    table = Table("late-commits", "From commit to run under load, ms", columns)
    seconds = max(5.0, 15 * bench.scale)  # the long transactions end among the short ones
    short = {"clients": 8, "transactions": int(seconds * 40), "rows": 20, "held": (0, 0.02), "gap": 0.02}
    long = {"clients": 4, "transactions": int(seconds / 3.3), "rows": 20, "held": (3, 3), "gap": 0.5}
    for mode, peer in MODES.items():
        for setting, processes, is_held in (("one", 1, False), ("one, held xmin", 1, True), ("four", 4, False)):
            name = f"{mode}, {setting}"
            try:
                with ExitStack() as stack:
                    lane = stack.enter_context(_Lane(bench, peer, processes))
                    if is_held:
                        stack.enter_context(bench.server.held_xmin(lane.url))
                    lane.begin([short, long], seed=0)
                    seen = lane.result()
            except PeerFailed as error:
                table.notes.append(f"{name}: {error}")
                continue
            of_short, of_long = seen.waits
            p50, p99 = percentile(of_short, 50), percentile(of_short, 99)
            late = (percentile(of_long, 50), of_long[-1])
            table.rows.append((name, seen.rate, p50, p99, of_short[-1], *late, str(seen.never_ran)))
            table.bars.append(Bar(name, p50, p50, p99))
            table.raw[name] = {"short": _percentiles(of_short), "long": _percentiles(of_long), "rate": seen.rate}
    table.notes += [
        "eight clients insert 20 tasks in each transaction and hold it for up to 20 ms; four hold theirs for three "
        "seconds (long)",
        f"processes have {WORKERS} workers each, and share the processor with the clients",
        "in the plot, the thin line goes to p99",
    ]
    return table


def wake_race(bench: Bench) -> Table:
    """Is a pool woken that goes to sleep while a task is inserted? Each insert comes up to 30 ms after the last."""
    columns = ("mode, inserts", "trials", "p50", "p99", "worst", f"above {LATE:.0f} ms", "never ran")
    table = Table("wake-race", "From commit to run, where the pool goes idle meanwhile, ms", columns)
    each = bench.tasks(10_000) // (len(MODES) * 2 * LANES)
    held = {"autocommit": None, "held for up to 20 ms": (0, 0.02)}
    traffic = {"clients": 1, "transactions": each, "rows": 1, "gap": 0.03}
    for mode, peer in MODES.items():
        try:
            seen = _race(bench, peer, traffic, held)
        except PeerFailed as error:
            table.notes.append(f"{mode}: {error}")
            continue
        for name in held:
            found = sorted(wait for of, one in seen if of == name for wait in one.waits[0])
            label = f"{mode}, {name}"
            late = sum(wait > LATE for wait in found)
            never = sum(one.never_ran for of, one in seen if of == name)
            p50, p99 = percentile(found, 50), percentile(found, 99)
            table.rows.append((label, f"{len(found):,}", p50, p99, found[-1], str(late), str(never)))
            table.bars.append(Bar(label, p50, p50, p99))
            table.raw[label] = _percentiles(found)
    table.notes += [
        f"{2 * LANES} databases at once, each with a pool and a producer in processes of their own",
        "in the plot, the thin line goes to p99",
    ]
    return table


def _race(bench: Bench, peer: str, traffic: Traffic, held: Mapping[str, Any]) -> list[tuple[str, "_Seen"]]:
    """What each lane came to, all of them at once."""
    with ExitStack() as stack:
        lanes = [(name, stack.enter_context(_Lane(bench, peer))) for name in held for _ in range(LANES)]
        for seed, (name, lane) in enumerate(lanes):
            lane.begin([{**traffic, "held": held[name]}], seed=seed)
        return [(name, lane.result()) for name, lane in lanes]


@dataclass(frozen=True)
class _Seen:
    """The waits of each traffic in order, in ms; and the tasks inserted a second."""

    waits: Sequence[Sequence[float]]
    rate: float

    @property
    def never_ran(self) -> int:
        return sum(wait == inf for waits in self.waits for wait in waits)


def _percentiles(found: Sequence[float]) -> list[float]:
    """From the least to the worst."""
    return [percentile(found, percent) for percent in range(101)]


class _Lane:
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
                driver.ask("version")  # each has imported what it needs
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def begin(self, traffic: Sequence[Traffic], *, seed: int) -> None:
        """Has the clients begin, once all processes wait for what they insert."""
        for worker in self._workers:
            worker.begin("record", quiet=QUIET)
        deadline = time.monotonic() + QUIET
        while self._waiting() < self._processes:
            if time.monotonic() > deadline:
                raise PeerFailed(f"{self._waiting()} of {self._processes} pools wait, {QUIET:.0f} s after their start")
            time.sleep(0.05)
        self._producer.begin("produce", traffic=traffic, seed=seed)

    def result(self) -> _Seen:
        """When all that was inserted has run, or will not."""
        produced = self._producer.result(600)
        runs = [run for worker in self._workers for run in worker.result(600)]
        committed = produced["committed"]
        rate = sum(len(of_each) for of_each in committed) / produced["seconds"]
        return _Seen([waits(of_each, runs) for of_each in committed], rate)

    def _waiting(self) -> int:
        return int(self._bench.server.query(self.url, "SELECT count(*) FROM fang.fang_pools WHERE waiting")[0][0])
