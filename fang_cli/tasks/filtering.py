"""Has the options that say which tasks a command is about, and makes a filter of them, and of a filter the options."""

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import click

from fang_cli import arguments
from fang_cli.fields import value_of, with_fields
from fang_core.errors import UsageError
from fang_core.record import TaskState
from fang_core.tasks.selecting.filter import TaskFilter


def _when(ctx: click.Context, option: click.Parameter, value: str | None) -> datetime | None:
    """Returns an option's time, which may be written as so long ago."""
    if value is None:
        return None
    if value[:1].isdigit() and "-" not in value:
        ago = arguments.span(ctx, option, value)
        assert ago is not None
        return datetime.now(UTC) - ago
    return arguments.in_zone(option.opts[0], arguments.time(ctx, option, value), None)


def _ids(ctx: click.Context, option: click.Parameter, values: Sequence[str]) -> tuple[UUID, ...]:
    return tuple(checked_uuid(option.opts[0] if isinstance(option, click.Option) else "ID", each) for each in values)


def checked_uuid(name: str, value: str) -> UUID:
    """Returns the id that is written. Raises ``UsageError``."""
    try:
        return UUID(value)
    except ValueError:
        raise UsageError(
            f"{name} must be an id such as 0199f3a2-7c1e-7d10-8a4b-2f6d9b1c0e55, not {value!r:.40}"
        ) from None


FILTER: Final = (
    click.option("--type", "task_types", metavar="TYPE", multiple=True, help="Of this task type; may be given again."),
    click.option("--kind", "kinds", metavar="KIND", multiple=True, help="Of this kind; may be given again."),
    click.option(
        "--state",
        "states",
        type=click.Choice([state.value for state in TaskState]),
        multiple=True,
        help="In this state; may be given again.",
    ),
    click.option("--id", "ids", metavar="ID", multiple=True, callback=_ids, help="With this id; may be given again."),
    click.option("--header", "headers", metavar="KEY=TEXT", multiple=True, help="With this header."),
    click.option(
        "--payload",
        metavar="FIELD=VALUE",
        multiple=True,
        help="With this value in its payload: order.id=7, say. A value is JSON, or else a text.",
    ),
    click.option("--error", metavar="TEXT", help="With this text, of 3 characters at least, in its error message."),
    click.option(
        "--older-than", "inserted_before", metavar="SPAN|TIME", callback=_when, help="Inserted longer ago: 2h, say."
    ),
    click.option(
        "--newer-than", "inserted_after", metavar="SPAN|TIME", callback=_when, help="Inserted since then: 2h ago, say."
    ),
    click.option(
        "--unchanged-for",
        "updated_before",
        metavar="SPAN|TIME",
        callback=_when,
        help="Not changed since then; of ended tasks: ended longer ago.",
    ),
    click.option(
        "--changed-within",
        "updated_after",
        metavar="SPAN|TIME",
        callback=_when,
        help="Changed since then; of ended tasks: ended since then.",
    ),
    click.option("--pool", "pool_ids", metavar="ID", multiple=True, callback=_ids, help="Held by this pool."),
)
_NAMES: Final = {
    "task_types": "--type",
    "kinds": "--kind",
    "states": "--state",
    "ids": "--id",
    "headers": "--header",
    "payload": "--payload",
    "error": "--error",
    "inserted_before": "--older-than",
    "inserted_after": "--newer-than",
    "updated_before": "--unchanged-for",
    "updated_after": "--changed-within",
    "pool_ids": "--pool",
}
"""The option for each condition of a filter."""


def filter_of(*, headers: Sequence[str], payload: Sequence[str], **given: Any) -> TaskFilter:
    """Returns the filter that the options say. Raises ``UsageError``."""
    conditions: dict[str, Any] = {name: value for name, value in given.items() if value not in (None, ())}
    if headers:
        conditions["headers"] = dict(arguments.pair("--header", each) for each in headers)
    if payload:
        conditions["payload"] = with_fields({}, "--payload", payload)
    return TaskFilter(**conditions)


def told(which: TaskFilter) -> str:
    """Returns the options that make this filter, as a shell reads them."""
    return shlex.join(_options(which))


def _options(which: TaskFilter) -> Iterator[str]:
    for name, option in _NAMES.items():
        value = getattr(which, name)
        if value is None:
            continue
        for text in _texts(value):
            yield option
            yield text


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, datetime):
        yield value.isoformat()
    elif isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield f"{key}={each if isinstance(each, str) and value_of(each) == each else json.dumps(each)}"
    else:
        yield from map(str, value)
