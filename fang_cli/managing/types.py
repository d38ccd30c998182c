"""Defines ``fang queues`` and ``fang limits``: task types, paused and limited by hand."""

from collections.abc import Iterable
from datetime import datetime, timedelta, tzinfo
from typing import TYPE_CHECKING

import click

from fang_cli import arguments
from fang_cli.group import Group
from fang_cli.managing import limit_arguments
from fang_cli.options import DATABASE, JSON, MASK, PAUSE, SAID, options, queue_at
from fang_cli.settings import chosen_database, chosen_masks, chosen_schema
from fang_core.errors import UsageError

if TYPE_CHECKING:
    from fang_core.flow.info import TypeInfo
    from fang_core.flow.limits import FlowRule
    from fang_core.record import PoolInfo

# Queues ---------------------------------------------------------------------------------------------------------------


@click.group(cls=Group)
def queues() -> None:
    """Show the task types, and pause them."""


@queues.command("list")
@options(JSON, *DATABASE)
def list_queues(*, as_json: bool, schema: str | None, database_url: str | None) -> None:
    """Show the task types that have tasks, are served by pools, or are paused or limited.

    For each type: how many tasks wait and run, how long the oldest due one has waited, and which pools serve it. Pools
    that stop, or have been silent for half a minute, do not count.
    """
    from fang_cli.managing import showing_types
    from fang_cli.managing.reading_types import read_queues

    found = read_queues(chosen_database(database_url), chosen_schema(schema))
    if as_json:
        click.echo(showing_types.queues_as_json(found))
    else:
        showing_types.show_queues(found)


@queues.command("pause")
@click.argument("task_type")
@options(*PAUSE, *SAID, *DATABASE)
def pause_queue(
    *,
    task_type: str,
    lasts: timedelta | None,
    until: datetime | None,
    tz: tzinfo | None,
    reason: str | None,
    by: str | None,
    schema: str | None,
    database_url: str | None,
) -> None:
    """Start no task of a type until it is resumed.

    Current runs are not stopped. Tasks can still be inserted, and wait.
    """
    from fang_cli.managing import showing_types
    from fang_core.words.texts import printable

    end = arguments.end_of_pause(lasts, until, tz)
    with queue_at(database_url, schema) as queue:
        info = queue.pause(task_type, until=end, reason=reason, by=by or arguments.whoami())
        is_known = _is_known(task_type, info, queue.pools())
    click.echo(printable(f"{task_type} is paused {showing_types.told_pause(info)}"))
    click.echo(showing_types.told_tasks(info))
    if not is_known:
        _tell_unknown(task_type, database_url, schema)


@queues.command("resume")
@click.argument("task_type")
@options(*DATABASE)
def resume_queue(*, task_type: str, schema: str | None, database_url: str | None) -> None:
    """End the pause of a type: its pools look for its tasks at once."""
    from fang_cli.managing import showing_types
    from fang_core.words.texts import printable

    with queue_at(database_url, schema) as queue:
        info = queue.resume(task_type)
        is_known = _is_known(task_type, info, queue.pools())
    limits = "" if info is None else f", with its limits: {showing_types.told_settings(info.settings)}"
    click.echo(printable(f"{task_type} is not paused{limits}"))
    if not is_known:
        _tell_unknown(task_type, database_url, schema)


# Limits ---------------------------------------------------------------------------------------------------------------


@click.group(cls=Group)
def limits() -> None:
    """Show and change how many tasks of a type run at once, and how fast they start."""


@limits.command("list")
@options(MASK, JSON, *DATABASE)
def list_limits(*, mask: tuple[str, ...], as_json: bool, schema: str | None, database_url: str | None) -> None:
    """Show the paused and the limited task types: which limits hold, those in the code, and who set others, and why."""
    from fang_cli.managing import showing_types

    words = chosen_masks(mask)
    with queue_at(database_url, schema) as queue:
        found = showing_types.masked(queue.limits.list(), words)
    if as_json:
        click.echo(showing_types.types_as_json(found))
    else:
        showing_types.show_types(found)


