"""The faults by their ids, shared by pytest (the quick ones) and ``make faults`` (all)."""

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from fang_core import config
from tests.faults.checker import check
from tests.faults.nursery import Nursery
from tests.faults.ownserver import own_server
from tests.faults.redis_trial import RedisTrial, redis_server
from tests.faults.sqlite_trial import SqliteTrial, url_in
from tests.faults.trial import Mix, Trial, Verdict, trial

SHORT_LEASE: Final = 3.0
"""Seconds, and the shortest that a pool takes: so that a fault that only the lease ends is a matter of seconds."""

SHORT: Final[Mapping[str, Any]] = {"lease": SHORT_LEASE}

DEFAULT_LEASE: Final = config.DEFAULT_LEASE.total_seconds()

BOUND: Final = SHORT_LEASE + 7
"""Seconds within which orphans run again under the short lease, on two busy cores: the lease, a beat, the rescue, a
claim, and the processes that start beside."""

SUSPECTED: Final = 10
"""Seconds more for a task that has crashed twice: it is due after four of them, an idle pool finds it at its next poll,
up to five and a half later, and it waits until it can run alone."""

Backend = Literal["postgres", "sqlite", "redis"]

TRIALS: Final[Mapping[Backend, type[Trial]]] = {"postgres": Trial, "sqlite": SqliteTrial, "redis": RedisTrial}

ALL_MODES: Final[tuple[Mix, ...]] = ("threaded", "async", "mixed")


@dataclass(frozen=True)
class Fault:
    """One row of the matrix.

    Attributes:
        id: as in docs/faults.md.
        what: what is done, in one line.
        does: does it to a trial; what it asserts itself holds beside the invariants.
        modes: in which it is tried.
        quick: whether it is tried in ``make test``, in one mode.
        is_late: whether it is tried only once the server has been up for the default lease, and so last.
        also: what it asserts itself, of I8 (same process), I9 (no leak) and I10 (visible).
        given: orders for every worker, see ``worker.Given``.
        own_server: whether it is tried on a server of its own, ``trial.server``, which it may crash.
        backend: on what it is tried.
    """

    id: str
    what: str
    does: Callable[[Trial], None]
    modes: tuple[Mix, ...] = ALL_MODES
    quick: bool = False
    is_late: bool = False
    also: tuple[str, ...] = ()
    given: Mapping[str, Any] = field(default_factory=dict)
    own_server: bool = False
    backend: Backend = "postgres"


class Tried(NamedTuple):
    """How a trial went."""

    fault: Fault
    mix: Mix
    verdict: Verdict
    seconds: float


FAULTS: Final[dict[str, Fault]] = {}


def fault(id: str, what: str, **options: Any) -> Callable[[Callable[[Trial], None]], Callable[[Trial], None]]:
    """Registers a function as a fault."""

    def register(does: Callable[[Trial], None]) -> Callable[[Trial], None]:
        assert id not in FAULTS, f"{id} is taken"
        FAULTS[id] = Fault(id, what, does, **options)
        return does

    return register


def attempt(
    fault: Fault, mix: Mix, url: str, directory: Path, nursery: Nursery, seed: int, slack: float = 0.0
) -> Tried:
    """Tries a fault on a fresh database, whose ``url`` only Postgres needs; ``slack`` as in ``Trial``."""
    with ExitStack() as stack:
        server: Any = stack.enter_context(own_server()) if fault.own_server else None
        if fault.backend == "redis":
            server = stack.enter_context(redis_server())
        where = server.url if server else url_in(directory) if fault.backend == "sqlite" else url
        made = stack.enter_context(
            trial(where, mix, directory, nursery, seed, slack, of=TRIALS[fault.backend], **fault.given)
        )
        made.server = server
        if fault.is_late:
            made.until(lambda: made.server_up() > DEFAULT_LEASE, within=DEFAULT_LEASE + 10)
        started = time.monotonic()
        try:
            fault.does(made)
        except AssertionError as error:
            for violation in check(made.record())[:10]:
                error.add_note(str(violation))  # where the trial broke off, I1 says no more than that
            raise
        verdict = made.verdict()
    return Tried(fault, mix, verdict, time.monotonic() - started)
