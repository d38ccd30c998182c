"""Has the options that several commands take, and makes the queue that they work on."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from fang_backends.urls import FORMS
from fang_cli import arguments
from fang_cli.settings import chosen_database, chosen_schema

if TYPE_CHECKING:
    from fang_backends.queues import OwnQueue

F = TypeVar("F", bound=Callable[..., Any])

JSON: Final = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON for programs: stable keys, ISO times, spans in seconds."
)
SAID: Final = (
    click.option("--reason", metavar="WHY", help="Why; kept, and shown in lists."),
    click.option("--by", metavar="WHO", help="Who makes this change; by default your user and host."),
)
PAUSE: Final = (
    click.option("--for", "lasts", metavar="SPAN", callback=arguments.span, help="How long: 90s, 15m, 6h or 2d."),
    click.option(
        "--until", metavar="TIME", callback=arguments.time, help="Until when: 2026-12-24T18:00+01:00, or with --tz."
    ),
    click.option("--tz", metavar="ZONE", callback=arguments.zone, help="The zone of --until, like Europe/Berlin."),
)
APP: Final = click.option(
    "--app", metavar="MODULE", multiple=True, help="Defines the task classes, as app.tasks; else the setting app."
)
MASK: Final = click.option(
    "--mask",
    metavar="FIELD",
    multiple=True,
    help="Hide payload fields with this in their names, in addition to those that are always hidden.",
)
DATABASE: Final = (
    click.option(
        "--schema",
        metavar="NAME",
        help="The Postgres schema of the tables, or the queue's name on Redis: by default the setting, or fang.",
    ),
    click.option("--database-url", metavar="URL", help=f"{FORMS}; else the setting."),
)


def options(*each: Callable[[Any], Any]) -> Callable[[F], F]:
    """Gives a command several options, in the order in which its help names them."""

    def decorate(function: F) -> F:
        for option in reversed(each):
            function = option(function)
        return function

    return decorate


def queue_at(database_url: str | None, schema: str | None) -> "OwnQueue":
    """Returns a queue with one connection. Raises ``UsageError`` if no database is given."""
    from fang_backends.queues import queue_of

    return queue_of(chosen_database(database_url), name=chosen_schema(schema), max_pool_size=1)
