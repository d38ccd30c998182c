"""The HTTP ports of ``fang worker``, with a supervisor and without, and ``fang healthcheck``, which asks there."""

from collections.abc import Iterator
from contextlib import ExitStack
from http.client import HTTPConnection

import pytest
from click.testing import CliRunner, Result

from fang_cli import commands
from fang_cli.supervisor.answering import Answering, Asked
from fang_cli.targets import Target
from fang_cli.worker.serving import Ports, serving
from fang_telemetry.http import Reply, TelemetryServer
from fang_threaded import MemoryQueue, WorkerPool

HERE = "127.0.0.1"


def get(port: int, path: str) -> tuple[int, str]:
    connection = HTTPConnection(HERE, port)
    try:
        connection.request("GET", path)
        reply = connection.getresponse()
        return reply.status, reply.read().decode()
    finally:
        connection.close()


def closed_port() -> int:
    server = TelemetryServer({}, HERE, 0)
    server.close()
    return server.port


def healthcheck(*arguments: str, **variables: str) -> Result:
    return CliRunner().invoke(commands.fang, ["healthcheck", *arguments], env=variables)


@pytest.fixture
def pool() -> WorkerPool:
    return WorkerPool(MemoryQueue())


def test_probes_before_a_pool_starts_while_it_works_and_after(pool: WorkerPool) -> None:
    with serving([Target("app:pool", pool)], Ports(probes=0), None) as port:
        assert get(port, "/live") == (200, "ok\n")
        assert get(port, "/ready") == (503, "app:pool: it is not running\n")
        with pool:
            pool.drain()
            assert get(port, "/ready") == (200, "ok\n")
        assert get(port, "/ready")[0] == 503
        assert get(port, "/metrics") == (404, "/live\n/ready\n")
    with pytest.raises(ConnectionRefusedError):
        get(port, "/live")


def test_without_a_port_nothing_listens(pool: WorkerPool) -> None:
    with serving([Target("app:pool", pool)], Ports(), None) as port:
        assert port == 0


# A supervisor ---------------------------------------------------------------------------------------------------------


class Processes:
    """Processes that answer what they are told to."""

    def __init__(self) -> None:
        self.stack = ExitStack()
        self.answering = Answering()

    def told(self, *asked: Asked, is_stopping: bool = False, now: float | None = None) -> None:
        self.answering.told(asked, is_stopping=is_stopping, now=self.answering._told_at if now is None else now)

    def answers(self, **replies: Reply) -> int:
        """The port of one more process."""
        server = TelemetryServer({f"/{path}": lambda reply=reply: reply for path, reply in replies.items()}, HERE, 0)  # type: ignore[misc]
        self.stack.callback(server.start().close)
        return server.port


@pytest.fixture
def processes() -> Iterator[Processes]:
    processes = Processes()
    with processes.stack:
        yield processes


OK, NOT = Reply(200, b"ok\n"), Reply(503, b"app:pool: it stops\n")


def test_a_supervisor_is_ready_if_all_its_processes_are(processes: Processes) -> None:
    well, late = processes.answers(ready=OK, live=OK), processes.answers(ready=NOT, live=OK)
    assert processes.answering.ready() == Reply(503, b"no process runs\n")
    processes.told(Asked("1", well, True), Asked("2 ending", late, False))
    assert processes.answering.ready() == OK
    processes.told(Asked("1", well, True), Asked("2", late, True), Asked("3", 0, True))
    assert processes.answering.ready() == Reply(503, b"process 3: it starts\nprocess 2: app:pool: it stops\n")
    assert processes.answering.live() == OK
    processes.told(Asked("1", well, True), is_stopping=True)
    assert processes.answering.ready() == Reply(503, b"the supervisor stops\n")
    assert processes.answering.live() == OK


def test_a_supervisor_lives_if_its_loop_and_its_processes_do(processes: Processes) -> None:
    hung = processes.answers(live=Reply(503, b"app:pool: its event loop has been blocked for 16 s\n"))
    processes.told(Asked("1", hung, True), Asked("2", closed_port(), True))
    faults = b"process 1: app:pool: its event loop has been blocked for 16 s\nprocess 2: it does not answer\n"
    assert processes.answering.live() == Reply(503, faults)
    processes.told(now=processes.answering._told_at - 20)
    assert processes.answering.live().body.startswith(b"the supervisor has not looked at its processes for 2")


def test_the_metrics_of_all_processes_are_one_page_with_the_database_once(processes: Processes) -> None:
    def page(text: str) -> Reply:
        return Reply(200, f"# HELP x Text\n# TYPE x gauge\n{text}".encode())

    first = processes.answers(metrics=page("x 1\n"), database=Reply(200, b"# TYPE due gauge\ndue 7\n"))
    second = processes.answers(metrics=page('x{a="b"} 2\n'), database=Reply(200, b"# TYPE due gauge\ndue 8\n"))
    processes.told(Asked("1", first, True), Asked("2 ending", second, False), Asked("3", 0, True))
    lines = processes.answering.metrics().body.decode().splitlines()
    assert [line for line in lines if not line.startswith("#")] == [
        'fang_process_up{process="1"} 1.0',
        'fang_process_up{process="2 ending"} 1.0',
        'fang_process_up{process="3"} 0.0',
        'x{process="1"} 1',
        'x{process="2 ending",a="b"} 2',
        "due 7",
    ]


# fang healthcheck -----------------------------------------------------------------------------------------------------


def test_healthcheck_says_why_a_worker_is_not_ready(processes: Processes) -> None:
    port = str(processes.answers(ready=NOT, live=OK))
    assert healthcheck("--live", FANG_PROBE_PORT=port).exit_code == 0
    done = healthcheck(FANG_PROBE_PORT=port)
    assert (done.exit_code, done.output) == (
        1,
        f"fang: http://127.0.0.1:{port}/ready answers 503: app:pool: it stops\n",
    )
    assert healthcheck("--url", f"http://127.0.0.1:{port}/live").exit_code == 0


def test_healthcheck_of_what_does_not_answer() -> None:
    port = closed_port()
    done = healthcheck(FANG_PROBE_PORT=str(port))
    assert done.exit_code == 1
    assert done.output.startswith(f"fang: http://127.0.0.1:{port}/ready does not answer: ")


@pytest.mark.parametrize(
    ("arguments", "variables", "message"),
    [
        ([], {}, "give --url, or set FANG_PROBE_PORT"),
        ([], {"FANG_PROBE_PORT": "tcp://10.0.0.1:9187"}, "give --url, or set FANG_PROBE_PORT"),  # Kubernetes' own
        ([], {"FANG_PROBE_PORT": "x"}, "FANG_PROBE_PORT: "),
        (["--url", "https://127.0.0.1/ready"], {}, "--url must be like http://127.0.0.1:9187/ready"),
        (["--url", "http://:x/"], {}, "--url must be like"),
        (["--url", "http://127.0.0.1:1/ready", "--live"], {}, "give --url or --live"),
    ],
)
def test_healthcheck_with_wrong_arguments(arguments: list[str], variables: dict[str, str], message: str) -> None:
    done = healthcheck(*arguments, **variables)
    assert (done.exit_code, done.output.removeprefix("fang: ")[: len(message)]) == (2, message)
