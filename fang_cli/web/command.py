"""Defines ``fang web``."""

import click

from fang_cli.options import APP, DATABASE, MASK, options
from fang_cli.settings import chosen_database, chosen_schema
from fang_core.errors import UsageError


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, metavar="HOST", help="The address it listens on.")
@click.option(
    "--port", default=8765, show_default=True, metavar="PORT", type=click.IntRange(0, 65_535), help="0 for a free one."
)
@click.option(
    "--auth",
    "users",
    metavar="NAME:VARIABLE[:ROLE]",
    multiple=True,
    help="Let in a user with this name, and the password in this environment variable, as a viewer, operator or "
    "admin (the default). Repeat it for each user.",
)
@click.option("--open-on-loopback", is_flag=True, help="Let in every user of this machine, and no one else, instead.")
@click.option("--read-only", is_flag=True, help="Allow no changes.")
@click.option("--origin", metavar="URL", help="The page as browsers see it, behind a proxy: https://tasks.example.com")
@click.option("--root-path", default="", metavar="PATH", help="The path at which a proxy shows the page: /tasks.")
@options(MASK, APP, *DATABASE)
def web(
    *,
    host: str,
    port: int,
    users: tuple[str, ...],
    open_on_loopback: bool,
    read_only: bool,
    mask: tuple[str, ...],
    origin: str | None,
    root_path: str,
    app: tuple[str, ...],
    schema: str | None,
    database_url: str | None,
) -> None:
    """Show the page, until SIGTERM or Ctrl-C.

    Say who may see it: with --auth, or with --open-on-loopback. It knows the task classes of --app, whose tasks can be
    edited and inserted in forms. It speaks HTTP: let a proxy add TLS where it is reached from other machines.
    """
    if bool(users) == open_on_loopback:
        raise UsageError("say who may see the page: --auth NAME:VARIABLE, or --open-on-loopback")
    from fang_cli.web import serving

    auth = serving.auth_of(users, host)
    settings = serving.settings_of(auth, read_only=read_only, masked=mask, origin=origin)
    serving.import_classes(app)
    serving.run(
        chosen_database(database_url),
        settings,
        schema=chosen_schema(schema),
        host=host,
        port=port,
        root_path=root_path,
    )
