"""Defines ``fang schedules``: the schedules in the database, listed and changed by hand."""

from collections.abc import Sequence
from datetime import datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Any, Final

import click

from fang_cli import arguments, payloads
from fang_cli.group import Group
from fang_cli.managing import schedule_arguments
from fang_cli.options import DATABASE, JSON, MASK, PAUSE, SAID, options, queue_at
from fang_cli.settings import chosen_masks
from fang_core.errors import UsageError

if TYPE_CHECKING:
    from fang_backends.queues import OwnQueue
    from fang_core.schedules.stored import ScheduleInfo

_OVERLAPS: Final = ("allow", "skip", "queue_one", "cancel_running")
_MISSED: Final = ("skip", "latest", "all")


_IMPORT: Final = click.option(
    "--import", "modules", multiple=True, metavar="MODULE", help="Has the class, if the schedule is of one: app.tasks."
)


@click.group(cls=Group)
def schedules() -> None:
    """Show and change the schedules in the database.

    Times are like 2026-12-24T18:00, in the zone of --tz, or with an offset of their own: 2026-12-24T18:00+01:00. Spans
    are like 90s, 15m, 6h or 2d.
    """


@schedules.command("list")
@options(MASK, JSON, *DATABASE)
def list_(*, mask: tuple[str, ...], as_json: bool, schema: str | None, database_url: str | None) -> None:
    """Show all schedules in the order of their next ticks.

    The next five ticks are shown in the schedule's zone, with a mark where daylight saving moves, drops or doubles one.
    """
    from fang_cli.managing import showing_schedules as showing

    words = chosen_masks(mask)
    with queue_at(database_url, schema) as queue:
        found = queue.schedules.list()
        click.echo(showing.as_json(found, words) if as_json else _told(queue, found, words))


@schedules.command()
@click.argument("name")
@click.argument("task", metavar="[MODULE:CLASS]", required=False)
@click.option("--args", "fields", metavar="JSON", help="""The task's fields, as in '{"day": "today"}'.""")
@click.option("--cron", metavar="PATTERN", help="""When it is due: a pattern such as "30 2 * * MON-FRI".""")
@click.option("--every", metavar="SPAN", callback=arguments.span, help="Due again and again after this time.")
@click.option("--at", metavar="TIME", callback=arguments.time, help="Due once, at this time.")
@click.option(
    "--tz",
    metavar="ZONE",
    callback=arguments.zone,
    help="The zone of the pattern, UTC unless given, and of times without an offset.",
)
@click.option(
    "--overlap",
    type=click.Choice(_OVERLAPS),
    help="What a tick does if the task of the last tick waits or runs; allow unless given.",
)
@click.option(
    "--missed",
    type=click.Choice(_MISSED),
    help="What happens with ticks that no pool made in time; latest unless given.",
)
@click.option(
    "--missed-within",
    metavar="SPAN",
    callback=arguments.span,
    help="How late a tick may be: 60s with skip, 1d with all.",
)
@click.option("--jitter", metavar="SPAN", callback=arguments.span, help="Each task is due up to this much later.")
@click.option("--until", metavar="TIME", callback=arguments.time, help="No tick comes after this time.")
@click.option(
    "--pause-on-failure/--no-pause-on-failure",
    default=None,
    help="Pause instead of ticking if the task of the last tick has failed.",
)
@click.option("--task-type", metavar="TYPE", help="Decides which pools make the ticks and run the tasks.")
@click.option("--priority", type=click.IntRange(-2, 2), help="-2 (first) to 2 (last).")
@click.option(
    "--max-retries", type=click.IntRange(min=0), metavar="N", help="How often a failure leads to another run."
)
@click.option("--uniq/--no-uniq", default=None, help="Whether a task is left out while an equal one waits or runs.")
@click.option("--timeout", metavar="SPAN", callback=arguments.span, help="How long each run may take.")
@click.option("--expires", metavar="SPAN", callback=arguments.span, help="How long a task may wait for its run.")
@options(*SAID, *DATABASE)
def put(
    *,
    name: str,
    task: str | None,
    fields: str | None,
    schema: str | None,
    database_url: str | None,
    **given: Any,
) -> None:
    """Store a schedule, or change the one of this name.

    Every tick inserts a task of the class, as in app.tasks:Report, with the fields of --args. Give one of --cron,
    --every and --at. If a class has a schedule of this name, this one takes its place until it is removed.

    Without a class, the schedule of this name is changed: it keeps its task, and every option that is not given.
    """
    from fang_cli.targets import find_task_class

    times = sum(given[name] is not None for name in ("cron", "every", "at"))
    if times > 1 or (times == 0 and task is not None):
        raise UsageError("give one of --cron, --every and --at")
    words = chosen_masks()
    given["by"] = given["by"] or arguments.whoami()
    made = None if task is None else payloads.task_of(find_task_class(task), fields or "{}", "--args")
    with queue_at(database_url, schema) as queue:
        if made is None:
            former = schedule_arguments.named(queue.schedules.list(), name)
            policy = schedule_arguments.changed(former, fields=fields, **given)
            queue.schedules.put(name, former, **policy)
        else:
            queue.schedules.put(name, made, **schedule_arguments.given_alone(**given))
        click.echo(_told(queue, [info for info in queue.schedules.list() if info.name == name], words))


