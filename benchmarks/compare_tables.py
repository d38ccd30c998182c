"""Turns the measurements of `make bench` into tables and plots."""

import statistics
from collections.abc import Iterable, Mapping, Sequence

from benchmarks.figures import Bar, Line, bar, percentile, spread, windows
from benchmarks.report import Table
from benchmarks.systems import OURS, TASKS, Seen, System

Everything = Mapping[str, Seen]


def tables(systems: Sequence[System], seen: Everything, scale: float) -> list[Table]:
    """Returns a table for each question; nothing holds a snapshot in Redis."""
    held = [_held_xmin(systems, seen)] if any(system.held for system in systems) else []
    across = [_across(systems, seen)] if any(system.crosses for system in systems) else []
    return [_drain(systems, seen, scale), _pick_up(systems, seen), *across, *held]


def ours_of(systems: Sequence[System]) -> str:
    """Returns with which system the others are compared: ours on Postgres, or else the first."""
    names = [system.name for system in systems]
    return OURS if OURS in names else names[0]


def versions(systems: Sequence[System], seen: Everything) -> str:
    found = {system.peer: seen[system.name].version for system in systems}
    return ", ".join(f"{peer} {version or '-'}" for peer, version in found.items())


def _drain(systems: Sequence[System], seen: Everything, scale: float) -> Table:
    table = Table(
        "compare-drain",
        f"Drain of {int(TASKS * scale):,} no-op tasks by one process, tasks a second",
        ("system", "drain", f"{ours_of(systems)} is faster by", "start, ms", "stop, ms", "bulk insert, rows a second"),
    )
    ours = seen[ours_of(systems)].drains
    for system in systems:
        one = seen[system.name]
        if one.drains:
            # Compares each round with the same round of ours: the machine's speed drifts.
            ratios = [mine / theirs for mine, theirs in zip(ours, one.drains, strict=False)]
            times = None if system.name == ours_of(systems) else _times(ratios)
            start, stop = (statistics.median(seconds) * 1000 for seconds in (one.starts, one.stops))
            table.rows.append((system.name, spread(one.drains), times, start, stop, spread(one.inserts)))
            table.bars.append(bar(system.name, one.drains))
        table.raw[system.name] = {"drain": one.drains, "insert": one.inserts, "start": one.starts, "stop": one.stops}
    fewer = [system for system in systems if system.tasks != TASKS]
    table.notes += [f"{system.name}: {int(system.tasks * scale):,} tasks" for system in fewer]
    table.notes += _failures(systems, seen, ("start", "drain"))
    return table


def _pick_up(systems: Sequence[System], seen: Everything) -> Table:
    """Returns the table of pick-up. Its 99th percentile is over all rounds: one round has too few inserts."""
    table = Table(
        "compare-pick-up",
        "Pick-up by an idle worker, from before a single insert to the run, ms",
        ("system", "p50", "p99 of all", f"p50 against {ours_of(systems)}"),
    )
    ours = [percentile(values, 50) for values in seen[ours_of(systems)].latencies]
    for system in systems:
        latencies = seen[system.name].latencies
        if latencies:
            p50 = [percentile(values, 50) for values in latencies]
            together = [value for values in latencies for value in values]
            ratios = [theirs / mine for mine, theirs in zip(ours, p50, strict=False)]
            times = None if system.name == ours_of(systems) else _times(ratios)
            table.rows.append((system.name, spread(p50), percentile(together, 99), times))
            middle, late = percentile(together, 50), percentile(together, 99)
            table.bars.append(Bar(system.name, middle, middle, late))
        table.raw[system.name] = latencies
    table.notes += ["in the plot, the thin line goes to p99", *_failures(systems, seen, ("pick-up",))]
    return table


def _across(systems: Sequence[System], seen: Everything) -> Table:
    """Returns the table of pick-ups by another process than the one that inserts, which is measured of ours alone."""
    columns = ("system", "p50", "p99 of all", "p50 against one process")
    table = Table("compare-across", "Pick-up by an idle worker of another process, ms", columns)
    for system in systems:
        one = seen[system.name]
        if one.crossings:
            p50 = [percentile(values, 50) for values in one.crossings]
            together = [value for values in one.crossings for value in values]
            ratios = [
                there / here for there, here in zip(p50, (percentile(each, 50) for each in one.latencies), strict=False)
            ]
            table.rows.append((system.name, spread(p50), percentile(together, 99), _times(ratios)))
            table.bars.append(bar(system.name, p50))
        table.raw[system.name] = one.crossings
    table.notes += _failures(systems, seen, ("pick-up across processes",))
    return table


def _held_xmin(systems: Sequence[System], seen: Everything) -> Table:
    columns = ("system", "tasks", "first tenth", "middle", "last tenth", "last / first")
    table = Table("compare-held-xmin", "Drain while another session holds a snapshot, tasks a second", columns)
    table.x_name = "tasks drained"
    for system in systems:
        course = seen[system.name].held
        if course:
            rates = [rate for _, rate in windows(course)]
            tasks = f"{course[-1][0]:,}"
            table.rows.append((system.name, tasks, rates[0], rates[5], rates[-1], rates[-1] / rates[0]))
            table.lines.append(Line(system.name, windows(course, 20)))
        table.raw[system.name] = course
    table.notes += _failures(systems, seen, ("held xmin",))
    return table


def _times(ratios: Sequence[float]) -> str | None:
    return spread(ratios) if ratios else None


def _failures(systems: Iterable[System], seen: Everything, where: Sequence[str]) -> list[str]:
    found = ((system.name, seen[system.name].failures) for system in systems)
    return [f"{name}: {failures[step]}" for name, failures in found for step in where if step in failures]
