"""Defines the commands that show what there is and what goes on: ``fang status`` and its like."""

import click

from fang_cli.options import DATABASE, JSON, options
from fang_cli.settings import chosen_database, chosen_schema


@click.command()
@options(JSON, *DATABASE)
def status(*, as_json: bool, schema: str | None, database_url: str | None) -> None:
    """Show which tasks wait, run, hang and fail, and which pools live.

    Also why tasks failed, how far runs say that they are, and which tasks no pool serves.
    """
    from fang_cli.watching import status_json, status_tables
    from fang_cli.watching.status import read_status

    found = read_status(chosen_database(database_url), chosen_schema(schema))
    if as_json:
        click.echo(status_json.as_json(found))
    else:
        status_tables.show(found)
