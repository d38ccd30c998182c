"""Figures as text: medians with their spread, tables in Markdown, and the facts that stand beside them."""

import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks.driver import ROOT

RESULTS: Final = ROOT / "benchmarks" / "results"
DOCUMENT: Final = ROOT / "docs" / "benchmarks.md"

Cell = str | float | None


@dataclass
class Table:
    """What a scenario comes to.

    ``notes`` stand below: one line each, such as why a system shows nothing. ``raw`` goes into the JSON alone.
    """

    title: str
    columns: Sequence[str]
    rows: list[Sequence[Cell]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    raw: dict[str, Any] = field(default_factory=dict)

    def markdown(self) -> str:
        """A heading, the table, and the notes."""
        lines = [f"### {self.title}", "", _line(self.columns), _line(["---", *["---:"] * (len(self.columns) - 1)])]
        lines += [_line([number(cell) for cell in row]) for row in self.rows]
        return "\n".join([*lines, "", *(f"- {note}" for note in self.notes)]).rstrip() + "\n"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def number(value: Cell) -> str:
    """Three digits are what these measurements bear."""
    if value is None:
        return "-"
    if isinstance(value, str):
        return value
    if abs(value) >= 1000:
        return (
            f"{round(value, 2 - len(str(int(abs(value))))):,.0f}" if abs(value) < 10_000 else f"{round(value, -2):,.0f}"
        )
    return f"{value:.3g}"


def spread(values: Sequence[float]) -> str:
    """The median, and what it lies between: 63,500 (61,000 - 66,200)."""
    middle = number(statistics.median(values))
    return middle if len(values) == 1 else f"{middle} ({number(min(values))} - {number(max(values))})"


def percentile(values: Sequence[float], percent: float) -> float:
    """By the nearest rank."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(len(ranked) * percent / 100))]


def surroundings(postgres: str) -> list[str]:
    """On what it was measured, and beside what load; a line each."""
    cpu = "processor not named"
    facts = Path("/proc/cpuinfo")
    if facts.exists():
        models = [line.partition(":")[2].strip() for line in facts.read_text().splitlines() if "model name" in line]
        cpu = models[0] if models else cpu
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return [
        f"{time.strftime('%Y-%m-%d %H:%M', time.gmtime())} UTC, commit {commit.stdout.strip() or 'unknown'}",
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores ({cpu})",
        f"PostgreSQL {postgres}, fsync and synchronous_commit on; Python {platform.python_version()}",
        f"load average at the end (1, 5, 15 minutes): {load}",
    ]


def publish(name: str, tables: Sequence[Table], facts: Sequence[str], *, write: bool = False) -> None:
    """Prints the tables and leaves them under ``benchmarks/results``; ``write`` puts them into the document as well."""
    text = "\n".join([*(f"- {fact}" for fact in facts), "", *(table.markdown() for table in tables)])
    print(text)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.md").write_text(text)
    raw = {"facts": list(facts), "tables": [vars(table) for table in tables]}
    (RESULTS / f"{name}.json").write_text(json.dumps(raw, indent=1))
    if write:
        begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->\n"
        before, _, rest = DOCUMENT.read_text().partition(begin)
        DOCUMENT.write_text(f"{before}{begin}{text}{end}{rest.partition(end)[2]}")
    print(
        f"written to {RESULTS.relative_to(ROOT)}/{name}.md, .json"
        + (f" and {DOCUMENT.relative_to(ROOT)}" if write else "")
    )
