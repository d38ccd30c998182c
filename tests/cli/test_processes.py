"""`fang worker --processes` as users meet it: real processes, real signals, code that changes on disk."""

import os
import re
import signal
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fang_threaded import Runnable
from tests.cli.test_serving import get
from tests.cli.test_worker import COMMAND, ENVIRONMENT, Process, insert, rows
from tests.cli.test_worker_importing import AS_PROCESS_1, may_unshare
from tests.modes import eventually
from tests.patience import PATIENT
from tests.ports import free_port
from tests.processes import ends

APP = """
    import asyncio, ctypes, os, time
    from datetime import timedelta
    from pathlib import Path
    from fang_async import AsyncQueue, AsyncRunnable, AsyncWorkerPool
    from fang_core import current_run
    from fang_threaded import Events, Queue, Runnable, WorkerPool

    VERSION = "{version}"
    HERE = os.environ["FANG_PROCESS"], os.getpid()
    LEASE = timedelta(seconds={lease})

    def say(*words):
        os.write(1, (" ".join(map(str, words)) + "\\n").encode())

    class Tells(Events):
        def pool_started(self, pool_id):
            say("ready", VERSION, *HERE)
        def pool_stopped(self, pool_id):
            say("stopped", VERSION, *HERE)

    class Chore(Runnable):
        n: int = 0
        seconds: float = 0
        def run(self, queue):
            say("runs", self.n, *HERE)
            time.sleep(self.seconds)
            say("ran", self.n, *HERE)

    class HoldsTheGil(Runnable):
        def run(self, queue):
            say("crashes", current_run().task.crashes, *HERE)
            if not current_run().task.crashes:
                library, mutex = ctypes.PyDLL(None), ctypes.create_string_buffer(256)
                for _ in range(2):  # the second call waits for ever, whatever signals come
                    library.pthread_mutex_lock(mutex)

    class Hoards(Runnable):
        megabytes: int
        def run(self, queue):
            hoard.append(bytes([1]) * self.megabytes * 2**20)
            say("hoards", *HERE)

    class LeavesAnOrphan(Runnable):
        def run(self, queue):
            import subprocess
            child = subprocess.Popen(["sh", "-c", "sleep 0.1 & echo left $!"])
            child.wait()

    class Light(AsyncRunnable):
        async def run(self, queue):
            say("light ran", *HERE)

    hoard = []
    pool = WorkerPool(Queue({url!r}), number_of_workers=2, lease=LEASE, events=[Tells()])
    asynchronous = AsyncWorkerPool(AsyncQueue({url!r}), task_type="light", events=[Tells()])
"""
"""It tells where it runs: the number of its process, and the pid."""


class Chore(Runnable):
    """These stand for the classes of the module above, to insert its tasks."""

    n: int = 0
    seconds: float = 0

    def run(self, queue: Any) -> None: ...


class HoldsTheGil(Chore): ...


class Hoards(Chore):
    megabytes: int = 0


class LeavesAnOrphan(Chore): ...


class Supervised:
    """A supervisor, and what its processes have said."""

    def __init__(self, directory: Path, url: str, *options: str, text: str = APP, lease: float = 60) -> None:
        self._directory = directory
        self._url = url
        self._lease = lease
        self.write(text=text)
        self.process = Process(directory, "app:pool", *options)
        self.heard: list[str] = []
        self.pids: set[int] = set()

    @property
    def pid(self) -> int:
        return self.process.popen.pid

    def write(self, version: str = "old", text: str = APP) -> None:
        (self._directory / "app.py").write_text(
            textwrap.dedent(text).format(url=self._url, version=version, lease=self._lease)
        )

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def hear(self, pattern: str) -> re.Match[str]:
        """The next line that matches; what comes before it is kept in ``heard``."""
        while True:
            line = self.process.next_line(pattern)
            self.heard.append(line)
            if ready := re.fullmatch(r"ready \S+ \d+ (\d+)", line):
                self.pids.add(int(ready[1]))
            if found := re.fullmatch(pattern, line):
                return found

    def all_ready(self, processes: int) -> dict[int, int]:
        """The pid of each process, by its number."""
        found = [self.hear(r"ready \S+ (\d+) (\d+)") for _ in range(processes)]
        pids = {int(each[1]): int(each[2]) for each in found}
        assert len(pids) == processes
        return pids

    def stop(self) -> str:
        """Stops it in order, and hears the rest; what it has logged."""
        self.send(signal.SIGTERM)
        code, log = self.process.end()
        assert code == 0, log
        self.heard += self.process.rest()
        return log

    def close(self) -> None:
        self.process.close()
        assert all(ends(pid) for pid in self.pids)


