"""Says what came of the demo: what is in the modules, whether each has one result, and where the time went."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from sqlalchemy import Connection, Row, text

from fang_core.monitoring.stats import KindStats
from fang_core.words.spans import span

__all__ = ["report", "slowest"]

_LARGEST: Final = text("SELECT * FROM demo_modules ORDER BY lines DESC NULLS LAST, path LIMIT 5")
_MOST_BRANCHING: Final = text("SELECT * FROM demo_modules ORDER BY branches DESC NULLS LAST, path LIMIT 5")
_QUANTILES: Final = ("p50", "p95", "p99")


def report(connection: Connection, console: Console, stdlib: Path, files: list[str], seconds: float) -> int:
    """Prints the results, and returns the exit code: 1 if they are not those of these files."""
    console.print(_table("The largest modules", connection.execute(_LARGEST).all(), stdlib))
    console.print(_table("The most branching modules", connection.execute(_MOST_BRANCHING).all(), stdlib))
    unparsed = connection.execute(text("SELECT count(*) FROM demo_modules WHERE error IS NOT NULL")).scalar_one()
    if unparsed:
        console.print(f"{unparsed} of them do not parse; the reason is in each one's row")
    rate = 2 * len(files) / seconds
    console.print(f"{len(files)} files in {seconds:.1f} s: {rate:.0f} tasks per second, two for each file")
    written = {row.path: row.written for row in connection.execute(text("SELECT path, written FROM demo_modules"))}
    missing, twice = set(files) - set(written), [path for path, times in written.items() if times != 1]
    strange = set(written) - set(files)
    if missing or twice or strange:
        Console(stderr=True, highlight=False).print(
            f"fang: results and files differ: {len(missing)} missing, {len(twice)} twice, {len(strange)} unknown",
            soft_wrap=True,
        )
        return 1
    console.print(f"results = files: {len(written)} = {len(files)}, none missing, none twice")
    return 0


def _table(title: str, rows: Iterable[Row[Any]], stdlib: Path) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("module", overflow="fold")
    for name in ("lines", "functions", "classes", "branches"):
        table.add_column(name, justify="right")
    for row in rows:
        figures = (row.lines, row.functions, row.classes, row.branches)
        table.add_row(
            str(Path(row.path).relative_to(stdlib)), *("-" if figure is None else f"{figure:,}" for figure in figures)
        )
    return table


def slowest(kinds: Sequence[KindStats]) -> Table:
    """Returns a table of where the workers' time went, as ``queue.stats()`` says it."""
    table = Table(title="The slowest kinds, by their share of the workers' time")
    table.title_justify = "left"
    table.add_column("kind", overflow="fold")
    for name in ("share", "runs", "", *_QUANTILES):
        table.add_column(name, justify="right")
    for kind in kinds:
        waited, ran = ([span(getattr(times, each)) for each in _QUANTILES] for times in (kind.queue, kind.run))
        table.add_row(kind.kind, f"{kind.share:.0%}", f"{kind.started:,}", "queue", *waited)
        table.add_row("", "", "", "run", *ran)
    return table
