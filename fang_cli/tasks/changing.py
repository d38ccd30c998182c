"""Defines ``fang tasks retry``, ``cancel`` and ``remove``: for tasks by their ids, or for all that match."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple

import click

from fang_cli import arguments
from fang_cli.options import DATABASE, options, queue_at
from fang_cli.tasks import asking
from fang_cli.tasks.filtering import FILTER, checked_uuid, filter_of
from fang_core.errors import UsageError
from fang_core.record import TaskState
from fang_core.tasks.selecting.filter import TaskFilter

_BULK: Final = (
    *FILTER,
    click.option("--all", "all_tasks", is_flag=True, help="All tasks, if no other option selects some."),
    click.option("--yes", is_flag=True, help="Do not ask for confirmation; needed without a terminal."),
    click.option("--dry-run", is_flag=True, help="Only say how many there are."),
    click.option("--json", "as_json", is_flag=True, help="Print the numbers for programs; needs --yes or --dry-run."),
)


_ENDED_OR_RETRIED: Final = (TaskState.FAILED, TaskState.RETRIED, TaskState.FINISHED, TaskState.CANCELLED)


class Bulk(NamedTuple):
    """Says which change to make, and to which tasks.

    Attributes:
        verb, done: what it is called before and after it was done.
        which: the tasks.
        by_ids: whether their ids were written, so that no question is needed.
    """

    verb: str
    done: str
    which: TaskFilter
    by_ids: bool


def _bulk(
    verb: str,
    done: str,
    *,
    ids: Sequence[str],
    states: Sequence[TaskState] | None,
    all_tasks: bool,
    given: dict[str, Any],
) -> Bulk:
    """Returns what the options say; ``states`` are those of which tasks are taken if no option names one."""
    given["ids"] = (*given["ids"], *(checked_uuid("ID", each) for each in ids))
    which = filter_of(**given)
    if which.is_empty and not all_tasks:
        raise UsageError(f"say which tasks to {verb}: ids, an option such as --type or --state, or --all")
    if all_tasks and not which.is_empty:
        raise UsageError("--all stands alone: leave it out, or the other options")
    by_ids = bool(ids) and replace(which, ids=None).is_empty
    if states is not None and which.states is None:
        which = replace(which, states=states)
    elif which.is_empty:
        which = TaskFilter(all_tasks=True)
    return Bulk(verb, done, which, by_ids)


@click.command()
@click.argument("task_ids", metavar="[ID]...", nargs=-1)
@options(*_BULK)
@click.option("--by", metavar="WHO", help="Who makes this change; by default your user and host.")
@options(*DATABASE)
def retry(
    *,
    task_ids: tuple[str, ...],
    all_tasks: bool,
    yes: bool,
    dry_run: bool,
    as_json: bool,
    by: str | None,
    schema: str | None,
    database_url: str | None,
    **given: Any,
) -> None:
    """Run tasks again: reset ended ones to new, and make those that wait for a retry due now.

    Without --state or ids it takes those that failed for good and those that wait for a retry. A unique task is left
    alone while an equal one waits or runs.
    """
    states = _ENDED_OR_RETRIED if task_ids or given["ids"] else (TaskState.FAILED, TaskState.RETRIED)
    bulk = _bulk("retry", "retried", ids=task_ids, states=states, all_tasks=all_tasks, given=given)
    who = by or arguments.whoami()
    with queue_at(database_url, schema) as queue:

        def change(tell: Callable[[int], None]) -> int:
            return queue.retry_tasks(bulk.which, by=who, on_progress=tell)

        asking.run(queue, bulk, change, asking.Mode(yes, dry_run, as_json))


@click.command()
@click.argument("task_ids", metavar="[ID]...", nargs=-1)
@options(*_BULK)
@click.option("--reason", metavar="WHY", default="", help="Why; kept in their rows.")
@click.option("--by", metavar="WHO", help="Who makes this change; by default your user and host.")
@options(*DATABASE)
def cancel(
    *,
    task_ids: tuple[str, ...],
    all_tasks: bool,
    yes: bool,
    dry_run: bool,
    as_json: bool,
    reason: str,
    by: str | None,
    schema: str | None,
    database_url: str | None,
    **given: Any,
) -> None:
    """Cancel tasks that wait, and ask the pools of running ones to interrupt them."""
    states = (TaskState.NEW, TaskState.RETRIED, TaskState.IN_PROGRESS)
    bulk = _bulk("cancel", "cancelled, or asked to end", ids=task_ids, states=states, all_tasks=all_tasks, given=given)
    who = by or arguments.whoami()
    with queue_at(database_url, schema) as queue:

        def change(tell: Callable[[int], None]) -> int:
            return queue.cancel_tasks(bulk.which, reason, by=who, on_progress=tell)

        asking.run(queue, bulk, change, asking.Mode(yes, dry_run, as_json))


@click.command()
@click.argument("task_ids", metavar="[ID]...", nargs=-1)
@options(*_BULK, *DATABASE)
def remove(
    *,
    task_ids: tuple[str, ...],
    all_tasks: bool,
    yes: bool,
    dry_run: bool,
    as_json: bool,
    schema: str | None,
    database_url: str | None,
    **given: Any,
) -> None:
    """Remove tasks in any state; their runs lose them, and effects of these runs stay."""
    bulk = _bulk("remove", "removed", ids=task_ids, states=None, all_tasks=all_tasks, given=given)
    with queue_at(database_url, schema) as queue:

        def change(tell: Callable[[int], None]) -> int:
            return queue.remove_tasks(bulk.which, on_progress=tell)

        asking.run(queue, bulk, change, asking.Mode(yes, dry_run, as_json))
