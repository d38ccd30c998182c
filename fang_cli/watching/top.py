"""Defines ``fang top``: what goes on, again and again."""

import os
import select
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, Literal

import click
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from fang_cli import arguments
from fang_cli.json_text import as_json as document
from fang_cli.json_text import plain
from fang_cli.options import DATABASE, JSON, options, queue_at
from fang_cli.tables import Number, cell, stdout
from fang_cli.texts import time_of
from fang_cli.watching import stats_tables
from fang_core.errors import BackendError, UsageError
from fang_core.monitoring.problems import pool_is_silent, silence
from fang_core.monitoring.stats import Stats
from fang_core.record import PoolInfo
from fang_core.words.spans import span
from fang_core.words.texts import counted, printable

if TYPE_CHECKING:
    from fang_backends.queues import OwnQueue

_NAME: Final = 16
"""The characters of a name that each row shows at least."""
_FEWEST_ROWS: Final = 3
_AROUND_A_TABLE: Final = 5
"""The lines of a screen that a table takes besides its rows."""


@dataclass(frozen=True, slots=True)
class Glance:
    """Holds what pools have counted lately, and what they do now."""

    since: timedelta
    stats: Stats
    pools: Sequence[PoolInfo]

    @property
    def silent(self) -> list[tuple[PoolInfo, timedelta]]:
        """The pools of which nothing is heard, and for how long: it is unknown whether their workers work."""
        found = [(pool, silence(pool, self.stats.until)) for pool in self.pools]
        return [(pool, quiet) for pool, quiet in found if quiet is not None]

    @property
    def working(self) -> list[PoolInfo]:
        """The other pools."""
        silent = {pool.id for pool, _ in self.silent}
        return [pool for pool in self.pools if pool.id not in silent]


@click.command()
@click.option("--once", is_flag=True, help="Print the screen once; the default if the output is no terminal.")
@click.option(
    "--every",
    metavar="SPAN",
    callback=arguments.span,
    default="2s",
    show_default=True,
    help="How often the screen is refreshed.",
)
@click.option(
    "--since",
    metavar="SPAN",
    callback=arguments.span,
    default="5m",
    show_default=True,
    help="How far back speeds and times go: in whole minutes, for long spans in hours.",
)
@options(JSON, *DATABASE)
def top(
    *, once: bool, every: timedelta, since: timedelta, as_json: bool, schema: str | None, database_url: str | None
) -> None:
    """Show live which task types have tasks, which kinds take most time, and what runs now. q or Ctrl-C ends it.

    Pools count the speeds and times, and write them every few seconds. With --json it prints them once.
    """
    if every <= timedelta(0):
        raise UsageError("--every must be longer than 0")
    console = stdout()
    with queue_at(database_url, schema) as queue:
        if as_json:
            click.echo(document(as_object(_look(queue, since))))
        elif once or not console.is_terminal:
            console.print(as_renderable(_look(queue, since), rows=None))
        else:
            _watch(queue, since, every.total_seconds())


def _look(queue: "OwnQueue", since: timedelta) -> Glance:
    return Glance(since, queue.stats(since), queue.pools())


def _watch(queue: "OwnQueue", since: timedelta, every: float) -> None:
    """Shows what goes on until a key or Ctrl-C ends it; if the database does not answer, what it showed last."""
    console = stdout()
    glance = _look(queue, since)
    with suppress(KeyboardInterrupt), _Keys() as keys, Live(console=console, screen=True, auto_refresh=False) as live:
        trouble = ""
        while True:
            rows = rows_of(console.height)
            live.update(as_renderable(glance, rows=rows, trouble=trouble), refresh=True)
            if keys.end_within(every):
                return
            try:
                glance, trouble = _look(queue, since), ""
            except BackendError as error:
                trouble = " ".join(str(error).split())


class _Keys:
    """Reads single keys from a terminal, without waiting for a line."""

    def __enter__(self) -> "_Keys":
        self._former: Any = None
        with suppress(ImportError, OSError, ValueError):
            import termios
            import tty

            self._former = termios.tcgetattr(sys.stdin)
            tty.setcbreak(sys.stdin)
        return self

    def __exit__(self, *_: object) -> None:
        if self._former is not None:
            import termios

            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, self._former)

    def end_within(self, seconds: float) -> bool:
        """Waits for so long, or for the key that ends it; returns whether it came."""
        if self._former is None:
            time.sleep(seconds)
            return False
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if select.select([sys.stdin], [], [], left)[0] and os.read(sys.stdin.fileno(), 1) in (b"q", b"Q", b""):
                return True
        return False


# What is shown --------------------------------------------------------------------------------------------------------


def rows_of(height: int) -> int:
    """Returns how many rows each of the three tables may have on a screen of this height."""
    return max(_FEWEST_ROWS, (height - 3 - 3 * _AROUND_A_TABLE) // 3)


def as_object(glance: Glance) -> dict[str, Any]:
    """Returns it all for JSON."""
    stats = glance.stats
    return {
        "throughput": stats_tables.throughput_as_object(stats),
        "workers": sum(pool.workers for pool in glance.working),
        "busy": _busy(glance.working),
        "silent": [str(pool.id) for pool, _ in glance.silent],
        "types": plain(stats.types),
        "kinds": [stats_tables.kind_as_object(each) for each in stats.kinds],
        "running": [stats_tables.running_as_object(each) for each in stats_tables.running(glance.pools, stats.until)],
    }


def as_renderable(glance: Glance, *, rows: int | None, trouble: str = "") -> RenderableType:
    """Returns it all for a screen; each table has the first rows, or all."""
    return Group(*_parts(glance, rows, trouble))


def _parts(glance: Glance, rows: int | None, trouble: str) -> Iterator[RenderableType]:
    stats = glance.stats
    busy, workers = _busy(glance.working), sum(pool.workers for pool in glance.working)
    seconds = (stats.until - stats.since).total_seconds()
    pools = counted(len(glance.working), "pool")
    yield Text(f"{time_of(stats.until)}  {pools}, {busy:,} of {counted(workers, 'worker')} busy")
    yield Text(stats_tables.throughput_in_words(stats, span(glance.since)))
    for pool, quiet in glance.silent[:rows]:
        yield Text(printable(pool_is_silent(pool, quiet)), style="bold red")
    if trouble:
        yield Text(printable(f"not up to date: {trouble}"), style="bold red")
    yield _table(stats_tables.of_types(stats.types), rows, "no task types")
    yield _table(stats_tables.of_kinds(stats.kinds, seconds), rows, "nothing has been run")
    yield _table(
        stats_tables.of_running(stats_tables.running(glance.pools, stats.until)),
        rows,
        "nothing runs for longer than a second",
    )


def _busy(pools: Sequence[PoolInfo]) -> int:
    return sum(pool.busy or 0 for pool in pools)


def _table(content: stats_tables.Table, rows: int | None, empty: str) -> RenderableType:
    columns, found = content
    if not found:
        return Text(empty, style="dim")
    table = Table()
    for place, column in enumerate(columns):
        is_number = isinstance(found[0][place], Number)
        # On a narrow screen the other columns shrink first: without its name a row says nothing.
        least = min(_NAME, max(len(printable(str(row[0]))) for row in found[:rows])) if place == 0 else None
        justify: Literal["right", "left"] = "right" if is_number else "left"
        table.add_column(column, justify=justify, overflow="ellipsis", no_wrap=True, min_width=least)
    for row in found[:rows]:
        table.add_row(*map(cell, row))
    if rows is not None and len(found) > rows:
        table.caption = f"and {len(found) - rows:,} more"
    return table
