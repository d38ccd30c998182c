"""Writes times for people. This module imports nothing that takes time."""

from datetime import datetime


def time_of(value: datetime | None) -> str:
    """Returns a time as people here read it."""
    return "" if value is None else value.astimezone().isoformat(sep=" ", timespec="seconds")
