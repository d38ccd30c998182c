"""A worker process that is started ahead of its database: it reads no code of the application before it is told to."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from fang_cli.supervisor.spawning import worker_command
from fang_cli.supervisor.standby import Standby
from tests.processes import ends

ARGUMENTS = ["app:pool"]
COMMAND = worker_command(ARGUMENTS, is_reloading=True)


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the application's module is expected, which is not there yet."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FANG_DATABASE_URL", raising=False)
    return tmp_path / "app.py"


def test_it_imports_the_application_as_it_is_when_it_is_told_to(app: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Standby(ARGUMENTS) as standby:
        monkeypatch.setenv("FANG_DATABASE_URL", "postgresql://made/meanwhile")
        app.write_text("""
import os, pathlib
ours = sorted({*os.environ} & {"FANG_DATABASE_URL", "FANG_PROCESS", "FANG_STANDBY", "FANG_SUPERVISOR_FD"})
pathlib.Path("seen").write_text(f"{os.environ['FANG_DATABASE_URL']} {ours}")
raise ValueError
""")
        taken = standby.take(COMMAND, 1)
        assert taken is not None
    pid, channel = taken
    with channel:
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1  # the module cannot be imported
    seen = (app.parent / "seen").read_text()
    assert seen == "postgresql://made/meanwhile ['FANG_DATABASE_URL', 'FANG_PROCESS']"


def test_it_ends_with_the_block_if_nobody_took_it(app: Path) -> None:
    app.write_text("import pathlib; pathlib.Path('imported').touch()")
    with Standby(ARGUMENTS) as standby:
        pid = standby._pid
    assert pid is not None
    with pytest.raises(ProcessLookupError):  # it has been reaped
        os.kill(pid, 0)
    assert not (app.parent / "imported").exists()


def test_it_ends_with_a_parent_that_is_killed(app: Path) -> None:
    app.write_text("import pathlib; pathlib.Path('imported').touch()")
    code = f"""
from fang_cli.supervisor.standby import Standby
with Standby({ARGUMENTS}) as standby:
    print(standby._pid, flush=True)
    input()
"""
    with subprocess.Popen([COMMAND[0], "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
    assert ends(pid)
    assert not (app.parent / "imported").exists()


def test_another_process_is_started_in_place_of_one_that_has_died(app: Path) -> None:
    with Standby(ARGUMENTS) as standby:
        assert standby._pid is not None
        os.kill(standby._pid, signal.SIGKILL)
        os.waitid(os.P_PID, standby._pid, os.WEXITED | os.WNOWAIT)
        assert standby.take(COMMAND, 1) is None


def test_a_process_that_the_supervisor_has_reaped_is_left_alone(app: Path) -> None:
    with Standby(ARGUMENTS) as standby:
        assert standby._pid is not None
        os.kill(standby._pid, signal.SIGKILL)
        os.waitpid(standby._pid, 0)  # as a supervisor does with every child
        assert standby.take(COMMAND, 1) is None


def test_it_serves_no_other_command_and_no_other_place(app: Path) -> None:
    with Standby(ARGUMENTS) as standby:
        assert standby.take(worker_command(["other:pool"], is_reloading=True), 1) is None
        assert standby.take(COMMAND, 2) is None
        taken = standby.take(COMMAND, 1)
        assert taken is not None
        assert standby.take(COMMAND, 1) is None  # a process is given away once
    taken[1].close()
    os.kill(taken[0], signal.SIGTERM)
    os.waitpid(taken[0], 0)
