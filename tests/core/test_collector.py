"""The switch of the garbage collector."""

import gc
from collections.abc import Iterator

import pytest

from fang_core.interpreter.collector import uncollected


@pytest.fixture(autouse=True)
def collecting() -> Iterator[None]:
    yield
    gc.enable()


def test_it_rests_meanwhile_and_goes_on_after() -> None:
    assert uncollected(gc.isenabled) is False
    assert gc.isenabled()


def test_it_goes_on_after_a_failure() -> None:
    with pytest.raises(ZeroDivisionError):
        uncollected(lambda: 1 // 0)
    assert gc.isenabled()


def test_what_the_application_has_turned_off_stays_so() -> None:
    gc.disable()
    uncollected(list)
    assert not gc.isenabled()
