"""What ``make faults`` and ``make mutants`` found, as the tables of docs/faults.md."""

import os
import platform
import sqlite3
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from tests import redisserver
from tests.faults.registry import Fault, Tried
from tests.faults.trial import Mix

PAGE: Final = Path(__file__).parents[2] / "docs" / "faults.md"
BEGIN: Final = "<!-- written by `{name}`: begin -->"
END: Final = "<!-- written by `{name}`: end -->"

_HEAD: Final = (
    "| fault | what is done | mode | runs | also checked | recoveries | median | worst | allowed | holds |\n"
    "|---|---|---|---:|---|---:|---:|---:|---:|---|"
)
_HEAD_OF_WAITS: Final = "| workers | mode | tasks | median wait | worst wait |\n|---:|---|---:|---:|---:|"


class Row(NamedTuple):
    """One fault in one mode; ``tried`` is None where the trial itself failed."""

    fault: Fault
    mix: Mix
    tried: Tried | None

    @property
    def holds(self) -> bool:
        return self.tried is not None and not self.tried.verdict.violations

    def __str__(self) -> str:
        cells = [self.fault.id, self.fault.what, self.mix]
        if self.tried is None:
            cells += ["", "", "", "", "", "", "**no**"]
        else:
            verdict = self.tried.verdict
            seconds = verdict.recoveries
            cells += [
                f"{verdict.runs:,}",
                ", ".join(self.fault.also),
                str(len(seconds) or ""),
                f"{statistics.median(seconds):.1f} s" if seconds else "",
                f"{max(seconds):.1f} s" if seconds else "",
                "" if verdict.bound is None else f"{verdict.bound:.0f} s",
                "yes" if self.holds else "**no**",
            ]
        return f"| {' | '.join(cells)} |"


def table(rows: Sequence[Row]) -> str:
    return "\n".join([_HEAD, *map(str, rows)])


def table_of_waits(rows: Sequence[Row]) -> str:
    """Empty where no trial measured any."""
    measured = [row.tried for row in rows if row.tried is not None and row.tried.verdict.waits]
    measured.sort(key=lambda tried: tried.fault.given["workers"])
    return "\n".join([_HEAD_OF_WAITS, *map(_line_of_waits, measured)]) if measured else ""


def _line_of_waits(tried: Tried) -> str:
    waits = tried.verdict.waits
    times = f"{statistics.median(waits):.1f} s | {max(waits):.1f} s"
    return f"| {tried.fault.given['workers']} | {tried.mix} | {len(waits)} | {times} |"


def table_of_mutants(mutants: Sequence[tuple[str, str]]) -> str:
    """Of each its defect, and what catches it."""
    return "\n".join(["| defect | caught by |\n|---|---|", *(f"| {defect} | {trial} |" for defect, trial in mutants)])


def write(rows: Sequence[Row], *, seed: int, server: str | None) -> None:
    """Puts the tables of the backends that were tried where the page says; ``server`` is the version of Postgres."""
    machine = f"Measured on {os.cpu_count()} cores, Python {platform.python_version()}"
    if server is not None:
        on_postgres = [row for row in rows if row.fault.backend == "postgres"]
        waits = f"How long innocents waited:\n\n{table_of_waits(on_postgres)}"
        _put("make faults", f"{machine}, Postgres {server}, seed {seed}.\n\n{table(on_postgres)}\n\n{waits}")
    on_sqlite = [row for row in rows if row.fault.backend == "sqlite"]
    if on_sqlite:
        measured = f"{machine}, SQLite {sqlite3.sqlite_version}, seed {seed}."
        _put("python -m tests.faults --backend sqlite", f"{measured}\n\n{table(on_sqlite)}")
    on_redis = [row for row in rows if row.fault.backend == "redis"]
    if on_redis:
        measured = f"{machine}, {redisserver.version()}, seed {seed}."
        _put("python -m tests.faults --backend redis", f"{measured}\n\n{table(on_redis)}")


def write_mutants(mutants: Sequence[tuple[str, str]]) -> None:
    """Puts the table of those that were caught where the page says."""
    _put("make mutants", table_of_mutants(mutants))


def _put(name: str, text: str) -> None:
    begin, end = BEGIN.format(name=name), END.format(name=name)
    before, _, rest = PAGE.read_text().partition(begin)
    _, _, after = rest.partition(end)
    PAGE.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}")
