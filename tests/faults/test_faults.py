"""The quick faults, each in one mode, by turns; ``make faults`` tries all of them in every mode.

What is to happen within a time is only to happen here, on whatever machine: ``make faults`` holds it to its time.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.matrix import MATRIX
from tests.faults.nursery import Nursery
from tests.faults.registry import Fault, attempt
from tests.faults.trial import Mix
from tests.patience import PATIENT


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    with Nursery() as nursery:
        yield nursery


def _by_turns() -> list[tuple[Fault, Mix]]:
    quick = [fault for fault in MATRIX if fault.quick]
    return [(fault, fault.modes[turn % len(fault.modes)]) for turn, fault in enumerate(quick)]


@pytest.mark.parametrize(("fault", "mix"), _by_turns(), ids=[f"{fault.id}-{mix}" for fault, mix in _by_turns()])
def test_quick(fault: Fault, mix: Mix, tmp_path: Path, nursery: Nursery, request: pytest.FixtureRequest) -> None:
    url = request.getfixturevalue("url") if fault.backend == "postgres" else ""
    verdict = attempt(fault, mix, url, tmp_path, nursery, seed=1, slack=PATIENT).verdict
    assert not verdict.violations, "\n".join(map(str, verdict.violations[:10]))
