"""The quick faults, in one mode each by turns; ``make faults`` tries all of them in every mode."""

from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

import pytest

from tests.faults.matrix import FAULTS
from tests.faults.nursery import Nursery
from tests.faults.registry import attempt

QUICK = [fault for fault in FAULTS.values() if fault.quick]


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with Nursery() as nursery:
        yield nursery


@pytest.mark.parametrize(("fault", "turn"), zip(QUICK, cycle(range(3)), strict=False), ids=lambda each: getattr(each, "id", ""))
def test_quick(fault, turn, url: str, tmp_path: Path, nursery: Nursery) -> None:
    tried = attempt(fault, fault.modes[turn % len(fault.modes)], url, tmp_path, nursery, seed=1)
    assert not tried.violations, "\n".join(map(str, tried.violations[:10]))