@limits.command("set")
@click.argument("task_type")
@click.argument("n", type=click.IntRange(min=0), required=False)
@click.option("--each", metavar="KEY N", type=(str, click.IntRange(min=1)), help="N at once of each KEY.")
@click.option("--rate", metavar="RATE", help="How many start: 10/s, 100/min, 5/30s; 10/s,20 for 20 at first.")
@click.option("--rate-each", metavar="KEY RATE", type=(str, str), help="How many start of each KEY.")
@click.option("--fair", metavar="KEY", help="Each KEY takes its turn.")
@click.option("--weight", "weights", metavar="KEY=N", multiple=True, help="With --fair: N turns for this key.")
@click.option("--none", "nothing", is_flag=True, help="No limits, whatever the code says.")
@options(*SAID, *DATABASE)
def set_limits(
    *,
    task_type: str,
    n: int | None,
    each: tuple[str, int] | None,
    rate: str | None,
    rate_each: tuple[str, str] | None,
    fair: str | None,
    weights: tuple[str, ...],
    nothing: bool,
    reason: str | None,
    by: str | None,
    schema: str | None,
    database_url: str | None,
) -> None:
    """Let N tasks of a type run at once, in all pools together, instead of the limits in the code, until removed.

    This replaces all limits of the type: repeat the limit of each key, if it is to stay. KEY is the field by which the
    tasks' class makes their key, as in `limits set exports 5 --each tenant 2 --rate 10/s`.
    """
    from fang_cli.managing import showing_types
    from fang_core.flow.limits import checked_rules
    from fang_core.words.texts import printable

    rules = _rules(n=n, each=each, rate=rate, rate_each=rate_each, fair=fair, weights=weights)
    if rules and nothing:
        raise UsageError("--none means no limits: leave it out, or the other options")
    if not rules and not nothing:
        raise UsageError("say what is to hold: a number, --each, --rate, --rate-each or --fair; or --none")
    checked_rules(rules)
    words = chosen_masks()
    with queue_at(database_url, schema) as queue:
        info = queue.limits.set(task_type, rules, reason=reason, by=by or arguments.whoami())
        assert info is not None  # what was set is kept, even an empty list
        is_known = _is_known(task_type, info, queue.pools())
    (info,) = showing_types.masked([info], words)
    click.echo(printable(f"{task_type}: {showing_types.told_rules(info.changed or ())}"))
    for kind, declared in sorted(info.declared.items()):
        click.echo(printable(f"instead of what {kind} declares: {showing_types.told_rules(declared)}"))
    if not is_known:
        _tell_unknown(task_type, database_url, schema)


def _rules(
    *,
    n: int | None,
    each: tuple[str, int] | None,
    rate: str | None,
    rate_each: tuple[str, str] | None,
    fair: str | None,
    weights: tuple[str, ...],
) -> "list[FlowRule]":
    """Returns the rules that the arguments of ``set_limits`` ask for. Raises ``UsageError``."""
    from fang_core.flow.limits import Fair, Limit, Rate

    rules: list[FlowRule] = []
    if n is not None:
        rules.append(Limit(n))
    if each is not None:
        rules.append(Limit(each[1], by=limit_arguments.key(each[0])))
    if rate is not None:
        starts, per, burst = limit_arguments.rate("--rate", rate)
        rules.append(Rate(starts, per=per, burst=burst))
    if rate_each is not None:
        starts, per, burst = limit_arguments.rate("--rate-each", rate_each[1])
        rules.append(Rate(starts, per=per, burst=burst, by=limit_arguments.key(rate_each[0])))
    if fair is not None:
        rules.append(Fair(limit_arguments.key(fair), weights=dict(map(limit_arguments.weight, weights))))
    elif weights:
        raise UsageError("--weight needs --fair KEY")
    return rules


@limits.command("remove")
@click.argument("task_type")
@options(*DATABASE)
def remove_limits(*, task_type: str, schema: str | None, database_url: str | None) -> None:
    """Remove the limits that were set by hand: those in the code hold again."""
    from fang_cli.managing import showing_types
    from fang_core.words.texts import printable

    with queue_at(database_url, schema) as queue:
        info = queue.limits.remove(task_type)
        is_known = _is_known(task_type, info, queue.pools())
    holds = "no limits" if info is None else showing_types.told_settings(info.settings)
    click.echo(printable(f"{task_type}: {holds}, as the code says"))
    if not is_known:
        _tell_unknown(task_type, database_url, schema)


# Types that nothing has -----------------------------------------------------------------------------------------------


def _is_known(task_type: str, info: "TypeInfo | None", pools: "Iterable[PoolInfo]") -> bool:
    """Returns whether a task or a pool has the type, or a class declares its limits."""
    is_used = info is not None and bool(info.running or info.waiting or info.declared)
    return is_used or any(task_type in pool.task_types for pool in pools)


def _tell_unknown(task_type: str, database_url: str | None, schema: str | None) -> None:
    """Says that no pool serves the type, unless tasks have it, and which has a similar name: it may be mistyped."""
    from fang_cli.managing.reading_types import read_queues
    from fang_core.words.naming import meant
    from fang_core.words.texts import printable

    found = read_queues(chosen_database(database_url), chosen_schema(schema))
    used = [each.task_type for each in found if each.pools or each.waiting or each.running]
    if task_type in used:
        return
    near = meant(task_type, used)
    click.echo(printable(f"no pool serves this task type{near}: fang queues list shows which there are"))
