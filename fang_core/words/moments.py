"""Says which times can be kept, by backends and in the arguments of a queue."""

from datetime import UTC, datetime
from typing import Final

from fang_core.errors import UsageError

EARLIEST: Final = datetime(1, 1, 3, tzinfo=UTC)
LATEST: Final = datetime(9999, 12, 29, tzinfo=UTC)
"""Times between these two can be held by a datetime in any zone; backends keep no other times."""


def check_range(name: str, moment: datetime) -> None:
    """Raises ``UsageError`` unless backends can keep this time, which has a zone."""
    try:
        is_good = EARLIEST <= moment.astimezone(UTC) <= LATEST  # drivers write it in UTC
    except OverflowError:
        is_good = False
    if not is_good:
        raise UsageError(f"{name} must lie between {EARLIEST.date()} and {LATEST.date()}")
