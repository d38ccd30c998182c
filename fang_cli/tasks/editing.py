"""Defines ``fang tasks edit``."""

from collections.abc import Sequence
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
@click.option("--payload", metavar="JSON", help="All fields; they replace those that it has.")
@click.option("--type", "task_type", metavar="TYPE", help="Decides which pools run it.")
@click.option("--priority", metavar="N", type=click.IntRange(-2, 2), help="-2 (first) to 2 (last).")
@click.option(
    "--at", metavar="TIME", callback=arguments.time, help="When it is due: 2026-12-24T18:00+01:00, or with --tz."
)
@click.option("--tz", metavar="ZONE", callback=arguments.zone, help="The zone of --at, like Europe/Berlin.")
@click.option("--in", "delay", metavar="SPAN", callback=arguments.span, help="Due after this time: 90s, 15m, 6h or 2d.")
@click.option(
    "--max-retries", metavar="N", type=click.IntRange(min=0), help="How often a failure leads to another run."
)
@click.option("--timeout", metavar="SPAN", callback=arguments.span, help="How long each run may take.")
@click.option("--expires", metavar="SPAN", callback=arguments.span, help="How long it may wait from when it is due.")
@click.option("--header", "headers", metavar="KEY=TEXT", multiple=True, help="Add this header to those that it has.")
@click.option("--unchecked", is_flag=True, help="Write the fields without a check, if the class is not known.")
@options(APP, *DATABASE)
def edit(
    *,
    task_id: str,
    pairs: tuple[str, ...],
    payload: str | None,
    at: datetime | None,
    tz: tzinfo | None,
    delay: timedelta | None,
    headers: tuple[str, ...],
    unchecked: bool,
    app: tuple[str, ...],
    schema: str | None,
    database_url: str | None,
    **given: Any,
) -> None:
    """Change the fields and options of a task that waits.

    Its class checks the fields before anything is written: --app names its module. If a pool claims the task meanwhile,
    or it is changed otherwise, nothing is written.
    """
    from fang_cli.payloads import known_classes

    if payload is not None and pairs:
        raise UsageError("give --set or --payload, not both")
    if at is not None and delay is not None:
        raise UsageError("give --at or --in, not both")
    given |= {"scheduled_at": arguments.in_zone("--at", at, tz), "delay": delay}
    given["headers"] = dict(arguments.pair("--header", each) for each in headers) or None
    changes: Any = {name: value for name, value in given.items() if value is not None}
    if not changes and payload is None and not pairs:
        raise UsageError("say what is to change: --set, --payload, or an option such as --priority")
    wanted = checked_uuid("ID", task_id)
    known_classes(app)
    with queue_at(database_url, schema) as queue:
        task = found_task(queue.find_task_by_id(wanted), wanted)
        if "headers" in changes:
            changes["headers"] = {**(task.headers or {}), **changes["headers"]}
        new_task = _new_task(task, pairs, payload, unchecked=unchecked)
        queue.update_task(task, new_task, **changes)
    click.echo(f"task {wanted} has been changed")


def _new_task(task: Task, pairs: Sequence[str], payload: str | None, *, unchecked: bool) -> BaseRunnable:
    """Returns a task with the fields that the options say; as a row has them, where they say nothing."""
    from fang_cli.payloads import fields_in, task_with
    from fang_core.tasks.payloads.unchecked import stand_in_for
    from fang_core.tasks.registry import REGISTRY

    where = "--set" if payload is None else "--payload"
    former = payload_of(task.metadata)
    fields = with_fields(former, where, pairs) if payload is None else fields_in(where, payload)
    cls = REGISTRY.get(task.kind)
    if cls is None:
        if fields != former and not unchecked:
            told = "name its module with --app, or in the setting app; or write it --unchecked"
            raise UsageError(f"the class of {task.kind!r:.60} is not known, and nothing can check the fields: {told}")
        try:
            cls = stand_in_for(task)
        except UsageError as error:
            raise UsageError(f"{error}: name its module with --app") from None
    return task_with(cls, fields, where, known=former)
