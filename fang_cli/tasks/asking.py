"""Runs a change of many tasks: counts them, asks, shows how far it is, and says in the end what was done."""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import click

from fang_cli.json_text import as_json
from fang_cli.tasks.filtering import told
from fang_core.errors import UsageError
from fang_core.monitoring.listing import MOST_COUNTED, Count, in_words
from fang_core.words.texts import counted, printable

if TYPE_CHECKING:
    from fang_backends.queues import OwnQueue
    from fang_cli.tasks.changing import Bulk


class Mode(NamedTuple):
    """Says how a change is run: without a question, not at all, or with numbers for programs."""

    yes: bool
    dry_run: bool
    as_json: bool


def run(queue: "OwnQueue", bulk: "Bulk", change: Callable[[Callable[[int], None]], int], mode: Mode) -> None:
    """Counts the tasks, asks if there is a terminal, changes them, and prints the numbers.

    Raises ``UsageError`` if there is no terminal to ask at.
    """
    is_sure = mode.yes or bulk.by_ids
    if not (is_sure or mode.dry_run) and (mode.as_json or not can_ask()):
        raise UsageError(f"there is no terminal to ask at: add --yes to {bulk.verb} them, or --dry-run to count them")
    matched = queue.count_tasks(bulk.which, up_to=MOST_COUNTED)
    if not mode.as_json and not bulk.by_ids:
        verb = "matches" if matched == Count(1, True) else "match"
        click.echo(printable(f"{in_words(matched)} {verb} {told(bulk.which) or '--all'}"))
    if mode.dry_run:
        if mode.as_json:
            click.echo(_numbers(matched, None))
        return
    if matched == Count(0, True) and not bulk.by_ids:
        if mode.as_json:
            click.echo(_numbers(matched, 0))
        return
    if not is_sure and not click.confirm(f"{bulk.verb} them?", err=True):
        click.echo("nothing was changed")
        return
    changed = _changed(bulk.done, change)
    click.echo(_numbers(matched, changed) if mode.as_json else result(bulk.done, matched, changed))


def can_ask() -> bool:
    """Returns whether there is a terminal to ask at."""
    return sys.stdin.isatty()


def _changed(done: str, change: Callable[[Callable[[int], None]], int]) -> int:
    """Runs the change; shows its progress on a terminal, and how far it came if it is interrupted."""
    so_far = 0
    on_terminal = sys.stderr.isatty()

    def tell(count: int) -> None:
        nonlocal so_far
        so_far = count
        if on_terminal:
            click.echo(f"\r{count:,} {done}", nl=False, err=True)

    try:
        return change(tell)
    except BaseException:
        if so_far:
            click.echo(f"{so_far:,} were {done} before it ended", err=True)
        raise
    finally:
        if on_terminal and so_far:
            click.echo("\r", nl=False, err=True)


def result(done: str, matched: Count, changed: int) -> str:
    """Returns a line that says what was done, and how many of those that were counted it was not done to."""
    line = f"{counted(changed, 'task')} {'has' if changed == 1 else 'have'} been {done}"
    others = matched.count - changed
    if not matched.is_exact or others <= 0:
        return line
    return f"{line}; {others:,} that were counted {'was' if others == 1 else 'were'} taken or changed meanwhile"


def _numbers(matched: Count, changed: int | None) -> str:
    taken = None if changed is None or not matched.is_exact else max(0, matched.count - changed)
    found = {"matched": matched.count, "exact": matched.is_exact, "estimate": matched.estimate}
    return as_json(found | {"changed": changed, "taken": taken})
