"""An outage is over once, in one line, and says how long it was."""

import logging

import pytest

from fang_core.logs import SafeLogger
from fang_core.pool.outage import Outage


@pytest.fixture
def outage() -> Outage:
    return Outage(SafeLogger("fang_core"), "pool %s claims again")


def test_its_end_is_one_line_however_often_it_was_tried(outage: Outage, caplog: pytest.LogCaptureFixture) -> None:
    outage.over(0.0, "P")
    for tries in range(20):
        outage.failed(10.0 + tries)
    outage.over(40.0, "P")
    outage.over(41.0, "P")
    outage.failed(50.0)
    outage.over(50.5, "P")
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
        (logging.WARNING, "pool P claims again, 30.0 s after it first failed"),
        (logging.WARNING, "pool P claims again, 0.5 s after it first failed"),
    ]


def test_one_that_comes_and_goes_is_told_once_in_half_a_minute(
    outage: Outage, caplog: pytest.LogCaptureFixture
) -> None:
    told = []
    for second in range(60):
        told += [second] * outage.is_to_tell(second, "a row is odd")
        outage.failed(second)
        outage.over(second + 0.5, "P")
    assert (told, len(caplog.records)) == ([0, 30], 2)
    assert outage.is_to_tell(60.0, "something else")
    outage.failed(60.0)
    assert outage.is_to_tell(60.1, "whatever comes in the same outage")


def test_of_a_long_outage_each_text_is_told_once_in_half_a_minute(
    outage: Outage, caplog: pytest.LogCaptureFixture
) -> None:
    texts, told = ("refused", "no answer"), []
    for second in range(90):
        text = texts[second % 2]
        if outage.is_to_tell(second, text):
            told.append((second, text))
        outage.failed(second)
    outage.over(90.0, "P")
    assert told == [(at + n, text) for at in (0, 30, 60) for n, text in enumerate(texts)]
    assert len(caplog.records) == 1


def test_the_pace_of_tries_begins_anew(outage: Outage) -> None:
    for _ in range(20):
        seconds = outage.failed(1.0)
    assert 2.5 <= seconds <= 7.5
    outage.over(2.0, "P")
    assert outage.failed(3.0) <= 0.15
