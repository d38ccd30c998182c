"""All faults that there are: importing their modules registers them."""

from tests.faults import kills
from tests.faults.registry import FAULTS

__all__ = ["FAULTS", "kills"]
