"""All faults that there are: importing their modules registers them."""

from importlib import import_module
from typing import Final

from tests.faults.registry import FAULTS

MODULES: Final = (
    *(
        "kills",
        "history",
        "poison",
        "innocents",
        "hangs",
        "limits",
        "control",
        "cancels",
        "flow",
        "clocks",
        "isolation",
        "supervisors",
        "misdeeds",
        "stops",
        "races",
        "schedules",
        "defaults",
    ),
    *("replies", "servers", "network", "failover", "poolers"),
    *(f"database.{name}" for name in ("connections", "settings", "room", "locks", "by_hand", "volume")),
    *("sqlite", "redis", "redis_failover"),
)
for name in MODULES:
    import_module(f"tests.faults.kinds.{name}")

MATRIX = sorted(FAULTS.values(), key=lambda fault: (fault.is_late, fault.id))
"""In the order in which they are tried."""
