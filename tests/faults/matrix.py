"""All faults that there are: importing their modules registers them, in this order."""

from tests.faults import kills, stops, hangs, misdeeds, replies, races, defaults  # noqa: I001 - the order of the trials
from tests.faults.registry import FAULTS

__all__ = ["FAULTS", "defaults", "hangs", "kills", "misdeeds", "races", "replies", "stops"]
