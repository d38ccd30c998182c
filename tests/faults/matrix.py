"""All faults that there are: importing their modules registers them."""

from tests.faults import database, defaults, hangs, kills, misdeeds, poison, races, replies, stops
from tests.faults.registry import FAULTS

MODULES = (database, defaults, hangs, kills, misdeeds, poison, races, replies, stops)
MATRIX = sorted(FAULTS.values(), key=lambda fault: (fault.is_late, fault.id))
"""In the order in which they are tried."""
