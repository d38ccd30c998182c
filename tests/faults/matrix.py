"""All faults that there are: importing their modules registers them."""

from tests.faults import (
    database,
    defaults,
    failover,
    hangs,
    kills,
    misdeeds,
    network,
    poison,
    poolers,
    races,
    replies,
    servers,
    stops,
)
from tests.faults.registry import FAULTS

MODULES = (
    database,
    defaults,
    failover,
    hangs,
    kills,
    misdeeds,
    network,
    poison,
    poolers,
    races,
    replies,
    servers,
    stops,
)
MATRIX = sorted(FAULTS.values(), key=lambda fault: (fault.is_late, fault.id))
"""In the order in which they are tried."""
