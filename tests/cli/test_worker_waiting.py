"""`fang worker` at a database that does not answer yet: how long it waits, and for what it does not."""

import re
import signal
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from textwrap import dedent

import pytest
from click.testing import CliRunner
from sqlalchemy import create_engine

from fang_async import AsyncQueue
from fang_cli.commands import fang
from fang_postgres.urls import address
from fang_threaded import Queue
from tests.cli.test_worker import Heavy, Light, Process, Start, files, insert, rows, start, worker
from tests.proxy import Mode, Proxy

__all__ = ["files", "start"]

POOLS = """
    from fang_async import AsyncQueue, AsyncWorkerPool
    from fang_core import MemoryQueue
    from fang_threaded import Queue, WorkerPool
    threaded = WorkerPool(Queue({url!r}))
    asynchronous = AsyncWorkerPool(AsyncQueue({url!r}))
"""
PORT_1 = "postgresql://127.0.0.1:1/app"


@pytest.fixture
def process(tmp_path: Path) -> Iterator["ProcessAt"]:
    with ExitStack() as stack:
        yield ProcessAt(tmp_path, stack)


class ProcessAt:
    """Starts a `fang worker` with a pool of either mode at a URL."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self._directory = directory
        self._stack = stack

    def __call__(self, url: str, *options: str) -> Process:
        (self._directory / "waits.py").write_text(dedent(POOLS).format(url=url))
        process = Process(self._directory, "waits:threaded", "waits:asynchronous", *options)
        self._stack.callback(process.close)
        return process


def told(process: Process, count: int) -> list[str]:
    """The first lines on its stderr, without their times."""
    assert process.popen.stderr is not None
    return [process.popen.stderr.readline().partition(" fang_cli: ")[2] for _ in range(count)]


def test_it_waits_for_its_database_and_says_so(start: Start, url: str) -> None:
    insert(url, Heavy(), Light())
    with Proxy(url) as proxy:
        proxy.set(Mode.RESET)
        process = start(through=proxy.url)
        waiting = sorted(told(process, 2))
        proxy.set(Mode.PASS)
        process.wait_for("heavy ran", "light ran")
        process.popen.send_signal(signal.SIGTERM)
        code, log = process.end()
    assert code == 0, log
    for line, pool in zip(waiting, ("app:pools.heavy", "app:pools.light"), strict=True):
        assert re.fullmatch(rf"{pool}: the database does not .*; waiting for it, for \d+ s more at most\n", line)
        assert re.search(rf"INFO fang_cli: {pool}: the database answers, after [\d.]+ s\n", log)
    assert rows(url) == [(0,)]


def test_a_server_that_is_starting_is_waited_for_until_a_signal(process: "ProcessAt") -> None:
    with starting_server() as port:
        waits = process(f"postgresql://someone@127.0.0.1:{port}/app")
        lines = told(waits, 2)
        waits.popen.send_signal(signal.SIGTERM)
        code, log = waits.end()
    assert all("the database system is starting up" in line for line in lines), lines
    assert code == 0, log
    assert log.count("\n") == 1  # no pool has started
    assert "stopping: a signal came before all pools had started" in log


def test_a_signal_ends_a_try_that_is_under_way(process: "ProcessAt") -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hosts = ",".join([f"127.0.0.1:{silent.getsockname()[1]}"] * 20)  # 80 s
        waits = process(f"postgresql://{hosts}/app")
        silent.settimeout(20)
        with silent.accept()[0] as one, silent.accept()[0] as other:
            assert one.recv(8)  # they have asked for TLS, and wait for the answer
            assert other.recv(8)
            waits.popen.send_signal(signal.SIGTERM)
            code, log = waits.end()
    assert code == 0, log
    assert log.count("\n") == 1


def test_it_waits_for_a_bounded_time(process: "ProcessAt") -> None:
    code, log = process(PORT_1, "--wait-for-database", "0.2").end()
    assert code == 69
    *waiting, last = log.splitlines()
    assert len(waiting) == 2
    assert re.match(r"fang: waits:(threaded|asynchronous): the database does not answer", last)


def test_what_waiting_cannot_mend_ends_it_at_once(process: "ProcessAt", database_url: str, tmp_path: Path) -> None:
    """Though another's database is waited for: for longer than this test would wait."""
    (tmp_path / "empty.py").write_text(dedent(POOLS).format(url=database_url))
    (tmp_path / "down.py").write_text(dedent(POOLS).format(url=PORT_1))
    code, log = worker(tmp_path, "down:threaded", "down:asynchronous", "empty:threaded", "--wait-for-database", "600")
    assert code == 78, log
    assert log.splitlines()[-1] == "fang: empty:threaded: table fang.fang_tasks is missing: run `fang migrate`"


@pytest.mark.parametrize("seconds", ["-1", "soon", "nan", "inf", "1e12"])
def test_wrong_times(seconds: str) -> None:
    result = CliRunner().invoke(fang, ["worker", "good:pool", "--wait-for-database", seconds])
    assert (result.exit_code, result.stdout) == (2, "")
    assert re.fullmatch(r"fang: --wait-for-database must be .*\n", result.stderr)


def test_each_host_has_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(address, "CONNECT_TIMEOUT", 4)
    hosts = "postgresql://h1,h2,h3/app"
    assert AsyncQueue(hosts).connects_within == 12
    assert Queue(hosts).connects_within == 13
    assert Queue(hosts + "?connect_timeout=7").connects_within == 22
    engine = create_engine("postgresql+psycopg://someone@/app?host=h1:5432&host=h2:5433")
    assert Queue(engine).connects_within == 9
    assert Queue(create_engine("postgresql+psycopg://", creator=lambda: None)).connects_within == 5


@contextmanager
def starting_server() -> Iterator[int]:
    """Answers each connect as Postgres does while it starts; its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_answer, args=(listener,), daemon=True).start()
        yield listener.getsockname()[1]


def _answer(listener: socket.socket) -> None:
    fields = b"SFATAL\0VFATAL\0C57P03\0Mthe database system is starting up\0\0"
    with suppress(OSError):
        while True:
            connection, _ = listener.accept()
            with connection, suppress(OSError, struct.error):
                while struct.unpack("!ii", connection.recv(8))[1] in {80877103, 80877104}:  # asks for SSL, for GSS
                    connection.sendall(b"N")
                connection.sendall(b"E" + struct.pack("!i", len(fields) + 4) + fields)
                connection.recv(1000)
