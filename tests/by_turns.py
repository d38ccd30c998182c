"""Which tests `make test` runs in one mode of the two, and `make faults` in the other.

What both modes do by the same code needs no second look at each change. Which of the two is long depends on the name
of the test alone, so that each mode has about half of them, whatever else is collected.
"""

import re
from collections import defaultdict
from collections.abc import Iterable
from typing import Final
from zlib import crc32

import pytest

PLACES: Final = (
    "tests/conformance/test_broken.py",
    "tests/conformance/test_pools.py",
    "tests/faults/test_leases.py",
    "tests/isolation/",
    "tests/liveness/test_cancelling.py",
    "tests/liveness/test_control.py",
    "tests/liveness/test_manual.py",
    "tests/liveness/test_pools.py",
    "tests/poolers/test_conformance.py",
    "tests/postgres/test_crashes.py",
    "tests/postgres/test_explaining.py",
    "tests/postgres/test_filtered.py",
    "tests/postgres/test_grants.py",
    "tests/postgres/test_guard.py::TestInTheTrap",
    "tests/postgres/test_hostile_rows.py",
    "tests/postgres/test_locked_rows.py",
    "tests/postgres/test_managing.py",
    "tests/postgres/test_pruning.py",
    "tests/postgres/test_removals.py",
    "tests/postgres/test_slots.py",
    "tests/waking/",
)
"""Where tests of shared code are. One that shows what only its mode does is marked ``both_modes``."""

_MODE: Final = re.compile(r"\b(threaded|async)\b")
_IN_MEMORY: Final = "[memory-"  # all of the conformance suite takes a few seconds there


def mark_long(items: Iterable[pytest.Item]) -> None:
    """Marks each test of these places as long in one mode, if it was collected in both."""
    twins: dict[str, list[pytest.Item]] = defaultdict(list)
    for item in items:
        if (
            item.nodeid.startswith(PLACES)
            and _IN_MEMORY not in item.nodeid
            and not item.get_closest_marker("both_modes")
        ):
            test, _, parameters = item.nodeid.partition("[")
            twins[f"{test}[{_MODE.sub('mode', parameters)}"].append(item)
    for name, both in twins.items():
        if len(both) == 2:
            both[crc32(name.encode()) % 2].add_marker(pytest.mark.long)
