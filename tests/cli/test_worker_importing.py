"""`fang worker` while it imports the application: what a signal does then, and whose logging it is."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.forking import Forked
from tests.modes import eventually
from tests.patience import PATIENT

ROOT = Path(__file__).parents[2]
FANG = ("-m", "fang_cli")
AS_PROCESS_1 = ("unshare", "--pid", "--fork", "--kill-child")
"""Its ``/proc`` is that of the test, and so are the ids of processes there."""

Program = Forked | subprocess.Popen[str]
Start = Callable[..., Program]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[Program] = []

    def start(*arguments: str, app: str = "", prefix: tuple[str, ...] = ()) -> Program:
        (tmp_path / "app.py").write_text(textwrap.dedent(app))
        process: Program = (
            subprocess.Popen(
                [*prefix, sys.executable, "-P", *FANG, *arguments],
                cwd=tmp_path,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            if prefix
            else Forked(*FANG, *arguments, cwd=tmp_path)
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


# Signals --------------------------------------------------------------------------------------------------------------

IMPORTING = """
    import asyncio, os, time

    def importing():
        print(os.readlink("/proc/self"), flush=True)

    def stall():
        # A signal that comes just before a sleep begins does not end it.
        for _ in range(600):
            time.sleep(0.1)

    async def in_a_loop():
        importing()
        await asyncio.sleep(60)

    {blocks}
    from fang_core import MemoryQueue
    from fang_threaded import WorkerPool
    pool = WorkerPool(MemoryQueue())
"""
BLOCKS = {
    "sleeps": "importing(); stall()",
    "computes": "importing()\n    while True: pass",
    "in a loop": "asyncio.run(in_a_loop())",  # a loop that is cut off while it is made has Python itself complain
    "catches all": """
    try:
        importing()
        stall()
    except BaseException:
        pass
""",
    "makes another error of it": """
    try:
        importing()
        stall()
    except BaseException as error:
        raise RuntimeError("no such plugin") from error
""",
    "catches all, and goes on": """
    try:
        importing()
        stall()
    except BaseException:
        pass
    stall()
""",
    "catches all, again and again": """
    while True:
        try:
            importing()
            stall()
        except BaseException:
            importing = int
""",
    "cannot raise": """
    import weakref
    callbacks = [weakref.ref(asyncio.Queue(), lambda _: (importing(), stall()))]
""",
}

may_unshare = pytest.mark.skipif(
    shutil.which("unshare") is None
    or subprocess.run([*AS_PROCESS_1, "true"], capture_output=True, check=False).returncode != 0,
    reason="no rights to have a process 1",
)


@pytest.mark.parametrize(
    ("blocks", "prefix"),
    [*((blocks, ()) for blocks in BLOCKS), pytest.param("sleeps", AS_PROCESS_1, marks=may_unshare, id="process 1")],
)
def test_sigterm_during_the_import_ends_it(start: Start, blocks: str, prefix: tuple[str, ...]) -> None:
    process = start("worker", "app:pool", app=IMPORTING.format(blocks=BLOCKS[blocks]), prefix=prefix)
    assert process.stdout is not None
    os.kill(int(process.stdout.readline()), signal.SIGTERM)
    out, err = process.communicate(timeout=PATIENT)
    assert (process.returncode, out, err) == (0, "", "")


@pytest.mark.parametrize("blocks", BLOCKS)
def test_a_ctrl_c_during_the_import_ends_it(start: Start, blocks: str) -> None:
    process = start("worker", "app:pool", app=IMPORTING.format(blocks=BLOCKS[blocks]))
    assert process.stdout is not None
    os.kill(int(process.stdout.readline()), signal.SIGINT)
    out, err = process.communicate(timeout=PATIENT)
    assert (process.returncode, out, err) == (130, "", "interrupted\n")


def test_what_cleans_up_after_a_ctrl_c_is_left_alone(start: Start) -> None:
    """The cleanup takes longer than one that has caught the exception for good is left alone."""
    blocks = """
    try:
        importing()
        stall()
    finally:
        time.sleep(1.5)
        print("cleaned up")
"""
    process = start("worker", "app:pool", app=IMPORTING.format(blocks=blocks))
    assert process.stdout is not None
    os.kill(int(process.stdout.readline()), signal.SIGINT)
    out, err = process.communicate(timeout=PATIENT)
    assert (process.returncode, out, err) == (130, "cleaned up\n", "interrupted\n")


def test_a_ctrl_c_while_the_command_itself_is_imported_leaves_no_traceback() -> None:
    """Whatever it imports first stands for the moment: the interrupt comes at its import."""
    code = (
        "import signal, sys\nfrom fang_cli.__main__ import main\n"
        "class Interrupt:\n    def find_spec(self, *_):\n        signal.raise_signal(signal.SIGINT)\n"
        "sys.meta_path.insert(0, Interrupt())\nsys.argv = ['fang', 'worker', 'app:pool']\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


ENDING = """
    import atexit, os, signal, time
    from fang_core import MemoryQueue
    from fang_threaded import Events, WorkerPool

    def told(*numbers):
        for number in numbers:
            os.kill(os.getpid(), number)

    class Stop(Events):
        def pool_started(self, pool_id):
            told(signal.{first})

    atexit.register({at_exit})
    {imports}
    pool = WorkerPool(MemoryQueue(), events=[Stop()])
