"""What `fang worker` makes of its options before it supervises."""

from math import inf
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from fang_cli import commands
from fang_cli.supervisor import supervisor
from fang_cli.supervisor.process import LONGEST_REPORT, Process
from fang_cli.supervisor.process_group import EXIT_GAVE_UP, Limits, ProcessGroup
from fang_cli.worker import command as worker_command
from fang_cli.worker.serving import NO_PORTS, Ports
from tests.cli.supervisor.told import Fake


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    calls: list[Any] = []
    monkeypatch.setattr(supervisor, "run_supervisor", lambda *arguments, reloading: calls.append(arguments) or 0)
    return calls


def worker(*arguments: str, **environment: str) -> Any:
    return CliRunner().invoke(commands.fang, ["worker", *arguments], env=environment)


def test_processes_get_the_other_options(asked: list[Any]) -> None:
    result = worker("a:b", "c:d", "--log-level", "debug", "--log-tracebacks", "--processes", "3", "--max-tasks", "9")
    assert result.exit_code == 0, result.output
    arguments = ["a:b", "c:d", "--wait-for-database", "30.0", "--log-level", "debug", "--log-tracebacks"]
    assert asked == [(arguments, 3, Limits(tasks=9), "debug", NO_PORTS)]


def test_the_ports_are_the_supervisors(asked: list[Any]) -> None:
    result = worker("a:b", "--processes", "2", "--bind", "::", FANG_METRICS_PORT="9187", FANG_PROBE_PORT="9188")
    assert result.exit_code == 0, result.output
    assert asked[0][-1] == Ports("::", 9187, 9188)
    assert supervisor._of_processes(asked[0][-1]) == ["--metrics-port", "0", "--probe-port", "0"]
    assert supervisor._of_processes(NO_PORTS) == []


def test_the_environment_may_say_it(asked: list[Any]) -> None:
    result = worker("a:b", FANG_PROCESSES="4", FANG_MAX_TASKS="5", FANG_MAX_MEMORY="1g")
    assert result.exit_code == 0, result.output
    assert asked == [(["a:b", "--wait-for-database", "30.0"], 4, Limits(5, 1 << 30), None, NO_PORTS)]


@pytest.mark.parametrize(
    ("size", "count"), [("1000", 1000), ("2k", 2048), ("500M", 500 << 20), ("2GiB", 2 << 30), ("3GB", 3 << 30)]
)
def test_sizes(asked: list[Any], size: str, count: int) -> None:
    assert worker("a:b", "--processes", "1", "--max-memory", size).exit_code == 0
    assert asked[0][2] == Limits(inf, count)


@pytest.mark.parametrize("size", ["", "0", "0M", "-1", "1.5G", "lots", "5T"])
def test_wrong_sizes(asked: list[Any], size: str) -> None:
    result = worker("a:b", "--processes", "1", "--max-memory", size)
    assert (result.exit_code, asked) == (2, [])
    assert result.stderr == f"fang: --max-memory must be a size such as 500M or 2G, not {size!r}\n"


@pytest.mark.parametrize("options", [["--max-tasks", "5"], ["--max-memory", "5M"]])
def test_limits_belong_to_processes(options: list[str]) -> None:
    result = worker("a:b", *options)
    assert result.exit_code == 2
    message = "--max-tasks and --max-memory need --processes N: its supervisor replaces a process"
    assert result.stderr == f"fang: {message}\n"


def test_windows_is_refused(asked: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_command, "sys", SimpleNamespace(platform="win32"))
    result = worker("a:b", "--processes", "2")
    assert (result.exit_code, asked) == (2, [])
    assert "--processes needs signals, which Windows lacks" in result.stderr


def test_memory_cannot_be_watched_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor.os.path, "exists", lambda path: False)
    result = worker("a:b", "--processes", "2", "--max-memory", "5M")
    assert result.exit_code == 2
    assert result.stderr.startswith("fang: --max-memory is not supported here")


def test_a_descriptor_that_is_not_there() -> None:
    result = worker("a:b", FANG_SUPERVISOR_FD="here")
    assert result.exit_code == 2
    assert result.stderr == "fang: FANG_SUPERVISOR_FD is set by `fang worker --processes` alone: unset it\n"


def test_a_crew_that_has_just_given_up_starts_no_other_process() -> None:
    started: list[int] = []

    def spawn(number: int, generation: int, now: float) -> Process:
        if number == 1:
            raise OSError("no more processes")
        started.append(number)
        return Fake(number, number, generation, now)

    group = ProcessGroup(spawn, 2, Limits())
    for _ in range(14):
        group._deaths.are_too_many(0.0, 2)
    group.look(1.0, 0.0)
    assert group.code == EXIT_GAVE_UP
    assert started == []
    assert group.has_ended


def test_bytes_that_are_no_report_do_not_pile_up() -> None:
    process = Fake(101, 1, 0, 0.0)
    for _ in range(4):
        process.theirs.sendall(b"x" * (LONGEST_REPORT // 2))
        assert process.read(0.0)
    assert len(process._unread) <= LONGEST_REPORT
    process.theirs.sendall(b"\n")
    process.tells()
    assert process.is_ready
    process.close()
