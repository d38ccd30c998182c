"""What happens to a process in which a test hangs."""

from pathlib import Path
from typing import Final

from tests.pytests import run

CONFTEST: Final = """
from tests import watchdog

watchdog.EVERY = 0.05
watchdog.BLOCKED = 1.0
"""
WAITS: Final = """
import threading
import pytest


def test_that_ends():
    pass


@pytest.mark.timeout(0.1)
def test_that_waits():
    print("printed by the test that hangs")
    threading.Event().wait()


def test_that_does_not_run():
    print("printed by the next test")
    assert False
"""
HOLDS_THE_GIL: Final = """
import ctypes


def test_that_holds_the_gil():
    ctypes.PyDLL(None).pause()
"""


def test_a_test_that_waits_for_ever_ends_its_process_with_what_it_has_printed(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_first.py").write_text(WAITS)
    output = run(tmp_path, "-p", "pytest_timeout", "-p", "tests.watchdog")
    assert "in test_that_waits" in output
    assert "printed by the test that hangs" in output
    assert "printed by the next test" not in output


def test_a_test_that_lets_no_other_thread_run_ends_its_process(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_first.py").write_text(HOLDS_THE_GIL)
    output = run(tmp_path, "-p", "pytest_timeout", "-p", "tests.watchdog", "--timeout", "60")
    assert "Timeout (0:00:01)!" in output
    assert "in test_that_holds_the_gil" in output
