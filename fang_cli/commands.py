"""Defines the command ``fang``: which commands it has, and what its help says of settings and exit codes.

A command is imported when it is asked for, so that ``fang --help`` and a wrong word are answered at once.
"""

from typing import Final

import click

from fang_cli.exit_codes import MEANINGS
from fang_cli.group import Later, LazyGroup

_COMMANDS: Final = {
    "migrate": Later("fang_cli.migrating:migrate", "Make or change the tables."),
    "dev": Later(
        "fang_cli.dev.command:dev",
        "Run pools with a Postgres of their own and the page, and reload changed code, until Ctrl-C.",
    ),
    "worker": Later("fang_cli.worker.command:worker", "Run pools, as in app.tasks:pool, until SIGTERM or Ctrl-C."),
    "status": Later(
        "fang_cli.watching.commands:status",
        "Show which tasks wait, run, hang and fail, and which pools live.",
        is_brief=True,
    ),
    "top": Later(
        "fang_cli.watching.top:top",
        "Show live which task types have tasks, which kinds take most time, and what runs now. q or Ctrl-C ends it.",
    ),
    "why": Later(
        "fang_cli.watching.why:why",
        "Say why a task is not running, or that it runs, and what would change that.",
        is_brief=True,
    ),
    "pools": Later(
        "fang_cli.watching.pools:pools",
        "Show the pools, how busy they are, and which runs hang or have taken longest.",
        is_brief=True,
    ),
    "tasks": Later("fang_cli.tasks.commands:tasks", "List, show and change tasks."),
    "insert": Later("fang_cli.inserting:insert", "Insert a task of a kind, with the fields in a JSON object."),
    "move": Later("fang_cli.moving:move", "Move the waiting tasks from one queue to another, of any backend."),
    "doctor": Later(
        "fang_cli.watching.doctor:doctor",
        "Say what is wrong with the database, the pools and the tasks, and which command fixes it.",
        is_brief=True,
    ),
    "healthcheck": Later(
        "fang_cli.watching.healthcheck:healthcheck",
        "Ask a running worker whether it is ready, or lives.",
        is_brief=True,
    ),
    "queues": Later("fang_cli.managing.types:queues", "Show the task types, and pause them.", is_brief=True),
    "limits": Later(
        "fang_cli.managing.types:limits",
        "Show and change how many tasks of a type run at once, and how fast they start.",
        is_brief=True,
    ),
    "schedules": Later(
        "fang_cli.managing.schedules:schedules", "Show and change the schedules in the database.", is_brief=True
    ),
    "web": Later("fang_cli.web.command:web", "Show the page, until SIGTERM or Ctrl-C."),
    "demo": Later(
        "fang_cli.demo.command:demo",
        "Run both modes on real input, on a Postgres of its own, and show the page meanwhile.",
    ),
}
_SETTINGS: Final = """
What options do not say is read from the environment (FANG_DATABASE_URL, FANG_SCHEMA, FANG_APP, FANG_POOLS and others),
and then from [tool.fang] in the nearest pyproject.toml upwards that has this table: database_url, schema, app, pools.
"""


class _Fang(LazyGroup):
    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Settings"):
            formatter.write_text(_SETTINGS)
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(code), meaning.replace("`", "")) for code, meaning in MEANINGS.items()])


@click.group(cls=_Fang, later=_COMMANDS)
@click.version_option(package_name="fang-tasks", prog_name="fang")
def fang() -> None:
    """Background tasks on Postgres, in a SQLite file, or on Redis."""
