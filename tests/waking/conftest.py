"""What tests of waking share."""

import pytest

from tests.modes import Nights


@pytest.fixture
def nights(monkeypatch: pytest.MonkeyPatch) -> Nights:
    return Nights(monkeypatch)
