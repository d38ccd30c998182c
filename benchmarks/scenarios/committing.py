"""Measures the time from a task's commit to its run, while transactions come and go and pools fall idle: no task should
wait for a poll."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any, Final

from benchmarks.bench import Bench
from benchmarks.driver import PeerFailed
from benchmarks.figures import Bar, percentile
from benchmarks.report import Table
from benchmarks.scenarios.lane import WORKERS, Lane, Seen, Traffic

MODES: Final = {"async": "fang_async", "threaded": "fang_threaded"}
LATE: Final = 100.0
"""Milliseconds that a wake-up takes only if it was lost, and a poll or a look back found the task instead."""

LANES: Final = 2
"""The lanes of each traffic that run at once."""


def late_commits(bench: Bench) -> Table:
    """Measures whether claims that start at a cursor find tasks that become visible behind it, under load."""
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
                    lane = stack.enter_context(Lane(bench, peer, processes))
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
    """Measures whether an insert wakes a pool that falls idle meanwhile. Inserts come up to 30 ms after each other."""
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


def _race(bench: Bench, peer: str, traffic: Traffic, held: Mapping[str, Any]) -> list[tuple[str, Seen]]:
    """Runs all lanes at once; returns the result of each."""
    with ExitStack() as stack:
        lanes = [(name, stack.enter_context(Lane(bench, peer))) for name in held for _ in range(LANES)]
        for seed, (name, lane) in enumerate(lanes):
            lane.begin([{**traffic, "held": held[name]}], seed=seed)
        return [(name, lane.result()) for name, lane in lanes]


def _percentiles(found: Sequence[float]) -> list[float]:
    """Returns percentiles, from the lowest to the worst."""
    return [percentile(found, percent) for percent in range(101)]
