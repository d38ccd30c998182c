"""The server that forks the children of a pool off, and what is done where there is none."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fang_core import TaskState
from fang_isolation import fork_server
from fang_isolation.fork_server import ForkServer, own_server
from tests.isolation.conftest import Bench, children
from tests.modes import eventually
from tests.processes import ends, parent_of


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ForkServer]:
    """One for this test alone, which imports what the children of a queue in memory need: all that this process has
    imported would take it a second."""
    made = ForkServer()
    monkeypatch.setattr(
        fork_server, "_PRELOADED", fork_server._PRELOADED & {"fang_core", "fang_isolation", "pydantic", "pebble"}
    )
    monkeypatch.setattr(fork_server, "_OWN", made)
    yield made
    made.end()


def begin_to_wait(bench: Bench) -> tuple[Path, int]:
    """A run that waits, and the pid of its child."""
    path = bench.path()
    bench.insert("wait_for_go", path=path)
    pid: int = bench.told(path)["pid"]
    return path, pid


def test_children_are_forked_by_a_process_with_one_thread_that_knows_nothing_of_the_application(
    bench: Bench, server: ForkServer
) -> None:
    bench.pool()
    assert server.pid is not None, "the pool serves a class that is isolated"
    path, child = begin_to_wait(bench)
    assert parent_of(child) == server.pid
    assert len(list(Path(f"/proc/{server.pid}/task").iterdir())) == 1
    line = Path(f"/proc/{server.pid}/cmdline").read_bytes()
    assert b"fang_core.runs.execution" in line
    assert b"tests.isolation" not in line
    Path(f"{path}.go").touch()


def test_children_have_the_environment_of_the_pool_as_it_is_when_they_start(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.pool(number_of_workers=1, max_tasks_per_child=1)
    bench.ran("tell")
    monkeypatch.setenv("FANG_TEST_POOL", "later")
    assert bench.ran("tell_of_environment")["pool"] == "later"
    monkeypatch.delenv("FANG_TEST_POOL")
    assert bench.ran("tell_of_environment")["pool"] is None


def test_children_have_the_mask_of_files_of_the_pool_as_it_is_when_they_start(bench: Bench) -> None:
    bench.pool(number_of_workers=1, max_tasks_per_child=1)
    bench.ran("tell")
    former = os.umask(0o77)
    try:
        assert bench.ran("tell_of_mask")["mask"] == 0o77
    finally:
        os.umask(former)
    assert bench.ran("tell_of_mask")["mask"] == former


def test_a_server_that_hangs_is_replaced(bench: Bench, server: ForkServer, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.pool(number_of_workers=1, max_tasks_per_child=1)
    bench.ran("tell")
    hangs = server.pid
    assert hangs is not None
    os.kill(hangs, signal.SIGSTOP)
    monkeypatch.setattr(fork_server, "ANSWERS_WITHIN", 3.0)
    bench.ran("tell")
    assert ends(hangs)


def test_a_fork_that_finds_no_descriptor_left_keeps_none(server: ForkServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.start()
    opened: list[int] = []
    pipe = os.pipe

    def scarce() -> tuple[int, int]:
        if opened:
            raise OSError(errno.EMFILE, "no descriptor is left")
        opened.extend(pipe())
        return opened[0], opened[1]

    with monkeypatch.context() as patch:
        patch.setattr(os, "pipe", scarce)
        with pytest.raises(OSError, match="no descriptor"):
            server._fork(b"", [])
    for descriptor in opened:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)


def test_a_frozen_application_has_no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ForkServer().is_usable
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    assert not ForkServer().is_usable


def test_entries_of_the_path_that_imports_ignore_do_not_matter(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path, tmp_path])
    compile(fork_server._program(0), "program", "exec")
    assert str(tmp_path) not in fork_server._program(0)


def test_a_server_that_is_killed_takes_no_child_with_it(bench: Bench, server: ForkServer) -> None:
    bench.pool(number_of_workers=2)
    path, child = begin_to_wait(bench)
    former = server.pid
    assert former is not None
    os.kill(former, signal.SIGKILL)
    assert ends(former)
    other = bench.ran("tell")["pid"]  # of another server
    assert other != child
    assert server.pid != former
    Path(f"{path}.go").touch()
    assert bench.told(Path(f"{path}.done"))["pid"] == child
    assert not [row for row in bench.state.tasks.values() if row.crashes]


def test_the_death_of_a_child_without_its_server_is_seen(bench: Bench, server: ForkServer) -> None:
    bench.pool(number_of_workers=1)
    path = bench.path()
    task = bench.insert("wait_for_go", path=path, max_retries=0)
    child = bench.told(path)["pid"]
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    path.unlink()
    os.kill(child, signal.SIGKILL)
    bench.told(path)  # it runs again
    row = bench.row(task)
    assert (row.crashes, row.attempt) == (1, 2)
    assert row.error_message == "crashed: the child process of its run died (exit code 255), 1 of 3 times"
    Path(f"{path}.go").touch()
    bench.ended(task)


def test_a_run_that_kills_its_parent_harms_neither_its_pool_nor_its_neighbours(bench: Bench) -> None:
    pool = bench.pool(number_of_workers=2)
    neighbour, _ = begin_to_wait(bench)
    path = bench.path()
    task = bench.insert("kill_its_parent", path=path)
    assert bench.told(path)["parent"] != os.getpid()
    bench.told(Path(f"{path}.2"))
    for each in (neighbour, Path(f"{path}.2")):
        Path(f"{each}.go").touch()
    assert bench.ended(task).crashes == 0
    bench.told(Path(f"{neighbour}.done"))
    bench.ran("tell")
    assert bench.harness.stop(pool) == 0


@pytest.mark.parametrize("why", ["the system has none", "it does not start"])
def test_without_a_server_each_child_is_a_new_interpreter(
    bench: Bench, server: ForkServer, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    if why == "the system has none":
        server.is_usable = False
    else:
        monkeypatch.setattr(fork_server, "_program", lambda descriptor: "raise SystemExit")
    bench.pool(number_of_workers=1)
    path, child = begin_to_wait(bench)
    assert parent_of(child) == os.getpid()
    assert children() == [child]
    Path(f"{path}.go").touch()
    bench.told(Path(f"{path}.done"))
    path.unlink()
    parked = bench.insert("kill_itself", max_retries=0)
    eventually(lambda: bench.row(parked).crashes == 1)
    assert not server.is_usable


def test_a_server_does_not_fork_if_an_import_has_started_a_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "fang_test_threads.py").write_text(
        "import threading; threading.Thread(target=threading.Event().wait).start()"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(fork_server, "_PRELOADED", frozenset({"fang_isolation"}))
    program = fork_server._program(0).replace("main(0, [", "main(0, ['fang_test_threads', ")
    made = subprocess.Popen([sys.executable, "-c", program + "; import os; os._exit(7)"], stdin=subprocess.DEVNULL)
    assert made.wait(60) == 7


def test_a_fork_of_the_application_does_not_use_the_server_of_its_parent(server: ForkServer) -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(own_server() is server)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert own_server() is server


def test_a_child_that_ends_with_0_under_a_run_is_a_crash(bench: Bench, server: ForkServer) -> None:
    bench.pool(number_of_workers=1, max_crashes=1)
    row = bench.ended(bench.insert("end_with_0"), TaskState.FAILED)
    assert row.error_message == "crashed: the child process of its run died (exit code 0), 1 of 1 times"


def test_a_child_costs_a_fork_and_no_import_of_the_library(bench: Bench, server: ForkServer) -> None:
    bench.pool(number_of_workers=1, max_tasks_per_child=1)
    bench.ran("tell")
    spent = _seconds(server)
    for _ in range(COUNTED):
        bench.ran("tell")
    # Measured: 0.03 s, with the tests' own modules. A new interpreter takes 0.4 s and more.
    each = (_seconds(server) - spent) / COUNTED
    assert each < 0.1, f"a child took {each:.2f} s of a processor"


COUNTED = 5


def _seconds(server: ForkServer) -> float:
    """The processor time of a server and its former children, and of what this process has started before."""
    assert server.pid is not None
    fields = Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()
    before = os.times()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK") + before.children_user + before.children_system


def test_what_all_processes_of_a_service_are_sent_ends_neither_a_server_nor_a_child(
    bench: Bench, server: ForkServer
) -> None:
    bench.pool(number_of_workers=2)
    path, child = begin_to_wait(bench)
    former = server.pid
    assert former is not None
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        for pid in (former, child):
            os.kill(pid, number)
    bench.ran("tell")
    assert server.pid == former
    Path(f"{path}.go").touch()
    assert bench.told(Path(f"{path}.done"))["pid"] == child


def test_a_child_has_no_descriptor_of_its_server_or_of_another_child(bench: Bench, server: ForkServer) -> None:
    """So the second child has as many as the first one, which was alone."""
    bench.pool(number_of_workers=2)
    (one, first), (two, second) = begin_to_wait(bench), begin_to_wait(bench)
    assert {parent_of(first), parent_of(second)} == {server.pid}
    assert len(os.listdir(f"/proc/{first}/fd")) == len(os.listdir(f"/proc/{second}/fd"))
    for path in (one, two):
        Path(f"{path}.go").touch()
