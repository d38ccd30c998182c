"""Defines ``fang migrate``."""

from typing import Any

import click

from fang_backends.queues import queue_of
from fang_backends.urls import Engine, engine_of
from fang_cli.options import DATABASE, options
from fang_cli.settings import chosen_database_url, chosen_schema
from fang_core.errors import SchemaError, UsageError
from fang_postgres.grants import grants, purposes


@click.command()
@click.option("--sql", "as_sql", is_flag=True, help="Print the script instead of running it; needs no database.")
@click.option(
    "--from", "start", metavar="REVISION", help="With --sql: what the tables are at; without, there are none."
)
@click.option("--check", "only_check", is_flag=True, help="Change nothing; exit code 78 unless the tables fit.")
@click.option("--grants", "role", metavar="ROLE", help="Print the SQL that gives a role the least rights it needs.")
@click.option(
    "--for",
    "purpose",
    type=click.Choice(purposes()),
    help="With --grants: what the role does; without, a web application's rights and a worker's are printed.",
)
@options(*DATABASE)
def migrate(
    *,
    as_sql: bool,
    start: str | None,
    only_check: bool,
    role: str | None,
    purpose: Any,
    schema: str | None,
    database_url: str | None,
) -> None:
    """Make or change the tables.

    They are on Postgres, or in a SQLite file, which is created if it does not exist. Redis needs none.
    """
    tables = chosen_schema(schema)
    if role is not None:
        if as_sql or only_check:
            raise UsageError("--grants only prints: give it without --sql and --check")
        click.echo(grants(role, purpose, schema=tables), nl=False)
        return
    if purpose is not None:
        raise UsageError("--for belongs to --grants")
    if as_sql and only_check:
        raise UsageError("give --sql or --check, not both")
    if start is not None and not as_sql:
        raise UsageError("--from belongs to --sql: a database knows its own revision")
    from fang_postgres import migrate as migrations

    if as_sql:
        click.echo(migrations.sql(schema=tables, from_revision=start), nl=False)
        return
    url = chosen_database_url(database_url)
    engine = engine_of(url)
    if engine is not Engine.POSTGRES:
        click.echo(_of_file(url, only_check=only_check) if engine is Engine.SQLITE else "Redis needs no tables")
        return
    before = migrations.current(url, schema=tables)
    if not only_check:
        migrations.upgrade(url, schema=tables)
    migrations.check(url, schema=tables)
    click.echo(f"the tables in schema {tables} {_what_was_done(before, migrations.current(url, schema=tables))}")


def _of_file(url: str, *, only_check: bool) -> str:
    """Makes or changes the tables of a SQLite file; says what was done. Raises ``SchemaError``."""
    from fang_sqlite.reading.health import version_in

    file = url.partition("///")[2]
    before, head = version_in(url)
    if before != head and only_check:
        found = "are missing" if before == 0 else f"have version {before}, not {head}"
        raise SchemaError(f"the tables of {file} {found}: run `fang migrate`")
    with queue_of(url):
        after, _ = version_in(url)
    if before == after:
        return f"the tables of {file} are up to date (version {after})"
    done = "made" if before == 0 else f"changed from version {before}"
    return f"the tables of {file} have been {done} (version {after})"


def _what_was_done(before: str | None, after: str | None) -> str:
    from fang_postgres.names import HEAD

    if after is not None and after > HEAD:
        return f"are at revision {after}; this version, made for {HEAD}, may use them"
    if before == after:
        return f"are up to date (revision {after})"
    if before is None:
        return f"have been made (revision {after})"
    return f"have been changed from revision {before} to {after}"
