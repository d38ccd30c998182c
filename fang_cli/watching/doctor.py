"""Defines ``fang doctor``: what is wrong, and what mends it."""

from typing import Any

import click

from fang_cli.options import DATABASE, JSON, options
from fang_cli.settings import chosen_database, chosen_schema


@click.command()
@options(JSON, *DATABASE)
@click.pass_context
def doctor(ctx: click.Context, *, as_json: bool, schema: str | None, database_url: str | None) -> None:
    """Say what is wrong with the database, the pools and the tasks, and which command fixes it.

    It only reads, and works with any role; it reports as unknown what the role may not see. Exit codes: 1 if there is
    an error, else 0, whatever the warnings.
    """
    from fang_cli.watching.examining import examine
    from fang_core.monitoring.checks import Level

    found = examine(chosen_database(database_url, needs_tables=False), chosen_schema(schema))
    if as_json:
        from fang_cli.json_text import as_json as document

        click.echo(document({"checks": found}))
    else:
        _show(found)
    ctx.exit(1 if any(check.level is Level.ERROR for check in found) else 0)


def _show(found: Any) -> None:
    from fang_core.monitoring.checks import Level
    from fang_core.words.texts import printable

    for check in found:
        click.echo(f"{check.level:8}{check.name:14}{printable(check.text)}")
        if check.remedy:
            click.echo(f"{'':22}-> {printable(check.remedy)}")
    counts = {level: sum(check.level is level for check in found) for level in Level}
    bad = [f"{level}s: {counts[level]}" for level in (Level.ERROR, Level.WARNING) if counts[level]]
    good = "nothing is wrong" + (" in what could be checked" if counts[Level.UNKNOWN] else "")
    click.echo("; ".join(bad) or good)
