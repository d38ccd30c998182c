"""A logger that cannot end what logs."""

import logging
from collections.abc import Iterator

import pytest

from fang_core.logs import SafeLogger

NAME = "tests.safe"


@pytest.fixture
def broken() -> Iterator[None]:
    def breaks(record: logging.LogRecord) -> bool:
        raise RuntimeError("this filter is broken")

    logger = logging.getLogger(NAME)
    logger.addFilter(breaks)
    yield
    logger.removeFilter(breaks)


def test_what_a_filter_raises_is_printed_and_goes_no_further(broken: None, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        raise KeyError
    except KeyError:
        SafeLogger(NAME).exception("what has failed")
    assert "this filter is broken" in capsys.readouterr().err


def test_a_record_names_the_line_that_logs(caplog: pytest.LogCaptureFixture) -> None:
    SafeLogger(NAME).warning("%d tasks", 7)
    (record,) = caplog.records
    assert (record.name, record.getMessage(), record.funcName) == (
        NAME,
        "7 tasks",
        "test_a_record_names_the_line_that_logs",
    )