@schedules.command()
@click.argument("name")
@options(*PAUSE, *SAID, *DATABASE)
def pause(
    *,
    name: str,
    lasts: timedelta | None,
    until: datetime | None,
    tz: tzinfo | None,
    by: str | None,
    reason: str | None,
    schema: str | None,
    database_url: str | None,
) -> None:
    """Make no ticks of a schedule until it is resumed. Tasks that were already inserted run."""
    from fang_cli.managing import showing_schedules as showing

    end = arguments.end_of_pause(lasts, until, tz)
    with queue_at(database_url, schema) as queue:
        info = queue.schedules.pause(name, until=end, reason=reason, by=by or arguments.whoami())
    click.echo(showing.of_pause(info))


@schedules.command()
@click.argument("name")
@options(*SAID, *DATABASE)
def resume(*, name: str, by: str | None, reason: str | None, schema: str | None, database_url: str | None) -> None:
    """End the pause of a schedule; ticks that fell into it are not made up for."""
    words = chosen_masks()
    with queue_at(database_url, schema) as queue:
        queue.schedules.resume(name, reason=reason, by=by or arguments.whoami())
        click.echo(_told(queue, [info for info in queue.schedules.list() if info.name == name], words))


@schedules.command("run")
@click.argument("name")
@_IMPORT
@options(*DATABASE)
def run_now(*, name: str, modules: tuple[str, ...], schema: str | None, database_url: str | None) -> None:
    """Insert a task of a schedule that is due now; its ticks are not affected."""
    from fang_cli.targets import import_modules

    import_modules(modules)
    with queue_at(database_url, schema) as queue:
        task = queue.schedules.run_now(name)
    click.echo(f"task {task.id} {'is there already' if task.conflict else 'has been inserted'}")


@schedules.command()
@click.argument("name")
@options(*DATABASE)
def remove(*, name: str, schema: str | None, database_url: str | None) -> None:
    """Remove a schedule; if a class has one of this name, that one ticks again. Its tasks stay."""
    from fang_core.backends.scheduling import unknown_schedule

    with queue_at(database_url, schema) as queue:
        known = {info.name: info for info in queue.schedules.list()}
        if not queue.schedules.remove(name):
            raise unknown_schedule(name, known)
    click.echo(f"schedule {name} has been removed")
    if name in known and known[name].declared is not None:
        click.echo("its class has a schedule of this name, which ticks as long as pools have the class")


@schedules.command()
@click.argument("name")
@click.option("--from", "start", required=True, metavar="TIME", callback=arguments.time, help="The first time.")
@click.option("--to", "end", required=True, metavar="TIME", callback=arguments.time, help="The last time.")
@click.option("--tz", metavar="ZONE", callback=arguments.zone, help="The zone of these times, like Europe/Berlin.")
@click.option(
    "--overlap",
    type=click.Choice(_OVERLAPS),
    default="allow",
    show_default=True,
    help="With allow there is a task for each tick; with the others at most one, for the latest.",
)
@_IMPORT
@options(*DATABASE)
def backfill(
    *,
    name: str,
    start: datetime,
    end: datetime,
    tz: tzinfo | None,
    overlap: Any,
    modules: tuple[str, ...],
    schema: str | None,
    database_url: str | None,
) -> None:
    """Insert the tasks of the ticks between two past times, unless they exist already."""
    from fang_cli.targets import import_modules

    import_modules(modules)
    first, last = arguments.in_zone("--from", start, tz), arguments.in_zone("--to", end, tz)
    with queue_at(database_url, schema) as queue:
        count = queue.schedules.backfill(name, first, last, overlap=overlap)
    click.echo(f"{count} {'task has' if count == 1 else 'tasks have'} been inserted")


def _told(queue: "OwnQueue", infos: "Sequence[ScheduleInfo]", words: frozenset[str]) -> str:
    """Returns schedules as people read them, and which of them no pool serves."""
    from fang_cli.managing import showing_schedules as showing

    return showing.as_text(infos, words, queue.pools() if infos else ())
