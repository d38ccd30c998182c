import pytest

from fang_core.pool import base, claimer, completer, heartbeat, lifetime, maintenance, ticker
from fang_core.pool.telling import live_reporter, recorder
from fang_core.runs.isolation import Isolates
from tests.core.pool.fakes import FakeRuntime


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> FakeRuntime:
    runtime = FakeRuntime()
    for module in (base, claimer, completer, heartbeat, lifetime, live_reporter, maintenance, recorder, ticker):
        monkeypatch.setattr(module, "time", runtime)
    caplog.set_level("DEBUG", logger=runtime.logger.name)
    return runtime


@pytest.fixture(autouse=True)
def no_class_asks_for_isolation(monkeypatch: pytest.MonkeyPatch) -> None:
    """The registry may hold classes of other tests that do; the pools here run none of them."""

    async def check(isolates: Isolates, classes: object) -> None: ...

    monkeypatch.setattr(Isolates, "check", check)
