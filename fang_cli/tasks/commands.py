"""Defines ``fang tasks`` with what only reads: ``list`` and ``show``."""

import json
from collections.abc import Mapping
from typing import Any

import click

from fang_cli.group import Group
from fang_cli.options import APP, DATABASE, JSON, MASK, options, queue_at
from fang_cli.settings import chosen_masks
from fang_cli.tasks.changing import cancel, remove, retry
from fang_cli.tasks.editing import edit
from fang_cli.tasks.filtering import FILTER, checked_uuid, filter_of
from fang_cli.tasks.finding import found_page, found_task


@click.group(cls=Group)
def tasks() -> None:
    """List, show and change tasks.

    A task must match all options that select tasks; if an option is given twice, either value matches. Write times as
    2026-12-24T18:00+01:00, or as a span before now: 90s, 15m, 6h or 2d.
    """


for _command in (retry, cancel, remove, edit):
    tasks.add_command(_command)


@tasks.command("list")
@options(*FILTER)
@click.option(
    "--limit",
    metavar="N",
    type=click.IntRange(1, 500),
    default=50,
    show_default=True,
    help="How many tasks a page has at most.",
)
@click.option(
    "--cursor", metavar="CURSOR", help="Go on after the page that printed this cursor; give the same options."
)
@options(MASK, JSON, *DATABASE)
def list_(
    *,
    limit: int,
    cursor: str | None,
    mask: tuple[str, ...],
    as_json: bool,
    schema: str | None,
    database_url: str | None,
    **given: Any,
) -> None:
    """Show a page of the tasks that match.

    Waiting tasks come in the order in which they are claimed, running ones by when they were claimed, and ended ones by
    when they ended, the last first. Without --state, or for several kinds of states, those inserted last come first. If
    few of many tasks match, it searches for a second, and prints the cursor to go on with.
    """
    from fang_cli.json_text import as_json as document
    from fang_cli.tasks import showing

    which, words = filter_of(**given), chosen_masks(mask)
    with queue_at(database_url, schema) as queue:
        page = found_page(queue, which, limit, cursor)
    if as_json:
        click.echo(document(showing.page_as_object(page, words)))
    else:
        showing.show_page(page, which, limit)


@tasks.command()
@click.argument("task_id", metavar="ID")
@click.option("--traceback", "tracebacks", is_flag=True, help="With the tracebacks of errors; they may quote fields.")
@click.option("--payload", "with_payload", is_flag=True, help="With its fields, except those that hold secrets.")
@click.option("--unmasked", is_flag=True, help="With all of its fields, headers and its key as they are.")
@options(MASK, APP, JSON, *DATABASE)
def show(
    *,
    task_id: str,
    tracebacks: bool,
    with_payload: bool,
    unmasked: bool,
    mask: tuple[str, ...],
    app: tuple[str, ...],
    as_json: bool,
    schema: str | None,
    database_url: str | None,
) -> None:
    """Show a task: its life with attempts and errors, its headers, its progress, and why it does not run.

    With --payload a value is hidden if the class of the task says that it is a secret, or its name does, like password,
    and all of them are if the class is not known: --app names its module.
    """
    from fang_cli.json_text import as_json as document
    from fang_cli.tasks import showing

    wanted, words = checked_uuid("ID", task_id), None if unmasked else chosen_masks(mask)
    if with_payload and not unmasked:
        from fang_cli.payloads import known_classes

        known_classes(app)
    with queue_at(database_url, schema) as queue:
        task = found_task(queue.find_task_by_id(wanted), wanted)
        why = queue.explain(wanted)
    payload = _payload(task.kind, task.metadata, words) if with_payload or unmasked else None
    if words is not None:
        task, why = showing.masked(task, words), showing.masked_why(why, words)
    if as_json:
        click.echo(document(showing.one_as_object(task, why, payload, tracebacks=tracebacks)))
        return
    texts = None if payload is None else {key: json.dumps(value, ensure_ascii=False) for key, value in payload.items()}
    for line in showing.one_as_text(task, why, texts, tracebacks=tracebacks):
        click.echo(line)


def _payload(kind: str, metadata: Mapping[str, Any], words: frozenset[str] | None) -> dict[str, Any]:
    from fang_core.masking.masks import masks_of
    from fang_core.record import payload_of

    fields = payload_of(metadata)
    if words is None:
        return fields
    shown: dict[str, Any] = masks_of(kind, words, hides_unknown=True).masked(fields)
    return shown
