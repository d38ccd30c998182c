"""Defines the commands that show what there is and what goes on: ``fang status`` and its like."""

from dataclasses import replace

import click

from fang_cli.options import DATABASE, JSON, MASK, options
from fang_cli.settings import chosen_database, chosen_masks, chosen_schema


@click.command()
@options(MASK, JSON, *DATABASE)
def status(*, mask: tuple[str, ...], as_json: bool, schema: str | None, database_url: str | None) -> None:
    """Show which tasks wait, run, hang and fail, and which pools live.

    Also why tasks failed, the progress that runs report, and which tasks no pool serves.
    """
    from fang_cli.managing.showing_types import masked
    from fang_cli.watching import status_json, status_tables
    from fang_cli.watching.status import read_status

    words = chosen_masks(mask)
    found = read_status(chosen_database(database_url), chosen_schema(schema))
    found = replace(found, types=masked(found.types, words))
    if found.may_be_hidden:
        click.echo("row-level security may hide tasks from this role: see fang doctor", err=True)
    if as_json:
        click.echo(status_json.as_json(found))
    else:
        status_tables.show(found)
