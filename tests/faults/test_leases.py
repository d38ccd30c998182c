"""Processes of different leases on one database."""

import signal
from functools import partial
from pathlib import Path

import pytest

from tests.faults.nursery import Nursery
from tests.faults.registry import BOUND, SHORT_LEASE
from tests.faults.trial import Mix, trial
from tests.patience import PATIENT

LONG_LEASE = 600.0


@pytest.mark.parametrize("mix", ["threaded", "async"])
def test_each_process_is_given_up_after_its_own_lease(mix: Mix, url: str, tmp_path: Path) -> None:
    """One of a long lease is stopped, then one of a short lease; whoever sees both takes over from the latter alone."""
    with Nursery() as nursery, trial(url, mix, tmp_path, nursery, seed=1, slack=PATIENT, workers=1) as made:
        (patient,) = made.start(lease=LONG_LEASE)
        (kept,) = made.insert(gate=made.gate())
        made.until(lambda: made.starts(kept))
        (impatient,) = made.start(lease=SHORT_LEASE)
        (taken_over,) = made.insert(gate=made.gate())
        made.until(lambda: made.starts(taken_over))
        patient.send(signal.SIGSTOP)
        made.strike(impatient, partial(impatient.send, signal.SIGSTOP), BOUND)
        made.start(lease=SHORT_LEASE)
        made.until(lambda: made.starts(taken_over, attempt=2), within=BOUND)
        assert made.held(patient) == [(kept, 1)]
        for worker in (patient, impatient):
            worker.send(signal.SIGCONT)
        made.open_gate()
        made.settle()
        assert made.starts(kept) == 1
        assert "taken for dead" not in patient.said()
        violations = made.verdict().violations
        assert not violations, "\n".join(map(str, violations[:10]))
