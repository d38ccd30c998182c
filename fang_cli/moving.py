"""Defines ``fang move``."""

import fcntl
import hashlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from fang_backends.urls import FORMS
from fang_cli.settings import chosen_database
from fang_core.errors import UsageError

if TYPE_CHECKING:
    from fang_backends.queues import OwnQueue
    from fang_core.aside import Route
    from fang_core.backends.moving import Moved
    from fang_core.backends.moving_settings import MovedSettings, SettingsMover
    from fang_core.tasks.selecting.filter import TaskFilter

_SHOWN: Final = 10
"""How many tasks that stay, and how many names, are listed one by one at most."""

_SAME: Final = "--from and --to are the same queue"


@click.command()
@click.option("--from", "source", metavar="URL", required=True, help=f"Where they are: {FORMS}.")
@click.option("--to", "target", metavar="URL", required=True, help="Where they go.")
@click.option("--task-type", "task_types", metavar="TYPE", multiple=True, help="Only tasks of this type, or these.")
@click.option("--from-schema", metavar="NAME", default="fang", help="The schema, or the queue's name, of --from.")
@click.option("--to-schema", metavar="NAME", default="fang", help="The same of --to.")
@click.option("--dry-run", is_flag=True, help="Only print what would be moved, and what would stay.")
@click.option("--json", "as_json", is_flag=True, help="Print the numbers for programs.")
def move(
    *,
    source: str,
    target: str,
    task_types: tuple[str, ...],
    from_schema: str,
    to_schema: str,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Move the waiting tasks from one queue to another, of any backend.

    Each task is moved once, with everything that belongs to it, even if the command is killed: run the same command
    again, and it continues. Schedules in the database are moved too; pauses, and limits that were set by hand, are
    copied. Whatever the target has already is printed, and stays as it is there. Running tasks stay. Let the
    application insert into the new queue first. docs/moving.md has all the steps.
    """
    from fang_backends.queues import queue_of
    from fang_backends.urls import shown_url
    from fang_cli.json_text import as_json as document
    from fang_core.aside import Route
    from fang_core.backends.moving import is_same
    from fang_core.backends.moving_settings import SettingsMover
    from fang_core.lifecycle import DUE_STATES
    from fang_core.tasks.selecting.filter import TaskFilter

    route = Route(_named(shown_url(source), from_schema), _named(shown_url(target), to_schema))
    if route.source == route.target:
        raise UsageError(_SAME)
    which = TaskFilter(task_types=task_types or None, states=DUE_STATES)
    with ExitStack() as stack:
        here = stack.enter_context(queue_of(chosen_database(source), name=from_schema, max_pool_size=1))
        there = stack.enter_context(queue_of(target, name=to_schema, max_pool_size=1))
        settings = SettingsMover(here, there, route.target, task_types or None)
        if dry_run:
            found = _found(here, there, which) | _names(settings)
            click.echo(document(found) if as_json else _found_in_words(found))
            return
        stack.enter_context(_alone(route))
        if is_same(here, there):
            raise UsageError(_SAME)
        moved = settings.move()  # first, so that no task comes before the pause or the limits of its type
        done = _moved(here, there, route, which)
    click.echo(document(_as_object(done, moved)) if as_json else _in_words(done, moved))


def _named(url: str, name: str) -> str:
    return url if name == "fang" else f"{url} ({name})"


@contextmanager
def _alone(route: "Route") -> Iterator[None]:
    """Keeps other processes on this machine from moving between these queues. Raises ``UsageError`` if one does."""
    name = hashlib.sha256("\n".join(route).encode()).hexdigest()[:16]
    file = Path(tempfile.gettempdir()) / f"fang-move-{os.getuid()}-{name}"
    descriptor = os.open(file, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UsageError("another fang move between these queues is running: wait for its end") from None
    else:
        yield
    finally:
        os.close(descriptor)


def _moved(here: "OwnQueue", there: "OwnQueue", route: "Route", which: "TaskFilter") -> "Moved":
    """Moves the tasks, and shows on a terminal how far it is."""
    from fang_core.backends.moving import Mover
    from fang_core.monitoring.listing import MOST_COUNTED

    total = here.count_tasks(which, up_to=MOST_COUNTED)
    with _progress(f"of {'' if total.is_exact else 'at least '}{total.count:,} moved") as tell:
        return Mover(here, there, route, which, on_progress=tell).move()


@contextmanager
def _progress(text: str) -> Iterator[Callable[[int], None]]:
    on_terminal = sys.stderr.isatty()
    so_far = 0

    def tell(count: int) -> None:
        nonlocal so_far
        so_far = count
        if on_terminal:
            click.echo(f"\r{count:,} {text}", nl=False, err=True)

    try:
        yield tell
    except BaseException:
        click.echo(f"{so_far:,} {text} before it ended: run the same command again", err=True)
        raise
    finally:
        if on_terminal and so_far:
            click.echo("\r", nl=False, err=True)


# What is printed ------------------------------------------------------------------------------------------------------


def _names(settings: "SettingsMover") -> dict[str, list[str]]:
    """Returns the names of what would be moved or copied besides tasks, unless the target has it already."""
    return {
        "schedules": [info.name for info in settings.schedules()],
        "task_types": [info.task_type for info in settings.types()],
    }


def _found(here: "OwnQueue", there: "OwnQueue", which: "TaskFilter") -> dict[str, Any]:
    from dataclasses import replace

    from fang_core.aside import ASIDE
    from fang_core.monitoring.listing import MOST_COUNTED
    from fang_core.record import TaskState

    aside = replace(which, task_types=ASIDE)
    waiting = here.count_tasks(which, up_to=MOST_COUNTED)
    running = here.count_tasks(replace(which, states=TaskState.IN_PROGRESS))
    set_aside = here.count_tasks(aside).count + there.count_tasks(aside).count
    return {
        "waiting": waiting.count,
        "exact": waiting.is_exact,
        "estimate": waiting.estimate,
        "in_progress": running.count,
        "set_aside": set_aside,
    }


def _found_in_words(found: dict[str, Any]) -> str:
    from fang_core.monitoring.listing import Count, in_words
    from fang_core.words.texts import counted

    waiting = Count(found["waiting"], found["exact"], found["estimate"])
    lines = [in_words(waiting, "task waits", "tasks wait")]
    if found["set_aside"]:
        lines.append(f"{counted(found['set_aside'], 'task')} set aside by a move that was interrupted, which go first")
    if found["schedules"]:
        lines.append(f"schedules to move: {_some(found['schedules'])}")
    if found["task_types"]:
        lines.append(f"task types whose pause or limits are to be copied: {_some(found['task_types'])}")
    return "\n".join([*lines, *_told_of_running(found["in_progress"])])


def _as_object(done: "Moved", moved: "MovedSettings") -> dict[str, Any]:
    from fang_cli.json_text import plain

    found: dict[str, Any] = plain(done) | plain(moved)
    return found


def _in_words(done: "Moved", moved: "MovedSettings") -> str:
    from fang_core.words.texts import counted, printable

    resumed = f", {done.resumed:,} of which an earlier move had set aside" if done.resumed else ""
    lines = [f"{counted(done.moved, 'task has', 'tasks have')} been moved{resumed}"]
    if moved.schedules:
        lines.append(f"schedules that have been moved: {_some(moved.schedules)}")
    if moved.task_types:
        lines.append(f"task types that are paused or limited in the target now: {_some(moved.task_types)}")
    left = [f"{each.id} ({each.kind}): {each.why}" for each in done.left]
    for stays in (left, [f"{each.what}: {each.why}" for each in moved.kept]):
        lines += [printable(f"stays: {each}") for each in stays[:_SHOWN]]
        if len(stays) > _SHOWN:
            lines.append(f"and {counted(len(stays) - _SHOWN, 'more stays', 'more stay')}: --json lists them")
    if done.waiting:
        waiting = counted(done.waiting, "task waits", "tasks wait")
        lines.append(f"{waiting} in the source that came meanwhile: run the command again")
    return "\n".join([*lines, *_told_of_running(done.in_progress)])


def _told_of_running(in_progress: int) -> Iterator[str]:
    from fang_core.words.texts import counted

    if in_progress:
        yield counted(in_progress, "task runs, and stays where it is", "tasks run, and stay where they are")


def _some(names: list[str]) -> str:
    from fang_core.words.texts import printable

    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return printable(", ".join(names[:_SHOWN])) + more
