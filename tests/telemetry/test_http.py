"""The small HTTP server, as clients meet it, and the answers to probes."""

import http.client
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from fang_core.errors import UsageError
from fang_core.pool.telling.health import NOT_RUNNING, PoolHealth
from fang_telemetry import probes
from fang_telemetry.http import MOST_CONNECTIONS, MOST_OF_A_PAGE, Incoming, Reply, TelemetryServer
from tests.patience import PATIENT

HERE = "127.0.0.1"


class Served:
    def __init__(self) -> None:
        self.gate = threading.Event()
        self.entered = threading.Semaphore(0)
        self.server = TelemetryServer(
            {"/ok": lambda: Reply(200, b"fine\n"), "/waits": self.waits, "/bad": self.bad}, HERE, 0
        )
        self.server.start()

    def waits(self) -> Reply:
        self.entered.release()
        self.gate.wait()
        return Reply(200, b"at last\n")

    def bad(self) -> Reply:
        raise LookupError("no such figure")

    def ask(self, path: str, method: str = "GET") -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(HERE, self.server.port)
        try:
            connection.request(method, path)
            reply = connection.getresponse()
            return reply.status, reply.read()
        finally:
            connection.close()


@pytest.fixture
def served() -> Iterator[Served]:
    served = Served()
    yield served
    served.gate.set()
    served.server.close()


def test_it_answers_get_and_head_of_its_pages_alone(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    assert served.ask("/ok") == (200, b"fine\n")
    assert served.ask("/ok?x=1", "HEAD") == (200, b"")
    assert served.ask("/etc/passwd")[0] == 404
    assert served.ask("/ok", "POST")[0] == 501
    assert served.ask("/bad") == (500, b"see the log\n")
    assert [record.getMessage() for record in caplog.records] == ["the answer to /bad could not be made"]


def test_clients_that_send_nothing_and_pages_that_wait_hold_up_neither_others_nor_the_end(served: Served) -> None:
    silent = [socket.create_connection((HERE, served.server.port)) for _ in range(3)]
    waiting = threading.Thread(target=served.ask, args=("/waits",), daemon=True)
    waiting.start()
    served.entered.acquire()
    assert served.ask("/ok") == (200, b"fine\n")
    served.server.close()
    served.server.close()
    with pytest.raises(ConnectionRefusedError):
        served.ask("/ok")
    served.gate.set()
    waiting.join()
    for connection in silent:
        connection.close()


def test_a_page_that_hangs_keeps_no_other_from_being_answered(served: Served) -> None:
    waiting = [threading.Thread(target=served.ask, args=("/waits",), daemon=True) for _ in range(MOST_OF_A_PAGE)]
    for thread in waiting:
        thread.start()
    for _ in waiting:
        served.entered.acquire()
    for _ in range(MOST_CONNECTIONS):
        assert served.ask("/waits?again") == (503, b"others wait for this page already\n")
    assert served.ask("/ok") == (200, b"fine\n")
    served.gate.set()
    for thread in waiting:
        thread.join()
    assert served.ask("/waits") == (200, b"at last\n")


def test_more_clients_than_it_answers_are_turned_away(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fang_telemetry.http.SLOWEST", PATIENT)
    silent = [socket.create_connection((HERE, served.server.port)) for _ in range(MOST_CONNECTIONS)]
    with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
        served.ask("/ok")
    for connection in silent:
        connection.close()


def test_a_client_that_sends_a_byte_now_and_then_is_not_waited_for() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"GET /")
        assert Incoming(ours, time.monotonic() + PATIENT).read(3) == b"GET"
        with pytest.raises(TimeoutError):
            Incoming(ours, time.monotonic()).read(2)


def test_a_port_that_is_taken_is_a_usage_error(served: Served) -> None:
    with pytest.raises(UsageError, match=rf"no port to listen on at {HERE}:{served.server.port}: [\w ]+$"):
        TelemetryServer({}, HERE, served.server.port)
    with pytest.raises(UsageError, match=r"no port to listen on at 192\.0\.2\.1:0"):
        TelemetryServer({}, "192.0.2.1", 0)


class Fake:
    def __init__(self, health: PoolHealth) -> None:
        self._health = health

    def health(self) -> PoolHealth:
        return self._health


def test_probes_say_which_pool_is_at_fault_and_why() -> None:
    well, late, dead = PoolHealth(True, True), PoolHealth(True, False, "it stops"), PoolHealth(False, False, "hangs")
    pools: dict[str, Any] = {"app:a": Fake(well), "app:b": Fake(NOT_RUNNING), "app:c": Fake(late)}
    pages = probes.pages(pools)
    assert pages["/live"]() == Reply(200, b"ok\n")
    assert pages["/ready"]() == Reply(503, b"app:b: it is not running\napp:c: it stops\n")
    pools["app:d"] = Fake(dead)
    assert pages["/live"]() == Reply(503, b"app:d: hangs\n")
    assert probes.ready({"app:a": Fake(well)}) == Reply(200, b"ok\n")