Start = Callable[..., Supervised]


@pytest.fixture
def start(tmp_path: Path, url: str) -> Iterator[Start]:
    started: list[Supervised] = []

    def start(*options: str, processes: int = 2, **app: Any) -> Supervised:
        started.append(Supervised(tmp_path, url, "--processes", str(processes), *options, **app))
        return started[-1]

    yield start
    for supervised in started:
        supervised.close()


# Running, and dying ---------------------------------------------------------------------------------------------------


def test_each_process_runs_all_pools_and_says_which_it_is_and_one_port_answers_for_all(start: Start, url: str) -> None:
    port = free_port()
    supervised = start("app:asynchronous", "--metrics-port", str(port), "--probe-port", str(port))
    for _ in range(4):
        supervised.hear(r"ready old [12] \d+")
    assert len(supervised.pids) == 2
    insert(url, *(Chore(n=n, seconds=0.2) for n in range(8)))
    ran = [supervised.hear(r"ran (\d+) ([12]) \d+") for _ in range(8)]
    assert sorted(int(each[1]) for each in ran) == list(range(8))

    eventually(lambda: get(port, "/ready") == (200, "ok\n"))
    assert get(port, "/live") == (200, "ok\n")
    status, text = get(port, "/metrics")
    assert status == 200
    for number in (1, 2):
        assert f'fang_process_up{{process="{number}"}} 1.0' in text
        assert f'fang_workers{{process="{number}",pool="app:pool"}} 2.0' in text
        assert f'fang_workers{{process="{number}",pool="app:asynchronous"}} 1.0' in text
        assert f'python_info{{process="{number}",' in text  # the default registry of each process
    chores = r'^fang_tasks_started_total{process="[12]",kind="Chore",task_type="common"} (\S+)$'
    assert sum(map(float, re.findall(chores, text, re.MULTILINE))) == 8
    assert "\nfang_database_up 1.0\n" in text
    assert '\nfang_task_type_workers{task_type="light"} 2.0\n' in text

    log = supervised.stop()
    assert f"fang_cli: http://127.0.0.1:{port} answers /live, /ready, /metrics" in log
    lines = log.splitlines()
    assert {line.split()[2] for line in lines} == {"INFO", "[1]", "[2]"}
    for number in (1, 2):
        assert sum(f" [{number}] INFO fang_threaded: pool " in line for line in lines) == 2
        assert sum(f"fang_cli: process {number}, pid" in line for line in lines) == 2  # is ready, has ended
    assert rows(url) == [(0,)]


def test_who_dies_is_started_again_and_its_sibling_stays(start: Start, url: str) -> None:
    supervised = start()
    pids = supervised.all_ready(2)
    os.kill(pids[1], signal.SIGKILL)
    again = supervised.hear(r"ready old 1 (\d+)")
    assert int(again[1]) != pids[1]
    log = supervised.stop()
    assert len(supervised.pids) == 3
    assert f"WARNING fang_cli: process 1, pid {pids[1]}, was killed by SIGKILL; another one takes its place" in log


@pytest.mark.long
def test_it_gives_up_in_the_end(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes die while their interpreter starts: so this takes seconds."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, pathlib\n"
        f"if 'FANG_PROCESS' in os.environ and pathlib.Path({str(tmp_path / 'dying')!r}).exists():\n"
        "    os.kill(os.getpid(), 11)\n"
    )
    monkeypatch.setitem(ENVIRONMENT, "PYTHONPATH", f"{tmp_path}{os.pathsep}{ENVIRONMENT['PYTHONPATH']}")
    supervised = start(processes=4)
    pids = supervised.all_ready(4)
    (tmp_path / "dying").touch()
    for pid in pids.values():
        os.kill(pid, signal.SIGKILL)
    code, log = supervised.process.end(50)
    assert code == 70, log
    assert "ERROR fang_cli: processes died 25 times within 60 s: giving up, all stop" in log


