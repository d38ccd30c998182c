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
    from fang_core.backends.moving import Moved, Route
    from fang_core.tasks.selecting.filter import TaskFilter

_SHOWN: Final = 10
"""The most tasks that stay, and the most names, that are told one by one."""


@click.command()
@click.option("--from", "source", metavar="URL", required=True, help=f"Where they are: {FORMS}.")
@click.option("--to", "target", metavar="URL", required=True, help="Where they go.")
@click.option("--task-type", "task_types", metavar="TYPE", multiple=True, help="Only tasks of this type, or these.")
@click.option("--from-schema", metavar="NAME", default="fang", help="The schema, or the queue's name, of --from.")
@click.option("--to-schema", metavar="NAME", default="fang", help="The same of --to.")
@click.option("--dry-run", is_flag=True, help="Only say what there is to move, and what would stay.")
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
    """Move the tasks that wait from one queue to another, of whatever backend.

    Each is moved once, with all that it has, whatever is killed when: then run the same command again, and it goes on.
    Tasks that run stay, and so do schedules and what was set by hand for task types; their names are printed. Let the
    application insert into the new queue first. docs/moving.md has the whole way.
    """
    from fang_backends.queues import queue_of
    from fang_backends.urls import shown_url
    from fang_cli.json_text import as_json as document
    from fang_core.backends.moving import Route
    from fang_core.lifecycle import DUE_STATES
    from fang_core.tasks.selecting.filter import TaskFilter

    route = Route(_named(shown_url(source), from_schema), _named(shown_url(target), to_schema))
    if route.source == route.target:
        raise UsageError("--from and --to are the same queue")
    which = TaskFilter(task_types=task_types or None, states=DUE_STATES)
    with ExitStack() as stack:
        here = stack.enter_context(queue_of(chosen_database(source), name=from_schema, max_pool_size=1))
        there = stack.enter_context(queue_of(target, name=to_schema, max_pool_size=1))
        stays = _what_stays(here)
        if dry_run:
            found = _found(here, there, which) | stays
            click.echo(document(found) if as_json else _found_in_words(found))
            return
        stack.enter_context(_alone(route))
        done = _moved(here, there, route, which)
    click.echo(document(_as_object(done) | stays) if as_json else _in_words(done, stays))


def _named(url: str, name: str) -> str:
    return url if name == "fang" else f"{url} ({name})"


@contextmanager
def _alone(route: "Route") -> Iterator[None]:
    """Lets nobody else on this machine move tasks between these queues. Raises ``UsageError`` if somebody does."""
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

    total = here.count_tasks(which)
    with _progress(f"of {'' if total.is_exact else 'about '}{total.count:,} moved") as tell:
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


def _what_stays(queue: "OwnQueue") -> dict[str, Any]:
    """Returns the names of what is in the database beside tasks, and is not moved."""
    from fang_core.backends.moving import ASIDE

    schedules = [info.name for info in queue.schedules.list() if info.is_stored or info.paused]
    types = [info.task_type for info in queue.limits.list() if info.is_paused or info.changed is not None]
    return {"schedules": schedules, "task_types": [each for each in types if each != ASIDE]}


def _found(here: "OwnQueue", there: "OwnQueue", which: "TaskFilter") -> dict[str, Any]:
    from dataclasses import replace

    from fang_core.backends.moving import ASIDE
    from fang_core.record import TaskState

    aside = replace(which, task_types=ASIDE)
    waiting, running = here.count_tasks(which), here.count_tasks(replace(which, states=TaskState.IN_PROGRESS))
    set_aside = here.count_tasks(aside).count + there.count_tasks(aside).count
    return {
        "waiting": waiting.count,
        "exact": waiting.is_exact,
        "in_progress": running.count,
        "set_aside": set_aside,
    }


def _found_in_words(found: dict[str, Any]) -> str:
    from fang_core.words.texts import counted

    about = "" if found["exact"] else "about "
    lines = [f"{about}{counted(found['waiting'], 'task waits', 'tasks wait')}"]
    if found["set_aside"]:
        lines.append(f"{counted(found['set_aside'], 'task')} set aside by a move that was interrupted, which go first")
    return "\n".join([*lines, *_told_of_stays(found["in_progress"], found)])


def _as_object(done: "Moved") -> dict[str, Any]:
    from fang_cli.json_text import plain

    found: dict[str, Any] = plain(done)
    return found


def _in_words(done: "Moved", stays: dict[str, Any]) -> str:
    from fang_core.words.texts import counted, printable

    resumed = f", {done.resumed:,} of which an earlier move had set aside" if done.resumed else ""
    lines = [f"{counted(done.moved, 'task has', 'tasks have')} been moved{resumed}"]
    lines += [printable(f"stays: {left.id} ({left.kind}): {left.why}") for left in done.left[:_SHOWN]]
    if len(done.left) > _SHOWN:
        lines.append(f"and {len(done.left) - _SHOWN:,} more stay: --json lists them")
    if done.waiting:
        waiting = counted(done.waiting, "task waits", "tasks wait")
        lines.append(f"{waiting} in the source that came meanwhile: run the command again")
    return "\n".join([*lines, *_told_of_stays(done.in_progress, stays)])


def _told_of_stays(in_progress: int, stays: dict[str, Any]) -> Iterator[str]:
    from fang_core.words.texts import counted

    if in_progress:
        yield counted(in_progress, "task runs, and stays where it is", "tasks run, and stay where they are")
    if stays["schedules"]:
        yield f"schedules stay: {_some(stays['schedules'])}; put them into the new queue, then remove them here"
    if stays["task_types"]:
        yield f"what was set by hand for task types stays: {_some(stays['task_types'])}"


def _some(names: list[str]) -> str:
    from fang_core.words.texts import printable

    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return printable(", ".join(names[:_SHOWN])) + more
