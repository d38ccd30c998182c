"""Relates the backend's clock, by which tasks expire, to the monotonic clock of the pool. It is pure."""

from datetime import datetime, timedelta
from typing import Final, NamedTuple

from fang_core.lifecycle import Cancelled

EXPIRED: Final = Cancelled("expired")
"""The result of a task that its pool claimed too late, or could not begin in time."""


class ClaimTime(NamedTuple):
    """Holds the time of a claim: by the backend's clock, and when the claim began by the pool's monotonic clock.

    The backend has read its clock some time after the claim began. So a time that is computed from these two comes
    early rather than late: a task never begins after it has expired.
    """

    at: datetime
    began: float

    def has_passed(self, time: datetime) -> bool:
        """Returns whether the time lay back when the backend read its clock."""
        return time <= self.at

    def on_backend_clock(self, monotonic: float) -> datetime:
        """Returns a time of the monotonic clock by the backend's clock."""
        return self.at + timedelta(seconds=monotonic - self.began)

    def on_monotonic_clock(self, time: datetime) -> float:
        """Returns a time of the backend's clock in seconds of the monotonic clock."""
        return self.began + (time - self.at).total_seconds()
