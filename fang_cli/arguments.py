"""Reads what people write as arguments of the command: times, spans, zones and sizes.

Everything raises ``UsageError``, in one line.
"""

import getpass
import re
import socket
from datetime import datetime, timedelta, tzinfo
from typing import overload

import click

from fang_core.config import check_period
from fang_core.errors import UsageError
from fang_core.schedules.schedule import zone_of
from fang_core.words.spans import length_of


def span(ctx: click.Context, option: click.Parameter, value: str | None) -> timedelta | None:
    """Returns an option's length of time, as in 90s, 15m, 6h, 2d or 1w; a bare number counts seconds."""
    if value is None:
        return None
    length = length_of(f"{value.rstrip()}s" if value.rstrip()[-1:].isdigit() else value)
    if length is None:
        raise UsageError(f"{option.opts[0]} must be a span of time such as 90s, 15m, 6h or 2d, not {value!r:.40}")
    return length


def seconds(ctx: click.Context, option: click.Parameter, value: str) -> float:
    """Returns an option's number of seconds. Raises ``UsageError``, also for ``nan`` and ``inf``, which are floats."""
    name = option.opts[0]
    try:
        period = timedelta(seconds=float(value))
    except (ValueError, OverflowError):
        raise UsageError(f"{name} must be a number of seconds, not {value}") from None
    check_period(name, period)
    return period.total_seconds()


def size(ctx: click.Context, option: click.Parameter, value: str | None) -> int | None:
    """Returns an option's number of bytes: ``500M`` is that of 500 MiB."""
    return None if value is None else size_of(option.opts[0], value)


def size_of(name: str, value: str) -> int:
    """Returns the number of bytes in a text such as ``500M``."""
    found = re.fullmatch(r"([0-9]{1,18})([KMG]?)(?:i?B)?", value.strip(), re.IGNORECASE | re.ASCII)
    if found is None or int(found[1]) == 0:
        raise UsageError(f"{name} must be a size such as 500M or 2G, not {value!r:.40}")
    return int(found[1]) << 10 * " KMG".index(found[2].upper() or " ")


def time(ctx: click.Context, option: click.Parameter, value: str | None) -> datetime | None:
    """Returns an option's time, with a zone if an offset is written."""
    if value is None:
        return None
    try:
        return datetime.fromisoformat(value.strip())
    except ValueError:
        raise UsageError(f"{option.opts[0]} must be a time such as 2026-12-24T18:00+01:00, not {value!r:.40}") from None


def zone(ctx: click.Context, option: click.Parameter, value: str | None) -> tzinfo | None:
    """Returns an option's zone, by its name."""
    return None if value is None else zone_of(value)


@overload
def in_zone(name: str, moment: datetime, tz: tzinfo | None) -> datetime: ...
@overload
def in_zone(name: str, moment: datetime | None, tz: tzinfo | None) -> datetime | None: ...
def in_zone(name: str, moment: datetime | None, tz: tzinfo | None) -> datetime | None:
    """Returns the time in this zone, if it was written without one."""
    if moment is None or moment.tzinfo is not None:
        return moment
    if tz is None:
        raise UsageError(f"{name} has no zone: add --tz Europe/Berlin, say, or an offset: {moment.isoformat()}+00:00")
    return moment.replace(tzinfo=tz)


def pair(name: str, value: str) -> tuple[str, str]:
    """Returns a key and its text, as in ``trace=7f3a``."""
    key, equals, text = value.partition("=")
    if not key or not equals:
        raise UsageError(f"{name} must be a key and a text, as in trace=7f3a, not {value!r:.40}")
    return key, text


def end_of_pause(lasts: timedelta | None, until: datetime | None, tz: tzinfo | None) -> datetime | timedelta | None:
    """Returns until when a pause lasts; None until it is ended. Whether it has passed is for the database's clock."""
    if lasts is not None and until is not None:
        raise UsageError("give --for or --until, not both")
    if lasts is not None:
        from fang_core.tasks.arguments import checked_span

        return checked_span("--for", lasts)
    return in_zone("--until", until, tz)


def whoami() -> str:
    """Returns who runs the command, and on which machine."""
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (OSError, KeyError, ImportError):  # a container may have no user of that number
        return socket.gethostname()
