"""A logger that cannot end what logs."""

import logging
import logging.config
import re
from asyncio import CancelledError
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn
from uuid import uuid4

import pytest

import fang_core
from fang_core.logs import LOGGERS, SafeLogger
from tests.logs import logging_as_it_is

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


@pytest.fixture
def logger() -> Iterator[SafeLogger]:
    """One whose name nothing else has."""
    name = f"tests.safe.{uuid4()}"
    yield SafeLogger(name)
    logging.Logger.manager.loggerDict.pop(name)


@pytest.fixture
def configuration() -> Iterator[None]:
    """What a configuration changes for the whole process is undone."""
    restore = logging_as_it_is()
    yield
    restore()


def by_dict(_: Path) -> None:
    handlers = {"c": {"class": "logging.StreamHandler"}}
    logging.config.dictConfig({"version": 1, "handlers": handlers, "root": {"handlers": ["c"], "level": "INFO"}})


def by_file(directory: Path) -> None:
    """As the env.py of an application's own Alembic does."""
    file = directory / "logging.ini"
    file.write_text(
        "[loggers]\nkeys=root\n[handlers]\nkeys=c\n[formatters]\nkeys=\n[logger_root]\nlevel=INFO\nhandlers=c\n"
        "[handler_c]\nclass=StreamHandler\nargs=(sys.stderr,)\n"
    )
    logging.config.fileConfig(file)


@pytest.mark.usefixtures("configuration")
@pytest.mark.parametrize("configure", [by_dict, by_file])
def test_a_configuration_that_disables_existing_loggers_does_not_silence_it(
    logger: SafeLogger, configure: Callable[[Path], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    configure(tmp_path)
    assert logger.logger.disabled  # so the configuration is one that would silence it

    logger.error("task %s has failed", 7)

    assert capsys.readouterr().err == "task 7 has failed\n"


@pytest.mark.usefixtures("configuration")
def test_what_silences_it_on_purpose_does(logger: SafeLogger, caplog: pytest.LogCaptureFixture) -> None:
    logger.logger.setLevel(logging.CRITICAL)
    logger.error("below its level")
    logger.logger.setLevel(logging.NOTSET)
    logger.logger.addFilter(lambda record: False)
    logger.error("filtered")
    logger.logger.filters.clear()
    logging.disable(logging.ERROR)
    try:
        logger.error("disabled for the whole process")
    finally:
        logging.disable(logging.NOTSET)
    logger.logger.propagate = False
    logger.logger.addHandler(logging.NullHandler())
    logger.error("not propagated")

    assert not caplog.records


def test_every_logger_of_the_library_is_safe() -> None:
    packages = Path(fang_core.__file__).parents[1].glob("fang_*/**/*.py")
    unsafe = [file for file in packages if "getLogger(" in file.read_text() and file.name != "logs.py"]

    assert not unsafe


def test_extra_reaches_the_record(logger: SafeLogger, caplog: pytest.LogCaptureFixture) -> None:
    logger.error("failed", extra={"task_id": "7"})

    assert vars(caplog.records[0])["task_id"] == "7"


@pytest.fixture
def factory() -> Iterator[None]:
    """An application's, whose records have a name that the library uses as well."""
    former = logging.getLogRecordFactory()

    def make(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = former(*args, **kwargs)
        record.task_id = "the application's"
        return record

    logging.setLogRecordFactory(make)
    yield
    logging.setLogRecordFactory(former)


@pytest.mark.usefixtures("factory")
def test_a_name_that_the_applications_records_have_is_left_to_them(
    logger: SafeLogger, caplog: pytest.LogCaptureFixture
) -> None:
    logger.error("failed", extra={"task_id": "7", "kind": "Kind"})

    assert (vars(caplog.records[0])["task_id"], vars(caplog.records[0])["kind"]) == ("the application's", "Kind")


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), CancelledError()], ids=repr)
def test_an_exception_that_ends_its_handler_goes_no_further(
    logger: SafeLogger, capsys: pytest.CaptureFixture[str], error: BaseException
) -> None:
    class Hostile(Exception):
        @property
        def __cause__(self) -> NoReturn:  # type: ignore[override]
            raise error

    handler = logging.StreamHandler()
    logger.logger.addHandler(handler)
    logger.error("failed", exc_info=Hostile())

    assert type(error).__name__ in capsys.readouterr().err


def test_a_level_is_set_for_each_logger_of_the_library() -> None:
    root = Path(fang_core.__file__).parents[1]
    used = {
        name
        for path in root.glob("fang_*/**/*.py")
        for name in re.findall(r'SafeLogger\("(fang_\w+)"', path.read_text())
    }
    assert used <= set(LOGGERS)
