"""Defines ``fang why``: why a task is not running, or that it runs."""

import click

from fang_cli.options import DATABASE, JSON, MASK, options, queue_at
from fang_cli.settings import chosen_masks
from fang_cli.tasks.filtering import checked_uuid


@click.command()
@click.argument("task_id", metavar="ID")
@options(MASK, JSON, *DATABASE)
def why(*, task_id: str, mask: tuple[str, ...], as_json: bool, schema: str | None, database_url: str | None) -> None:
    """Say why a task is not running, or that it runs, and what would change that.

    It names the one cause that has to change first; ask again when it has.
    """
    from fang_cli.json_text import as_json as document
    from fang_cli.tasks.showing import explanation_as_object, masked_why
    from fang_core.words.texts import printable

    wanted, words = checked_uuid("ID", task_id), chosen_masks(mask)
    with queue_at(database_url, schema) as queue:
        told = masked_why(queue.explain(wanted), words)
    if as_json:
        click.echo(document(explanation_as_object(told)))
        return
    click.echo(f"{told.cause}: {printable(told.text)}")
    if told.remedy:
        click.echo(printable(told.remedy))
