"""Prints tables for people."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from fang_core.monitoring.checks import number
from fang_core.words.texts import counted, printable

_PIPED_WIDTH: Final = 200
MOST_ROWS: Final = 30
"""The most rows of a table that are shown to people; programs get all."""


class Number(NamedTuple):
    """A count, an estimate of one, or the least that there are."""

    value: int
    is_estimate: bool
    is_least: bool = False


class _Output(Console):
    def on_broken_pipe(self) -> None:
        raise BrokenPipeError  # the command knows how to end; rich would end it with the code of an error


def stdout() -> Console:
    """Returns the console that tables are printed to."""
    console = _Output(highlight=False)
    if not console.is_terminal:
        console.width = _PIPED_WIDTH  # there is no edge to fold at
    return console


def print_table(
    console: Console,
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    most: int | None = MOST_ROWS,
) -> None:
    """Prints a table; of a long one the first rows."""
    if not rows:
        console.print(f"no {title}")
        return
    console.print(title)
    table = Table()
    for place, column in enumerate(columns):
        figures = isinstance(rows[0][place], Number)
        table.add_column(column, justify="right" if figures else "left", overflow="fold")
    for row in rows[:most]:
        table.add_row(*(cell(value) for value in row))
    console.print(table)
    if most is not None and len(rows) > most:
        console.print(f"and {counted(len(rows) - most, 'more row')}: --json has them all")


def cell(value: Any) -> Text:
    """Returns a cell without markup and terminal codes, since any client may have written the row's text."""
    if isinstance(value, Number):
        return Text(number(value.value, is_estimate=value.is_estimate, is_least=value.is_least))
    return Text(printable(str(value)))
