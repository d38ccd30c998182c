"""Faults inside the database: no connection is left (F24)."""

import time
from contextlib import ExitStack, closing, suppress
from typing import Final

import psycopg
import pytest

from fang_core.errors import NotConnected
from tests.faults.kinds.database.shared import CONNECTIONS, hold, relay, until_said
from tests.faults.registry import BOUND, SHORT, SHORT_LEASE, fault
from tests.faults.trial import MODES, Trial

_OURS: Final = "FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'fang'"


def _connections(trial: Trial) -> int:
    number: int = trial.rows(f"SELECT count(*) {_OURS}")[0][0]
    return number


def _take_all(trial: Trial, others: ExitStack) -> None:
    """Also those that are kept for a superuser, which this is."""
    with suppress(psycopg.OperationalError):
        while True:
            others.enter_context(closing(psycopg.connect(trial.url)))


@fault("F24", "all connections of the server taken, past the lease, then freed", also=("I8", "I9", "I10"), given=SHORT)
def connections_used_up(trial: Trial) -> None:
    """What ran meanwhile is written afterwards, and not run again; an insert is told that nothing was sent."""
    workers = trial.start(2)
    held = hold(trial)
    before, connected = [worker.vitals() for worker in workers], _connections(trial)
    with ExitStack() as others:
        while _connections(trial):
            trial.rows(f"SELECT pg_terminate_backend(pid) {_OURS}")
            _take_all(trial, others)
        trial.open_gate()
        with pytest.raises(NotConnected):
            trial.insert()
        until_said(trial, "too many clients")
        time.sleep(1.5 * SHORT_LEASE)
    freed = time.monotonic()
    trial.expect(trial.insert(len(workers)), freed, BOUND)
    trial.settle()
    assert trial.starts() == len(held) + len(workers), "a task ran again"
    assert _connections(trial) <= connected + CONNECTIONS * len(workers)
    for worker, vitals in zip(workers, before, strict=True):
        assert worker.exit_code is None
        assert worker.vitals().descriptors <= vitals.descriptors + CONNECTIONS, "descriptors were left open"
        trial.until(lambda worker=worker, vitals=vitals: worker.vitals().threads <= vitals.threads + 1)
    for worker in workers[len(MODES[trial.mix]) :]:
        worker.kill()
    for worker in workers[: len(MODES[trial.mix])]:
        trial.assert_slots(worker)


@fault(
    "F24 one connection",
    "a connection pool of one connection, and sixteen workers that insert in their runs",
    quick=True,
    also=("I8", "I9"),
    given={"workers": 16, "max_pool_size": 1},
)
def reserve_of_one(trial: Trial) -> None:
    workers = trial.start()
    trial.insert(200, deed=relay(trial))
    trial.settle()
    assert trial.starts() == 400, "each relays to another, and none ran twice"
    assert _connections(trial) <= 4 * len(workers), "for claims, for writes, a heart, and a listener"
    for worker in workers:
        trial.assert_slots(worker, slots=16)
