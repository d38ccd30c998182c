"""Lists the scenarios of `make bench-all`, one for each question, by name."""

from typing import Final

from benchmarks.bench import Scenario
from benchmarks.scenarios import committing, draining, idling, inserting, limiting, mixing, sqlite, vacuuming, working

SCENARIOS: Final[dict[str, Scenario]] = {
    "insert-single": inserting.insert_single,
    "insert-bulk": inserting.insert_bulk,
    "idle": idling.idle,
    "short-tasks": working.short_tasks,
    "cpu-bound": working.cpu_bound,
    "processes": working.processes,
    "mixed": mixing.mixed,
    "long-among-short": working.long_among_short,
    "worker-cpu": draining.worker_cpu,
    "late-commits": committing.late_commits,
    "wake-race": committing.wake_race,
    "sqlite-drain": sqlite.drain,
    "sqlite-wake": sqlite.wake,
    "sqlite-writers": sqlite.writers,
    "limits": limiting.limits,
    "slots": limiting.slots,
    "rates": limiting.rates,
    "workers": draining.workers,
    "backlog": draining.backlog,
    "foreign": draining.foreign,
    "kept": draining.kept,
    "dead-rows": draining.dead_rows,
    "autovacuum": vacuuming.autovacuum,
}
"""The five from ``workers`` on should be flat."""

GROUPS: Final[dict[str, tuple[str, ...]]] = {
    "flow": ("limits", "slots", "rates"),
    "sqlite": ("sqlite-drain", "sqlite-wake", "sqlite-writers"),
}
"""Scenarios that are measured together under one name, with a place of their own in the document."""
