"""Runs ``fang dev``: has the parts start one after the other, and the supervisor of the worker wait; ends them."""

import os
import socket
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import click

from fang_cli.dev.page_process import PageProcess
from fang_cli.dev.starting import StartingPostgres, arguments
from fang_cli.settings import URL_VARIABLE, settings
from fang_cli.supervisor.process_group import Limits
from fang_cli.supervisor.reloading import Reloading, directories_of
from fang_cli.supervisor.standby import Standby
from fang_cli.supervisor.supervisor import run_supervisor
from fang_cli.web.listening import address

VARIABLES: Final = (URL_VARIABLE, "DATABASE_URL")
"""Where the application finds the database."""


def run_dev(
    pools: Sequence[str],
    listener: socket.socket,
    postgres: StartingPostgres | None,
    standby: Standby,
    *,
    data: Path | None,
    file: Path | None,
) -> int:
    """Runs everything until SIGTERM or SIGINT; returns the exit code. Leaves no process but the Postgres.

    Raises ``FangError`` if the database does not start.
    """
    chosen = settings()
    schema = chosen.schema
    if postgres is None:
        assert file is not None
        url, where = _sqlite(file, schema), "it stays"
    else:
        url, where = _with_tables(postgres, schema, data)
    for variable in VARIABLES:  # of the processes that are started from here on
        os.environ[variable] = url
    click.echo(f"page      {address(listener)}/")
    click.echo(f"database  {url} ({where})")
    click.echo(f"pools     {', '.join(pools)}")
    modules = dict.fromkeys((*chosen.app, *(pool.partition(":")[0] for pool in pools)))
    page = PageProcess(listener, url, schema, [*modules])
    with ExitStack() as stack:
        stack.callback(page.stop)
        return run_supervisor(
            arguments(pools),
            1,
            Limits(),
            None,
            reloading=Reloading(directories_of(pools)),
            standby=standby,
            on_settled=page.start,  # not before: it would take the processor from the worker
            on_reload=page.restart,
        )


def _sqlite(file: Path, schema: str) -> str:
    """Makes the file, unless it is there, and returns its URL."""
    from fang_backends.queues import queue_of

    url = f"sqlite:///{file.absolute()}"
    with queue_of(url, name=schema):
        return url


def _with_tables(postgres: StartingPostgres, schema: str, data: Path | None) -> tuple[str, str]:
    """Makes the tables once the server has started; returns its URL, and what becomes of it."""
    from fang_postgres import migrate  # before the server is waited for: it takes as long

    url = postgres.url()
    migrate.upgrade(url, schema=schema)
    migrate.check(url, schema=schema)
    if data is None:
        return url, "gone at the end"
    (data / ".gitignore").write_text("*\n", "utf-8")
    return url, f"kept in {data}"
