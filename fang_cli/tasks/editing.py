"""Defines ``fang tasks edit``."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, tzinfo
from typing import Any

import click

from fang_cli import arguments
from fang_cli.fields import with_fields
from fang_cli.options import APP, DATABASE, options, queue_at
from fang_cli.tasks.filtering import checked_uuid
from fang_cli.tasks.finding import found_task
from fang_core.errors import UsageError
from fang_core.record import Task, payload_of
from fang_core.tasks.runnable import BaseRunnable


@click.command()
@click.argument("task_id", metavar="ID")
@click.option("--set", "pairs", metavar="FIELD=VALUE", multiple=True, help="As order.id=7; a value is JSON, or a text.")
@click.option("--payload", metavar="JSON", help="All fields, in place of those that it has.")
@click.option("--priority", metavar="N", type=click.IntRange(-2, 2), help="-2 (first) to 2 (last).")
@click.option(
    "--at", metavar="TIME", callback=arguments.time, help="When it is due: 2026-12-24T18:00+01:00, or with --tz."
)
@click.option("--tz", metavar="ZONE", callback=arguments.zone, help="The zone of --at, like Europe/Berlin.")
@click.option("--in", "delay", metavar="SPAN", callback=arguments.span, help="Due after this time: 90s, 15m, 6h or 2d.")
@click.option("--unchecked", is_flag=True, help="Write fields though the class is not known, and nothing checks them.")
@options(APP, *DATABASE)
def edit(
    *,
    task_id: str,
    pairs: tuple[str, ...],
    payload: str | None,
    priority: int | None,
    at: datetime | None,
    tz: tzinfo | None,
    delay: timedelta | None,
    unchecked: bool,
    app: tuple[str, ...],
    schema: str | None,
    database_url: str | None,
) -> None:
    """Change the fields, the priority or the time of a task that waits.

    Its class checks the fields before anything is written: --app names its module. If a pool claims the task meanwhile,
    or somebody else changes it, nothing is written.
    """
    from fang_cli.payloads import known_classes

    if payload is not None and pairs:
        raise UsageError("give --set or --payload, not both")
    if at is not None and delay is not None:
        raise UsageError("give --at or --in, not both")
    given = {"priority": priority, "scheduled_at": arguments.in_zone("--at", at, tz), "delay": delay}
    changes: Any = {name: value for name, value in given.items() if value is not None}
    if not changes and payload is None and not pairs:
        raise UsageError("say what is to change: --set, --payload, --priority, --at or --in")
    wanted = checked_uuid("ID", task_id)
    known_classes(app)
    with queue_at(database_url, schema) as queue:
        task = found_task(queue.find_task_by_id(wanted), wanted)
        new_task = _new_task(task, pairs, payload, unchecked=unchecked)
        queue.update_task(task, new_task, **changes)
    click.echo(f"task {wanted} has been changed")


def _new_task(task: Task, pairs: Sequence[str], payload: str | None, *, unchecked: bool) -> BaseRunnable:
    """Returns a task with the fields that the options say; as a row has them, where they say nothing."""
    from fang_cli.payloads import fields_in, task_with
    from fang_core.tasks.registry import REGISTRY

    where = "--set" if payload is None else "--payload"
    former = payload_of(task.metadata)
    fields = with_fields(former, where, pairs) if payload is None else fields_in(where, payload)
    cls = REGISTRY.get(task.kind)
    if cls is None:
        if fields != former and not unchecked:
            told = "name its module with --app, or in the setting app; or write it --unchecked"
            raise UsageError(f"the class of {task.kind!r:.60} is not known, and nothing can check the fields: {told}")
        cls = _stand_in(task)
    return task_with(cls, fields, where, known=former)


def _stand_in(task: Task) -> type[BaseRunnable]:
    """Returns a class that takes any fields, in place of one that is not known here.

    Raises ``UsageError`` if the real one would write more than the fields.
    """
    from pydantic import ConfigDict

    from fang_threaded import Runnable, TaskConfig

    if task.uniq_hash is not None or task.lane:
        what = "tasks are equal" if task.uniq_hash is not None else "tasks share a limit"
        raise UsageError(f"the class of {task.kind!r:.60} says which {what}: name its module with --app")

    def run(self: object, queue: object) -> None:
        raise NotImplementedError

    names: Mapping[str, Any] = {
        "__module__": __name__,
        "model_config": ConfigDict(extra="allow"),
        "task_config": TaskConfig(kind=task.kind),
        "run": run,
    }
    return type("Unchecked", (Runnable,), dict(names))
