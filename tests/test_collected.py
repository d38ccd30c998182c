"""xdist's processes as forks: each has what it would have if it had collected the tests by itself."""

import json
from pathlib import Path
from typing import Any, Final

from tests.pytests import run

CONFTEST: Final = """
def pytest_xdist_setupnodes(config, specs):
    from tests.collected import Forks

    config.pluginmanager.register(Forks(config, specs))
"""
IN_TWO: Final = ("-p", "xdist.plugin", "-n", "2")

TESTS: Final = """
import json, os, sys
from pathlib import Path

import pytest

with Path("imports").open("a") as imports:
    print(os.getpid(), file=imports)


@pytest.mark.parametrize("number", range(6))
def test_tells(number, tmp_path, worker_id):
    told = {"pid": os.getpid(), "id": os.environ["PYTEST_XDIST_WORKER"], "ids": worker_id, "directory": str(tmp_path)}
    Path(f"told-{number}").write_text(json.dumps(told))


def test_fails():
    print("printed by the test that fails")
    os.write(2, b"written by the test that fails")
    assert sys.stdin.read() == ""
    raise AssertionError


def test_dies():
    os._exit(3)
"""


def test_forks_run_the_tests_that_one_process_has_collected(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_first.py").write_text(TESTS)
    (tmp_path / "test_second.py").write_text("import of_nothing")
    output = run(tmp_path, *IN_TWO)

    (collector,) = (tmp_path / "imports").read_text().split()
    told: list[Any] = [json.loads(path.read_text()) for path in tmp_path.glob("told-*")]
    processes = {each["pid"]: each["id"] for each in told}
    assert len(told) == 6
    assert len(processes) == len(set(processes.values())) > 1
    assert int(collector) not in processes
    for each in told:
        assert each["ids"] == each["id"]
        assert f"/popen-{each['id']}/" in each["directory"]

    assert "printed by the test that fails" in output
    assert "written by the test that fails" in output
    assert "crashed while running 'test_first.py::test_dies'" in output
    assert "replacing crashed worker" in output
    assert output.count("No module named 'of_nothing'") == 1
    assert "2 failed, 6 passed, 1 error" in output


def test_an_error_before_the_tests_are_collected_is_told(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(f"{CONFTEST}\nimport os\nos.environ.get('PYTEST_XDIST_WORKER') and 1 / 0\n")
    output = run(tmp_path, *IN_TWO, "--max-worker-restart", "0")
    assert "node down" in output
    assert "ZeroDivisionError" in output


def test_threads_that_the_forks_would_be_without_are_named(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_first.py").write_text(
        "import threading; threading.Thread(target=threading.Event().wait, daemon=True, name='of a test').start()"
    )
    output = run(tmp_path, *IN_TWO)
    assert "the forks would be without a thread" in output
    assert "of a test" in output
