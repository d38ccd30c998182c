"""Writes times, spans and lines for people. This module imports nothing that takes time."""

from datetime import datetime, timedelta


def time_of(value: datetime | None) -> str:
    """Returns a time as people here read it."""
    return "" if value is None else value.astimezone().isoformat(sep=" ", timespec="seconds")


def seconds_of(age: timedelta) -> str:
    """Returns an age in whole seconds."""
    return str(timedelta(seconds=int(age.total_seconds())))


def printable(line: str) -> str:
    """Returns a line without terminal codes, since any client may have written what it shows."""
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in line)
