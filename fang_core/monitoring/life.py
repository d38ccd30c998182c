"""Defines what an observer sees of a pool."""

from enum import StrEnum


class Life(StrEnum):
    """Says what an observer has seen of a pool."""

    ALIVE = "alive"
    """It has beaten just now, or was heard of within half a minute."""
    SILENT = "silent"
    """It does not beat and was not heard of for half a minute, and nothing proves that its process has ended."""
    DEAD = "dead"
    """A watcher would take it for dead."""
