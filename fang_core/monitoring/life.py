"""What is seen of a pool by one who looks on."""

from enum import StrEnum


class Life(StrEnum):
    """What was seen of a pool."""

    ALIVE = "alive"
    """It has beaten just now, or was heard of within half a minute."""
    SILENT = "silent"
    """It does not beat and was not heard of for half a minute, and nothing proves that its process has ended."""
    DEAD = "dead"
    """A watcher would take it for dead."""
