"""Writes the results of scenarios: tables as Markdown, all figures as JSON, plots as SVG, and the facts about them."""

import json
import os
import platform
import subprocess
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks import plot
from benchmarks.driver import ROOT
from benchmarks.figures import Bar, Cell, Line, number

RESULTS: Final = ROOT / "benchmarks" / "results"
DOCUMENT: Final = ROOT / "docs" / "benchmarks.md"


@dataclass
class Table:
    """The result of a scenario.

    Attributes:
        name: the name of the scenario, and of its plot's file.
        title: what is measured, and its unit.
        notes: lines below the table, such as why a system has no figures.
        raw: every single figure; only in the JSON.
        bars, lines: the content of its plot; ``x_name`` is the name of the x axis of lines.
    """

    name: str
    title: str
    columns: Sequence[str]
    rows: list[Sequence[Cell]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    raw: dict[str, Any] = field(default_factory=dict)
    bars: list[Bar] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    x_name: str = ""

    def markdown(self) -> str:
        """Returns a heading, the table, and the notes."""
        lines = [f"### {self.title}", "", _line(self.columns), _line(["---", *["---:"] * (len(self.columns) - 1)])]
        lines += [_line([number(cell) for cell in row]) for row in self.rows]
        return "\n".join([*lines, "", *(f"- {note}" for note in self.notes)]).rstrip() + "\n"

    def svg(self) -> str | None:
        """Returns its plot, or None if it has none."""
        if self.bars:
            return plot.bars(self.title, self.bars)
        return plot.lines(self.title, self.x_name, self.lines) if self.lines else None


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def surroundings(postgres: str) -> list[str]:
    """Returns the facts about the machine, its software and its load, a line each."""
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return [
        f"{time.strftime('%Y-%m-%d %H:%M', time.gmtime())} UTC, commit {_commit()}",
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores ({_processor()})",
        f"PostgreSQL {postgres}, fsync and synchronous_commit on; Python {platform.python_version()}",
        f"load average at the end (1, 5, 15 minutes): {load}",
    ]


def _commit() -> str:
    describe = ["git", "describe", "--always", "--dirty"]
    done = subprocess.run(describe, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def _processor() -> str:
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text().splitlines() if facts.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if "model name" in line]
    return models[0] if models else "processor not named"


def publish(name: str, tables: Sequence[Table], facts: Sequence[str], *, write: bool = False) -> None:
    """Writes everything to ``benchmarks/results``; ``write`` puts facts and tables into the document as well."""
    text = "\n".join([*(f"- {fact}" for fact in facts), "", *(table.markdown() for table in tables)])
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.md").write_text(text)
    raw = {"facts": list(facts), "tables": [asdict(table) for table in tables]}
    (RESULTS / f"{name}.json").write_text(json.dumps(raw, indent=1))
    for table in tables:
        svg = table.svg()
        if svg is not None:
            (RESULTS / f"{table.name}.svg").write_text(svg)
    if write:
        DOCUMENT.write_text(replaced(DOCUMENT.read_text(), name, text))


def replaced(document: str, name: str, text: str) -> str:
    """Returns the document with a new text between the marks of this name; raises ``ValueError`` if it has none."""
    begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->\n"
    before, found, rest = document.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"the document has no lines {begin.strip()} and {end.strip()}")
    return f"{before}{begin}{text}{end}{after}"
