"""What is seen of a pool by one who looks on."""

from enum import StrEnum


class Life(StrEnum):
    """What was seen of a pool."""

    ALIVE = "alive"
    """It has beaten just now."""
    SILENT = "silent"
    """It has not beaten for more than two seconds, and nothing proves that its process has ended."""
    DEAD = "dead"
    """A watcher would take it for dead."""
