"""What tests of waking share."""

import pytest

from fang_core.claims import idle
from tests.modes import HOUR


@pytest.fixture(autouse=True)
def long_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pools sleep for as long as their polls say: what is to wake one is not helped by its looking anyway."""
    monkeypatch.setattr(idle, "LONGEST_SLEEP", HOUR.total_seconds())
