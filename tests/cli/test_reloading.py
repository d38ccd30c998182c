"""`fang worker --reload`: which changes of the code count; and a real worker whose code changes on disk."""

import logging
import os
import re
import sys
from pathlib import Path

import pytest

from fang_cli.supervisor.reloading import Code, Reloading, check_extra, directories_of, fault, is_code
from fang_core.errors import MissingExtra, UsageError
from tests.cli.test_processes import APP, Chore, Supervised
from tests.cli.test_worker import insert


@pytest.mark.parametrize(
    ("path", "counts"),
    [
        ("tasks.py", True),
        ("app/tasks.py", True),
        (".hidden.py", True),  # a file, perhaps of a test; only folders of that name are skipped
        ("app/page.html", False),
        ("app/tasks.pyc", False),
        (".venv/lib/tasks.py", False),
        ("env/lib/python3.11/site-packages/x/tasks.py", False),
        ("app/__pycache__/tasks.py", False),
        ("../other/tasks.py", False),
    ],
)
def test_files_that_count(tmp_path: Path, path: str, counts: bool) -> None:
    here = tmp_path / ".hidden" / "project"  # what stands above the directory says nothing
    assert is_code(Path(f"{here}/{path}").resolve(), [here]) is counts


def test_the_directories_of_pools_are_found_without_an_import(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "reloaded_package").mkdir(parents=True)
    (elsewhere / "reloaded_package" / "__init__.py").write_text("1 / 0")
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "app.py").write_text("1 / 0")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.syspath_prepend(elsewhere)
    found = directories_of(["app:pool", "reloaded_package.tasks:pool", "not_there:pool", "pytest:pool"])
    assert found == [Path.cwd(), (elsewhere / "reloaded_package").resolve()]


def test_a_fault_is_one_line_with_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "app.py"
    assert fault(file) is None  # it has gone
    file.write_text("a = 1\nb = (\n")
    assert fault(file) == "app.py:2: SyntaxError: '(' was never closed"
    file.write_bytes(b"\xff")
    assert (fault(file) or "").startswith("app.py:1: SyntaxError: ")
    file.write_text("'\\d'")  # a warning
    assert fault(file) is None


def test_nothing_is_replaced_while_a_file_is_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    caplog.set_level(logging.INFO, "fang_cli")
    broken, whole = tmp_path / "broken.py", tmp_path / "whole.py"
    broken.write_text("if")
    whole.write_text("1")
    code = Code()
    assert code.changed({whole}) == "whole.py changed"
    assert code.changed({broken}) is None
    assert code.changed({whole}) is None
    assert caplog.messages == 2 * [
        "broken.py:1: SyntaxError: invalid syntax: nothing is replaced before the next change"
    ]
    broken.unlink()
    assert code.changed({broken}) == "broken.py changed"
    assert code.changed({broken, whole}) == "broken.py and 1 more changed"


def test_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(MissingExtra, match=re.escape("--reload needs more: pip install 'fang-tasks[reload]'")):
        check_extra()
    with pytest.raises(MissingExtra), Reloading([Path.cwd()]):
        pass


@pytest.mark.parametrize("is_within", [True, False])
def test_a_name_that_is_not_in_utf_8_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_within: bool
) -> None:
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    odd.mkdir()
    monkeypatch.chdir(tmp_path if is_within else odd)
    with pytest.raises(UsageError, match=r"--reload cannot watch .*caf\\(xE9|udce9)"), Reloading([Path.cwd()]):
        pass


def test_a_worker_runs_new_code_and_outlasts_broken_code(tmp_path: Path, url: str) -> None:
    supervised = Supervised(tmp_path, url, "--reload")
    try:
        supervised.all_ready(1)
        supervised.write("broken", APP + "\n    if")
        log = supervised.process.popen.stderr
        assert log is not None
        line = next(line for line in log if "SyntaxError" in line)
        assert re.search(
            r"ERROR fang_cli: app\.py:\d+: SyntaxError: .*: nothing is replaced before the next change", line
        )
        supervised.write("new")
        supervised.hear(r"ready new 1 \d+")
        insert(url, Chore(n=1))
        supervised.hear(r"ran 1 .*")
        supervised.stop()
    finally:
        supervised.close()
    assert len(supervised.pids) == 2
