"""Defines ``fang insert``."""

import json
import sys
from datetime import datetime, timedelta, tzinfo
from typing import Any

import click

from fang_cli import arguments
from fang_cli.options import APP, DATABASE, options, queue_at
from fang_core.errors import UsageError


@click.command()
@click.argument("kind")
@click.argument("fields", metavar="[JSON]", default="{}")
@options(APP)
@click.option("--type", "task_type", metavar="TYPE", help="Decides which pools run it.")
@click.option("--priority", metavar="N", type=click.IntRange(-2, 2), help="-2 (first) to 2 (last).")
@click.option(
    "--at", metavar="TIME", callback=arguments.time, help="When it is due: 2026-12-24T18:00+01:00, or with --tz."
)
@click.option("--tz", metavar="ZONE", callback=arguments.zone, help="The zone of --at, like Europe/Berlin.")
@click.option("--in", "delay", metavar="SPAN", callback=arguments.span, help="Due after this time: 90s, 15m, 6h or 2d.")
@click.option(
    "--header",
    "headers",
    metavar="KEY=TEXT",
    multiple=True,
    help="A header that travels with the task, besides its fields.",
)
@click.option("--uniq/--no-uniq", default=None, help="Whether it is left out while an equal one waits or runs.")
@click.option(
    "--max-retries", metavar="N", type=click.IntRange(min=0), help="How often a failure leads to another run."
)
@click.option("--timeout", metavar="SPAN", callback=arguments.span, help="How long each run may take.")
@click.option("--expires", metavar="SPAN", callback=arguments.span, help="How long it may wait for its run.")
@click.option("--unchecked", is_flag=True, help="Insert it without a check, if the class is not known.")
@click.option("--json", "as_json", is_flag=True, help="Print its id, and whether it existed already, for programs.")
@options(*DATABASE)
def insert(
    *,
    kind: str,
    fields: str,
    app: tuple[str, ...],
    at: datetime | None,
    tz: tzinfo | None,
    headers: tuple[str, ...],
    unchecked: bool,
    as_json: bool,
    schema: str | None,
    database_url: str | None,
    **given: Any,
) -> None:
    """Insert a task of a kind, with the fields in a JSON object.

    As in: fang insert Report '{"day": "today"}' --app app.tasks. The class checks the fields before anything is
    written. With - for JSON, it is read from standard input, so that no list of processes shows it.
    """
    from fang_cli import payloads

    if at is not None and given["delay"] is not None:
        raise UsageError("give --at or --in, not both")
    given["scheduled_at"] = arguments.in_zone("--at", at, tz)
    given["headers"] = dict(arguments.pair("--header", each) for each in headers) or None
    payloads.known_classes(app)
    cls = payloads.class_or_stand_in(kind) if unchecked else payloads.class_of(kind)
    text = sys.stdin.read() if fields == "-" else fields
    task = payloads.task_of(cls, text, "JSON")
    with queue_at(database_url, schema) as queue:
        row = queue.insert_task(task, **_given_alone(**given))
    if as_json:
        click.echo(json.dumps({"id": str(row.id), "conflict": row.conflict}))
    else:
        click.echo(f"task {row.id} {'is there already' if row.conflict else 'has been inserted'}")


def _given_alone(**given: timedelta | datetime | object) -> Any:
    return {name: value for name, value in given.items() if value is not None}