def test_what_cannot_start_ends_at_once_with_the_code_of_a_worker(start: Start, tmp_path: Path) -> None:
    supervised = start("app:pools")
    code, log = supervised.process.end()
    assert code == 2, log
    assert re.search(r"^\[[12]\] fang: module app has no attribute pools$", log, re.MULTILINE)
    assert re.search(r"ERROR fang_cli: process [12], pid \d+, ended with exit code 2 before any process", log)


def test_a_database_that_is_away(start: Start, tmp_path: Path, url: str) -> None:
    supervised = Supervised(tmp_path, "postgresql://127.0.0.1:1/app", "--processes", "2", "--wait-for-database", "0.2")
    try:
        code, log = supervised.process.end()
    finally:
        supervised.close()
    assert code == 69, log


# Signals --------------------------------------------------------------------------------------------------------------


def test_a_second_signal_ends_all_at_once(start: Start, url: str) -> None:
    supervised = start()
    supervised.all_ready(2)
    insert(url, *(Chore(seconds=60) for _ in range(4)))
    for _ in range(4):
        supervised.hear(r"runs .*")

    popen = supervised.process.popen
    eventually(lambda: popen.poll() is not None or popen.send_signal(signal.SIGINT))
    code, log = supervised.process.end()
    assert code == -signal.SIGINT, log
    assert len(rows(url)) == 5


def test_a_run_that_does_not_end_in_time_leaves_75(start: Start, url: str, tmp_path: Path) -> None:
    supervised = start(text=APP.replace("lease=LEASE", "grace_period=timedelta(seconds=0.5)"))
    supervised.all_ready(2)
    insert(url, Chore(seconds=60))
    supervised.hear(r"runs .*")
    supervised.send(signal.SIGTERM)
    code, log = supervised.process.end()
    assert code == 75, log
    assert re.search(r"WARNING fang_cli: process [12], pid \d+, ended with exit code 75", log)


@pytest.mark.long
def test_one_more_and_one_less(start: Start) -> None:
    supervised = start(processes=1)
    supervised.all_ready(1)
    supervised.send(signal.SIGTTIN)
    added = supervised.hear(r"ready old 2 (\d+)")
    supervised.send(signal.SIGTTOU)
    supervised.hear(f"stopped old 2 {added[1]}")
    assert ends(int(added[1]))
    supervised.stop()
    assert len(supervised.pids) == 2


def test_a_reload_runs_new_code_in_one_process_after_the_other(start: Start, url: str) -> None:
    supervised = start()
    old = supervised.all_ready(2)
    insert(url, *(Chore(n=n, seconds=0.5) for n in range(4)))
    supervised.hear(r"runs .*")
    supervised.write("new")
    supervised.send(signal.SIGHUP)
    supervised.heard.clear()
    supervised.hear(f"stopped old 2 {old[2]}")
    steps = [" ".join(line.split()[:3]) for line in supervised.heard if line.startswith(("ready", "stopped"))]
    assert steps == ["ready new 1", "stopped old 1", "ready new 2", "stopped old 2"]
    insert(url, Chore(n=4))
    supervised.hear(r"ran 4 .*")
    eventually(lambda: not rows(url)[:-1])  # what an old process gave back may run after it
    supervised.stop()
    ran = Counter(line.split()[1] for line in supervised.heard if line.startswith("ran"))
    assert set(ran.values()) == {1}
    assert rows(url) == [(0,)]


def test_signals_that_come_before_the_supervisor_can_take_them_are_kept(tmp_path: Path, start: Start) -> None:
    settings = tmp_path / "pyproject.toml"
    os.mkfifo(settings)
    supervised = start(processes=1)
    with settings.open("w"):  # once the command reads its settings, and waits for the end of the file
        supervised.send(signal.SIGTTIN)
        supervised.send(signal.SIGHUP)
        settings.unlink()
    supervised.hear(r"ready old 2 \d+")
    log = supervised.stop()
    assert "SIGTTIN: one process more, 2 in all" in log
    assert "SIGHUP" in log


@pytest.mark.long
def test_a_reload_of_code_that_is_broken_leaves_the_processes_alone(start: Start, url: str) -> None:
    supervised = start()
    supervised.all_ready(2)
    supervised.write(text="    1 / 0\n")
    supervised.send(signal.SIGHUP)
    assert supervised.process.popen.stderr is not None
    for line in supervised.process.popen.stderr:
        if "the reload is given up: processes with the former code go on: 2" in line:
            break
    insert(url, Chore(n=1))
    supervised.hear(r"ran 1 .*")
    supervised.stop()
    assert len(supervised.pids) == 2