"""


@pytest.mark.parametrize(
    ("first", "imports", "code"),
    [
        ("SIGTERM", "", 0),
        ("SIGINT", "", 0),
        ("SIGTERM", "told(signal.SIGTERM)", 0),
        ("SIGINT", "told(signal.SIGINT)", 130),
    ],
)
def test_more_signals_while_it_ends_change_nothing(start: Start, first: str, imports: str, code: int) -> None:
    app = ENDING.format(first=first, imports=imports, at_exit="told, signal.SIGTERM, signal.SIGINT")
    process = start("worker", "app:pool", "--log-level", "error", app=app)
    out, err = process.communicate(timeout=PATIENT)
    assert (process.returncode, out, err) == (code, "", "interrupted\n" if code else "")


def test_a_later_signal_ends_what_does_not_end_by_itself(start: Start) -> None:
    hangs = 'lambda: (print("ends", flush=True), time.sleep(60))'
    process = start("worker", "app:pool", app=ENDING.format(first="SIGTERM", imports="", at_exit=hangs))
    assert process.stdout is not None
    process.stdout.readline()
    eventually(lambda: process.send_signal(signal.SIGTERM) or process.poll() is not None)
    assert process.returncode == -signal.SIGTERM


@pytest.mark.parametrize("prefix", [(), pytest.param(AS_PROCESS_1, marks=may_unshare, id="process 1")])
def test_sigterm_ends_another_command(start: Start, prefix: tuple[str, ...]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        process = start(
            "migrate", "--database-url", f"postgresql://127.0.0.1:{silent.getsockname()[1]}/app", prefix=prefix
        )
        silent.settimeout(20)
        with silent.accept()[0]:
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            os.kill(int(children[0]) if prefix else process.pid, signal.SIGTERM)
            out, err = process.communicate(timeout=PATIENT)
    assert (process.returncode, out, err) == (143, "", "")


# Logging --------------------------------------------------------------------------------------------------------------

LOGS = """
    import logging
    from fang_core import MemoryQueue
    from fang_threaded import Events, WorkerPool

    class Stop(Events):
        def pool_started(self, pool_id):
            pool.stop()

    logging.getLogger("app").info("before")
    {configures}
    logging.getLogger("app").info("info")
    logging.getLogger("app").warning("warning")
    pool = WorkerPool(MemoryQueue(), events=[Stop()])
"""
AS_BASIC_CONFIG = 'logging.basicConfig(format="APP %(levelname)s %(message)s", level=logging.{level})'


def logged(start: Start, configures: str, *options: str) -> list[str]:
    process = start("worker", "app:pool", *options, app=LOGS.format(configures=configures))
    out, err = process.communicate(timeout=PATIENT)
    assert (process.returncode, out) == (0, "")
    lines = re.sub(r"^[-\d]+ [:,\d]+ ", "", err, flags=re.MULTILINE)
    return re.sub(r"pool [-\w]{36} ", "pool ", lines).splitlines()


STARTED, STOPPED = "pool started, workers: 1, for common", "pool stopped, runs left: 0"


def test_an_application_without_logging_gets_lines_from_its_import_on(start: Start) -> None:
    lines = logged(start, "")
    assert lines[:3] == ["INFO app: before", "INFO app: info", "WARNING app: warning"]
    assert lines[3:] == [f"INFO fang_threaded: {STARTED}", f"INFO fang_threaded: {STOPPED}"]


@pytest.mark.parametrize(("level", "expected"), [("warning", ["WARNING app: warning"]), ("error", [])])
def test_the_level_holds_for_the_import_too(start: Start, level: str, expected: list[str]) -> None:
    assert logged(start, "", "--log-level", level) == expected


def test_the_applications_own_logging_stands(start: Start) -> None:
    lines = logged(start, AS_BASIC_CONFIG.format(level="WARNING"))
    assert lines == ["INFO app: before", "APP WARNING warning"]


def test_a_handler_without_a_level_leaves_the_usual_one(start: Start) -> None:
    lines = logged(start, "logging.basicConfig()")
    assert "WARNING:app:warning" in lines
    assert not any("fang_threaded" in line for line in lines)  # INFO; the level of the root logger is WARNING


def test_a_level_that_is_given_is_that_of_our_own_loggers(start: Start) -> None:
    lines = logged(start, AS_BASIC_CONFIG.format(level="WARNING"), "--log-level", "info")
    assert lines == ["INFO app: before", "APP WARNING warning", f"APP INFO {STARTED}", f"APP INFO {STOPPED}"]


def test_an_import_that_fails_is_told_whatever_the_logging(start: Start) -> None:
    process = start("worker", "app:pool", app="import logging\nlogging.basicConfig(level='CRITICAL')\n1 / 0\n")
    out, err = process.communicate(timeout=PATIENT)
    assert (process.returncode, out) == (1, "")
    assert err == "fang: importing app failed at app.py:3: ZeroDivisionError: division by zero\n"
