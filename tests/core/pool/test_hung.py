"""What the heart says of an event loop that does not answer it, in a time that the test decides."""

import logging
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from fang_core.claims.inflight import InFlight
from fang_core.config import RetentionMode
from fang_core.events import EventBus
from fang_core.pool.identity import PoolIdentity
from fang_core.pool.telling import hung
from fang_core.pool.telling.hung import HungRuns
from fang_core.tasks.registry import Kinds
from tests.core.pool.fakes import FakeRuntime

WARN_AFTER = 10.0


class Bench:
    """Watches a loop that answers unless it is blocked, and that runs no task."""

    def __init__(self, runtime: FakeRuntime, monkeypatch: pytest.MonkeyPatch) -> None:
        self.runtime = runtime
        self.is_blocked = False
        monkeypatch.setattr(hung, "time", runtime)
        monkeypatch.setattr(runtime, "call_soon", self._call_soon)
        monkeypatch.setattr(runtime, "frames", tuple, raising=False)
        workers: Any = SimpleNamespace(executing=lambda: None)
        self.hung = HungRuns(
            runtime,
            InFlight(RetentionMode.REMOVE_FINISHED, lambda: False, 1),
            workers,
            Kinds("async"),
            identity=PoolIdentity(),
            events=EventBus(()),
            warn_after=WARN_AFTER,
        )

    def _call_soon(self, function: Callable[[], object]) -> None:
        if not self.is_blocked:
            function()

    def looks_after(self, seconds: float) -> None:
        self.runtime.now += seconds
        self.hung.look()


@pytest.fixture
def bench(runtime: FakeRuntime, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(runtime, monkeypatch)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def test_a_loop_is_blocked_from_when_it_was_asked_and_did_not_answer(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.looks_after(0.0)
    bench.is_blocked = True
    bench.looks_after(1.0)
    bench.looks_after(WARN_AFTER)
    assert warnings(caplog) == ["the event loop has been blocked for 10.0 s"]


def test_a_pause_of_the_heart_itself_counts_for_no_blocked_loop(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.looks_after(0.0)
    bench.is_blocked = True
    bench.looks_after(10 * WARN_AFTER)  # the heart has waited for its database, and asks the loop again only now
    bench.looks_after(1.0)
    assert warnings(caplog) == []
