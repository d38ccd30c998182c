"""`fang dev`: one command from nothing to a task that runs, with its page; and nothing is left of it."""

import http.client
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from fang_cli.dev import command
from fang_cli.web.listening import listen
from tests.cli.invoking import fang
from tests.cli.test_worker import ENVIRONMENT
from tests.patience import PATIENT
from tests.processes import ends

APP = """
    import os
    from fang_threaded import Queue, Runnable, WorkerPool

    class Hello(Runnable):
        def run(self, queue):
            print("hello from", os.getpid(), flush=True)

    queue = Queue(os.environ["DATABASE_URL"])
    pool = WorkerPool(queue)
    if "FANG_PROCESS" in os.environ:
        queue.insert_task(Hello())
"""


@contextmanager
def developing(directory: Path, *options: str, **environment: str) -> "Iterator[subprocess.Popen[str]]":
    """Runs `fang dev`, and has it end with the block at the latest."""
    with subprocess.Popen(
        [sys.executable, "-m", "fang_cli", "dev", "app:pool", "--port", "0", *options],
        cwd=directory,
        env={**ENVIRONMENT, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as started:
        try:
            yield started
        finally:
            started.send_signal(signal.SIGINT)


def test_it_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # without a pyproject.toml
    done = fang("dev")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "fang: name the pools, as in fang dev app.tasks:pool; or set pools in [tool.fang]\n"
    there = {"jinja2", "starlette", "uvicorn", "asyncpg"}
    monkeypatch.setattr(command, "find_spec", lambda name: name if name in there else None)
    done = fang("dev", "app:pool")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "fang: fang dev needs more: pip install 'fang-tasks[cli,embedded,reload]'\n"


def test_a_port_that_is_taken_is_said_before_anything_starts() -> None:
    with listen("127.0.0.1", 0) as taken:
        done = fang("dev", "app:pool", "--port", str(taken.getsockname()[1]))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("fang: cannot listen on 127.0.0.1 port ")


def test_a_task_runs_the_page_shows_it_and_ctrl_c_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(textwrap.dedent(APP))
    with developing(tmp_path, DATABASE_URL="postgresql://elsewhere/not_this_one") as started:
        assert started.stdout is not None
        heard = []
        for line in started.stdout:
            heard.append(line)
            if line.startswith("hello from "):
                break
        text = "".join(heard)
        page = re.search(r"^page {6}(http://127\.0\.0\.1:\d+)/$", text, re.MULTILINE)
        database = re.search(r"^database  (postgresql://fang@/fang\?\S+) \(gone at the end\)$", text, re.MULTILINE)
        assert page, text + (started.stderr.read() if started.stderr else "")
        assert database, text
        status, body = get(page[1], "/tasks/new")
        assert (status, "Hello" in body) == (200, True)  # the page knows the application's classes
        socket_dir = Path(parse_qs(urlsplit(database[1]).query)["host"][0])
        postmaster = int((socket_dir.parent / "data" / "postmaster.pid").read_text().split()[0])
        # The worker imports its libraries while the server starts; the page leaves it the processors.
        worker = int(heard[-1].split()[-1])
        assert ticks_at_start(worker) <= ticks_at_start(postmaster)
        started.send_signal(signal.SIGINT)
        _, log = started.communicate(timeout=PATIENT)
    assert started.returncode == 0, log
    assert ends(postmaster, 0)
    assert not socket_dir.parent.exists()
    with pytest.raises(ConnectionRefusedError):  # the page's process had the socket too
        get(page[1], "/")
    assert not re.search(r"WARNING|ERROR|Traceback", log), log


def ticks_at_start(pid: int) -> int:
    """Returns when a process was started, in ticks since the machine was."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


def get(address: str, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=PATIENT)
    try:
        connection.request("GET", path)
        reply = connection.getresponse()
        return reply.status, reply.read().decode()
    finally:
        connection.close()


FILE_APP = """
    import os
    from fang_backends import queue_of
    from fang_threaded import Runnable, WorkerPool

    class Hello(Runnable):
        def run(self, queue):
            print("hello", flush=True)

    queue = queue_of(os.environ["FANG_DATABASE_URL"])
    pool = WorkerPool(queue)
    if "FANG_PROCESS" in os.environ:
        queue.insert_task(Hello())
"""


def test_a_sqlite_file_takes_the_place_of_a_postgres_and_stays(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(textwrap.dedent(FILE_APP))
    with developing(tmp_path, "--sqlite", "tasks.db") as started:
        assert started.stdout is not None
        heard = []
        for line in started.stdout:
            heard.append(line)
            if line == "hello\n":
                break
        text = "".join(heard)
        page = re.search(r"^page {6}(http://127\.0\.0\.1:\d+)/$", text, re.MULTILINE)
        assert page, text + (started.stderr.read() if started.stderr else "")
        assert f"database  sqlite:///{tmp_path}/tasks.db (it stays)\n" in text
        status, body = get(page[1], "/tasks/new")
        assert (status, "Hello" in body) == (200, True)
        started.send_signal(signal.SIGINT)
        _, log = started.communicate(timeout=PATIENT)
    assert started.returncode == 0, log
    assert (tmp_path / "tasks.db").exists()
    assert not re.search(r"WARNING|ERROR|Traceback", log), log


def test_one_database_is_enough() -> None:
    done = fang("dev", "app:pool", "--data", ".fang", "--sqlite", "tasks.db")
    assert (done.returncode, done.stderr) == (2, "fang: give --data or --sqlite, not both\n")
