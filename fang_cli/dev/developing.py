"""Runs ``fang dev``: starts the parts one after the other, has the supervisor of the worker wait, and ends them."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import click

from fang_cli.dev.page_process import PageProcess
from fang_cli.supervisor.process_group import Limits
from fang_cli.supervisor.reloading import Reloading, directories_of
from fang_cli.supervisor.supervisor import run_supervisor
from fang_cli.web.listening import address, listen
from fang_core.errors import FangError
from fang_embedded import EmbeddedPostgres, EmbeddedPostgresError

VARIABLES: Final = ("FANG_DATABASE_URL", "DATABASE_URL")
"""Where the application finds the database."""


def run_dev(
    pools: Sequence[str], *, app: Sequence[str], schema: str, port: int, data: Path | None, file: Path | None
) -> int:
    """Runs everything until SIGTERM or SIGINT; returns the exit code. Leaves no process.

    Raises ``UsageError`` if it cannot listen on the port, and ``FangError`` if the database does not start.
    """
    with ExitStack() as stack:
        listener = stack.enter_context(listen("127.0.0.1", port))
        if file is None:
            url, where = _postgres(stack, schema, data)
        else:
            url, where = _sqlite(file, schema), "it stays"
        for variable in VARIABLES:  # of the processes that are started from here on
            os.environ[variable] = url
        click.echo(f"page      {address(listener)}/")
        click.echo(f"database  {url} ({where})")
        click.echo(f"pools     {', '.join(pools)}")
        modules = dict.fromkeys((*app, *(pool.partition(":")[0] for pool in pools)))
        page = PageProcess(listener, url, schema, [*modules])
        stack.callback(page.stop)
        return run_supervisor(
            [*pools, "--wait-for-database", "30"],
            1,
            Limits(),
            None,
            reloading=Reloading(directories_of(pools)),
            on_start=page.start,
            on_reload=page.restart,
        )


def _sqlite(file: Path, schema: str) -> str:
    """Makes the file, unless it is there, and returns its URL."""
    from fang_backends.queues import queue_of

    url = f"sqlite:///{file.absolute()}"
    with queue_of(url, name=schema):
        return url


def _postgres(stack: ExitStack, schema: str, data: Path | None) -> tuple[str, str]:
    """Starts a Postgres with the tables; returns its URL, and what becomes of it."""
    postgres = EmbeddedPostgres(directory=data, durable=data is not None)
    stack.callback(postgres.stop)
    _start_with_tables(postgres, schema)
    if data is None:
        return postgres.url, "gone at the end"
    (data / ".gitignore").write_text("*\n", "utf-8")
    return postgres.url, f"kept in {data}"


def _start_with_tables(postgres: EmbeddedPostgres, schema: str) -> None:
    with ThreadPoolExecutor(1) as thread:
        starting = thread.submit(postgres.start)
        from fang_postgres import migrate  # takes as long as the server
    try:
        starting.result()
    except EmbeddedPostgresError as error:
        raise FangError(str(error)) from error
    migrate.upgrade(postgres.url, schema=schema)
    migrate.check(postgres.url, schema=schema)
