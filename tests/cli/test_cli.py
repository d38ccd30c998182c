"""The command as users meet it: a process, its exit code and its lines."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fang_postgres.names import HEAD
from tests.cli import invoking
from tests.forking import run
from tests.patience import PATIENT
from tests.postgres.migrations.catalogs import IMPORTS
from tests.processes import ends

PASSWORD = "not-to-be-shown"


def fang(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    imports = IMPORTS if arguments[0] == "migrate" else ()
    return run("-m", "fang_cli", *arguments, env={**_environment(), **environment}, imports=imports)


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "FANG_DATABASE_URL"}


def _one_line(text: str) -> str:
    assert text.startswith("fang: ")
    assert text.count("\n") == 1
    return text


# Migrate --------------------------------------------------------------------------------------------------------------


def test_migrate_and_check(database_url: str) -> None:
    before = fang("migrate", "--check", FANG_DATABASE_URL=database_url)
    assert before.returncode == 78
    assert "fang migrate" in _one_line(before.stderr)
    made = fang("migrate", "--database-url", database_url)
    assert (made.returncode, made.stdout) == (0, f"the tables in schema fang have been made (revision {HEAD})\n")
    again = fang("migrate", "--database-url", database_url)
    after = fang("migrate", "--check", FANG_DATABASE_URL=database_url)
    assert (after.returncode, after.stderr) == (0, "")
    assert again.stdout == after.stdout == f"the tables in schema fang are up to date (revision {HEAD})\n"


def test_check_of_another_schema_names_it(database_url: str) -> None:
    result = fang("migrate", "--check", "--schema", "other", "--database-url", database_url)
    assert result.returncode == 78
    assert "fang migrate --schema other" in _one_line(result.stderr)


def test_sql_needs_no_database() -> None:
    result = fang("migrate", "--sql")
    assert result.returncode == 0
    assert "CREATE TABLE" in result.stdout


def test_sql_goes_on_from_a_revision() -> None:
    result = fang("migrate", "--sql", "--from", "0001", "--schema", "jobs")
    assert result.returncode == 0
    assert 'CREATE TABLE "jobs".fang_tasks' not in result.stdout
    assert 'ALTER TABLE "jobs".fang_pools' in result.stdout


def test_silent_port_ends_in_one_line_without_password() -> None:
    result = fang("migrate", "--database-url", f"postgresql://someone:{PASSWORD}@127.0.0.1:1/nowhere")
    assert result.returncode == 69
    assert PASSWORD not in _one_line(result.stderr) + result.stdout


def test_unknown_database_is_access_refused(database_url: str) -> None:
    result = fang("migrate", "--database-url", database_url.replace("/t_", "/no_such_"))
    assert result.returncode == 77
    _one_line(result.stderr)


@pytest.mark.parametrize(
    "arguments",
    [
        ("migrate",),
        ("migrate", "--sql", "--check"),
        ("migrate", "--from", "0001"),
        ("migrate", "--sql", "--from", "nonsense"),
        ("migrate", "--sql", "--schema", "Not Plain"),
        ("migrate", "--database-url", "mysql://host/x"),
    ],
)
def test_wrong_usage(arguments: tuple[str, ...]) -> None:
    result = fang(*arguments)
    assert result.returncode == 2
    _one_line(result.stderr)


# Demo -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["worker", "app.tasks:pool"], "fang: the working directory has been removed: change into one that is there"),
        (["insert", "Mail", "--app", "app.tasks"], "fang: the working directory has been removed: change into"),
        (["status", "--database-url", "sqlite:///a.db"], "fang: 'a.db' is relative to the working directory, which"),
        (["tasks", "list"], "fang: no database: "),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_working_directory_that_a_deploy_has_removed(
    arguments: list[str], line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = tmp_path / "release"
    release.mkdir()
    monkeypatch.chdir(release)
    release.rmdir()
    result = invoking.fang(*arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith(line)
    assert result.stderr.count("\n") == 1


def test_the_database_is_asked_though_the_working_directory_has_been_removed(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = tmp_path / "release"
    release.mkdir()
    monkeypatch.chdir(release)
    release.rmdir()
    result = invoking.fang("tasks", "list", FANG_DATABASE_URL=database_url)
    assert result.returncode == 78, "it has no tables"


def test_demo_proves_its_results() -> None:
    result = fang("demo", "--files", "40")
    assert (result.returncode, result.stderr) == (0, "")
    assert "results = files: 40 = 40, none missing, none twice" in result.stdout
    lines = result.stdout.splitlines()
    assert re.fullmatch(r"the page is at http://127\.0\.0\.1:\d+/ until the demo ends", lines[1])
    kinds = re.findall(r"│ (\w+Module) +│ +\d+% │ +(\d+) │ queue │", result.stdout)
    assert sorted(kinds) == [("ParseModule", "40"), ("ReadModule", "40")]


in_proc = pytest.mark.skipif(not Path("/proc").is_dir(), reason="the descendants are found in /proc")


@pytest.fixture
def demo() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-m", "fang_cli", "demo"],
        env=_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        yield process
        process.kill()


@in_proc
@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.long), signal.SIGKILL])
def test_ended_demo_leaves_nothing_running(demo: subprocess.Popen[str], number: signal.Signals) -> None:
    descendants = _when_both_pools_run(demo)
    demo.send_signal(number)
    _, errors = demo.communicate(timeout=PATIENT)
    assert demo.returncode == (130 if number == signal.SIGINT else -signal.SIGKILL)
    assert errors == ("interrupted\n" if number == signal.SIGINT else "")
    seconds = 20 if number == signal.SIGKILL else 0
    commands = {pid: _command(pid) for pid in descendants}
    assert [commands[pid] for pid in descendants if not ends(pid, seconds)] == []


@pytest.mark.long
@in_proc
def test_death_of_a_pool_is_told_in_one_line(demo: subprocess.Popen[str]) -> None:
    descendants = _when_both_pools_run(demo)
    victim = next(pid for pid in descendants if _command(pid).endswith("fang_cli.demo.demo_tasks threaded"))
    os.kill(victim, signal.SIGKILL)
    _, errors = demo.communicate(timeout=PATIENT)
    assert demo.returncode == 1
    assert "the threaded process died" in _one_line(errors)
    assert all(ends(pid, 0) for pid in descendants)


def _when_both_pools_run(demo: subprocess.Popen[str]) -> set[int]:
    """The descendants, Postgres among them, as soon as both pools are processes; none of them is through by then."""
    assert demo.stdout is not None
    assert "modules of Python" in demo.stdout.readline()
    assert "the page is at" in demo.stdout.readline()  # and Postgres runs; the pools are about to be started
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and not ends(demo.pid, 0.02):  # a start of a grandchild cannot be awaited
        found = _descendants(demo.pid)
        if sum(_command(pid).endswith(("demo_tasks async", "demo_tasks threaded")) for pid in found) == 2:
            assert any("postgres" in _command(pid) for pid in found)
            return found
    raise AssertionError("the pools did not start")


def _descendants(root: int) -> set[int]:
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    found: set[int] = set()
    waiting = [root]
    while waiting:
        for pid in children.get(waiting.pop(), []):
            found.add(pid)
            waiting.append(pid)
    return found


def _command(pid: int) -> str:
    with contextlib.suppress(OSError):
        return (Path("/proc") / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    return ""