# Watching -------------------------------------------------------------------------------------------------------------


def test_who_holds_the_gil_past_its_lease_is_killed_and_its_task_charged(start: Start, url: str) -> None:
    supervised = start(lease=3)
    supervised.all_ready(2)
    insert(url, HoldsTheGil())
    hung = supervised.hear(r"crashes 0 (\d) (\d+)")
    again = supervised.hear(r"crashes 1 (\d) (\d+)")
    assert again[1] != hung[1]  # its sibling has rescued it, before another one had started
    supervised.hear(rf"ready old {hung[1]} \d+")
    log = supervised.stop()
    assert len(supervised.pids) == 3
    killed = re.search(rf"ERROR fang_cli: process {hung[1]}, pid {hung[2]}, has run no Python code for ([\d.]+) s", log)
    assert killed
    assert float(killed[1]) >= 3
    assert rows(url) == [(0,)]


@pytest.mark.long
def test_who_has_run_its_tasks_is_replaced_and_none_is_lost(start: Start, url: str) -> None:
    supervised = start("--max-tasks", "20", processes=1)
    supervised.all_ready(1)
    for first in (0, 40):
        insert(url, *(Chore(n=n, seconds=0.02) for n in range(first, first + 40)))
        supervised.hear(r"ready old 1 \d+")
    eventually(lambda: not rows(url)[:-1])
    supervised.stop()
    ran = [int(line.split()[1]) for line in supervised.heard if line.startswith("ran")]
    assert sorted(ran) == list(range(80))


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_who_takes_too_much_memory_is_replaced(start: Start, url: str) -> None:
    supervised = start("--max-memory", "300M", processes=1)
    supervised.all_ready(1)
    insert(url, Hoards(megabytes=400))
    hoards = supervised.hear(r"hoards 1 (\d+)")
    supervised.hear(r"ready old 1 \d+")
    supervised.hear(f"stopped old 1 {hoards[1]}")
    log = supervised.stop()
    assert re.search(rf"process 1, pid {hoards[1]}, is replaced: it takes \d+ MiB", log)


# The end of the supervisor --------------------------------------------------------------------------------------------


def test_when_the_supervisor_is_killed_the_processes_stop_in_order(start: Start, url: str) -> None:
    supervised = start()
    supervised.all_ready(2)
    insert(url, *(Chore(n=n, seconds=1) for n in range(4)))
    for _ in range(4):
        supervised.hear(r"runs .*")
    supervised.send(signal.SIGKILL)
    assert all(ends(pid) for pid in supervised.pids)
    code, log = supervised.process.end()
    assert code == -signal.SIGKILL
    assert log.count("WARNING fang_cli: the supervisor has gone: stopping") == 2
    assert rows(url) == [(0,)]


@pytest.mark.long
def test_a_supervisor_that_was_stopped_for_a_while_kills_nobody(start: Start, url: str) -> None:
    supervised = start(lease=3)
    supervised.all_ready(2)
    supervised.send(signal.SIGSTOP)
    insert(url, *(Chore(n=n, seconds=2) for n in range(8)))  # for longer than the lease
    for _ in range(8):
        supervised.hear(r"ran .*")
    supervised.send(signal.SIGCONT)
    log = supervised.stop()
    assert len(supervised.pids) == 2
    assert "ERROR" not in log


@may_unshare
def test_as_process_1_it_reaps_what_runs_leave_behind(tmp_path: Path, url: str) -> None:
    (tmp_path / "app.py").write_text(textwrap.dedent(APP).format(url=url, version="old", lease=60))
    program = [*AS_PROCESS_1, sys.executable, "-P", *COMMAND, "app:pool", "--processes", "1"]
    pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(program, cwd=tmp_path, env=ENVIRONMENT, **pipes) as process:
        try:
            insert(url, LeavesAnOrphan())
            for line in process.stdout:
                if line.startswith("left"):
                    break
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            first = int(children[0])
            theirs = Path(f"/proc/{first}/task/{first}/children")
            eventually(lambda: len(theirs.read_text().split()) == 1)
            os.kill(first, signal.SIGTERM)
            _, log = process.communicate(timeout=PATIENT)
            assert process.returncode == 0, log
        finally:
            process.kill()
