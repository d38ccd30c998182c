"""Which database a command names to the application that it imports: its own, unless the environment has one."""

import sys
from pathlib import Path

import pytest

from fang_core.tasks.registry import REGISTRY
from tests.cli.invoking import fang

APP = """
import os
from fang_threaded import Runnable, TaskConfig

URL = os.environ["FANG_DATABASE_URL"]

class Parcel(Runnable):
    task_config = TaskConfig(kind="appdb.Parcel")
    def run(self, queue): ...
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with the application and a database."""
    (tmp_path / "parcels.py").write_text(APP)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(REGISTRY, "_classes", {})
    monkeypatch.delitem(sys.modules, "parcels", raising=False)
    assert fang("migrate", "--database-url", "sqlite:///tasks.db").returncode == 0
    return tmp_path


def seen() -> str:
    """The database that the application has found."""
    url: str = sys.modules["parcels"].URL
    return url


COMMANDS = {
    "insert": ("insert", "appdb.Parcel", "{}", "--app", "parcels"),
    "schedules put": ("schedules", "put", "daily", "parcels:Parcel", "--every", "1h"),
    "schedules run": ("schedules", "run", "daily", "--import", "parcels"),
    "tasks show": ("tasks", "show", "0199f3a2-7c1e-7d10-8a4b-2f6d9b1c0e55", "--payload", "--app", "parcels"),
    "tasks edit": ("tasks", "edit", "0199f3a2-7c1e-7d10-8a4b-2f6d9b1c0e55", "--in", "1h", "--app", "parcels"),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_the_option_is_the_applications_database(command: str) -> None:
    done = fang(*COMMANDS[command], "--database-url", "sqlite:///tasks.db")
    assert "KeyError" not in done.stderr
    assert seen() == "sqlite:///tasks.db", done.stderr


def test_so_is_the_files(folder: Path) -> None:
    (folder / "pyproject.toml").write_text('[tool.fang]\ndatabase_url = "sqlite:///tasks.db"\napp = ["parcels"]\n')
    done = fang("insert", "appdb.Parcel")
    assert (done.returncode, done.stderr) == (0, "")
    assert seen() == "sqlite:///tasks.db"


def test_a_worker_names_the_files(folder: Path) -> None:
    (folder / "pyproject.toml").write_text('[tool.fang]\ndatabase_url = "sqlite:///tasks.db"\n')
    done = fang("worker", "parcels:URL")
    assert done.returncode == 2
    assert "parcels:URL is not a WorkerPool" in done.stderr
    assert seen() == "sqlite:///tasks.db"


def test_what_the_environment_says_to_the_application_stays() -> None:
    done = fang(
        *COMMANDS["insert"], "--database-url", "sqlite:///tasks.db", FANG_DATABASE_URL="sqlite:///applications.db"
    )
    assert (done.returncode, done.stderr) == (0, "")  # and the command goes by its option
    assert seen() == "sqlite:///applications.db"


@pytest.mark.parametrize("said", ["", "\r", "sqlite:///tasks.db\r\n"])
def test_an_empty_variable_is_none_and_white_space_does_not_count(said: str) -> None:
    done = fang(*COMMANDS["insert"], "--database-url", "sqlite:///tasks.db", FANG_DATABASE_URL=said)
    assert (done.returncode, done.stderr) == (0, "")
    assert seen() == "sqlite:///tasks.db"


def test_nothing_is_set_if_the_command_was_told_of_none() -> None:
    done = fang("worker", "parcels:URL")
    assert done.returncode == 1
    assert "KeyError" in done.stderr
