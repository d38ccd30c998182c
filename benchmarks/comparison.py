"""What `make bench` has seen, as tables and plots."""

import itertools
import statistics
from collections.abc import Sequence
from typing import Final

from benchmarks.plot import Bar, Line, bars, lines
from benchmarks.report import RESULTS, Table, percentile, spread
from benchmarks.systems import OURS, TASKS, Seen, System

WINDOWS: Final = 10


def windows(course: Sequence[tuple[int, float]], count: int = WINDOWS) -> list[tuple[float, float]]:
    """The rate in each of so many equal parts of a drain: (tasks drained by its end, tasks a second)."""
    ends = [course[round(index * (len(course) - 1) / count)] for index in range(count + 1)]
    return [(upto, (upto - since) / max(1e-9, end - begin)) for (since, begin), (upto, end) in itertools.pairwise(ends)]


def drain_table(systems: Sequence[System], seen: dict[str, Seen]) -> Table:
    table = Table(
        f"Drain of {TASKS:,} no-op tasks by one process, tasks a second",
        ("system", "drain: median (least - most)", f"{OURS}, times", "bulk insert, rows a second", "start, ms"),
    )
    ours = seen.get(OURS, Seen()).drains
    for system in systems:
        one = seen[system.name]
        if one.drains:
            # Each round against the same round of ours: the machine's speed drifts.
            ratios = [mine / theirs for mine, theirs in zip(ours, one.drains, strict=False)]
            times = spread(ratios) if ratios and system.name != OURS else None
            start = statistics.median(one.starts) * 1000
            table.rows.append((system.name, spread(one.drains), times, spread(one.inserts), start))
        _note_failure(table, system, one, ("start", "drain"))
        table.raw[system.name] = {"drain": one.drains, "insert": one.inserts, "start": one.starts}
    fewer = [f"{system.name}: {TASKS * system.share:,.0f}" for system in systems if system.share < 1]
    if fewer:
        table.notes.append(f"tasks of those that are slower: {'; '.join(fewer)}")
    return table


def latency_table(systems: Sequence[System], seen: dict[str, Seen]) -> Table:
    table = Table(
        "Pick-up by an idle worker: from before a single insert to the run, ms",
        ("system", "p50 (of rounds)", "p99 (of rounds)", f"p50 against {OURS}"),
    )
    ours = [percentile(values, 50) for values in seen.get(OURS, Seen()).latencies]
    for system in systems:
        one = seen[system.name]
        if one.latencies:
            p50, p99 = ([percentile(values, percent) for values in one.latencies] for percent in (50, 99))
            ratios = [theirs / mine for mine, theirs in zip(ours, p50, strict=False)]
            times = spread(ratios) if ratios and system.name != OURS else None
            table.rows.append((system.name, spread(p50), spread(p99), times))
        _note_failure(table, system, one, ("pick-up",))
        table.raw[system.name] = one.latencies
    return table


def held_table(systems: Sequence[System], seen: dict[str, Seen], scale: float) -> Table:
    table = Table(
        "Drain while another session holds a snapshot, tasks a second",
        ("system", "tasks", "first tenth", "last tenth", "last / first"),
    )
    for system in systems:
        one = seen[system.name]
        for course in one.held:
            (_, first), *_, (_, last) = windows(course)
            table.rows.append((system.name, f"{int(system.held * scale):,}", first, last, last / first))
        _note_failure(table, system, one, ("held xmin",))
        table.raw[system.name] = one.held
    return table


def _note_failure(table: Table, system: System, seen: Seen, where: Sequence[str]) -> None:
    table.notes += [f"{system.name}: {seen.failures[name]}" for name in where if name in seen.failures]


def versions(systems: Sequence[System], seen: dict[str, Seen]) -> str:
    found = {system.peer: seen[system.name].version for system in systems}
    return ", ".join(f"{peer} {version or '-'}" for peer, version in found.items())


def plot(systems: Sequence[System], seen: dict[str, Seen]) -> None:
    shown = [(system.name, seen[system.name]) for system in systems]
    drains = [Bar(n, statistics.median(s.drains), min(s.drains), max(s.drains)) for n, s in shown if s.drains]
    idle = [
        Bar(n, percentile(values, 50), percentile(values, 50), percentile(values, 99))
        for n, s in shown
        if (values := [value for each in s.latencies for value in each])
    ]
    held = [Line(n, [(upto, rate) for upto, rate in windows(course, 20)]) for n, s in shown for course in s.held]
    if drains:
        svg = bars("Drain of no-op tasks by one process", "tasks a second; the line: least to most", drains)
        (RESULTS / "compare-drain.svg").write_text(svg)
    if idle:
        svg = bars("Pick-up by an idle worker", "ms: p50, the line: to p99", idle)
        (RESULTS / "compare-pick-up.svg").write_text(svg)
    if held:
        svg = lines("Drain while a snapshot is held", "tasks drained", "tasks a second", held, log_x=True)
        (RESULTS / "compare-held-xmin.svg").write_text(svg)
