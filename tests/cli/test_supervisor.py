"""What a supervisor decides, told the time; no process runs. test_processes.py has real ones."""

import signal
import socket
from collections.abc import Iterator
from math import inf
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from fang_cli import commands
from fang_cli.supervisor import supervisor
from fang_cli.supervisor.answering import Asked
from fang_cli.supervisor.process import LONGEST_REPORT, Process
from fang_cli.supervisor.process_group import EXIT_GAVE_UP, READY_WITHIN, Limits, ProcessGroup
from fang_cli.supervisor.report import Report
from fang_cli.worker import command as worker_command
from fang_cli.worker.serving import NO_PORTS, Ports

LEASE, GRACE = 60.0, 25.0


class Fake(Process):
    """A process that notes the signals that it is sent, and takes as much memory as it is told to."""

    def __init__(self, pid: int, number: int, generation: int, now: float) -> None:
        ours, self.theirs = socket.socketpair()
        super().__init__(pid, ours, number, generation, now)
        self.sent: list[signal.Signals] = []
        self.taken = 0

    def _send(self, number: signal.Signals) -> None:
        self.sent.append(number)

    def memory(self) -> int:
        return self.taken

    def tells(
        self, *, ready: bool = True, leaving: bool = False, ended_runs: int = 0, now: float = 0.0, port: int = 0
    ) -> None:
        self.theirs.sendall(Report(ready, leaving, ended_runs, LEASE, GRACE, port).line())
        assert self.read(now)

    def close(self) -> None:
        self.theirs.close()
        self.channel.close()


class Told:
    """A group that is told the time, and each process that it has started, in order."""

    def __init__(self, processes: int, limits: Limits, *, is_reloading: bool = False) -> None:
        self.now = 1000.0
        self.started: list[Fake] = []
        self.fails = False
        self.group = ProcessGroup(self._spawn, processes, limits, is_reloading=is_reloading)

    def _spawn(self, number: int, generation: int, now: float) -> Process:
        if self.fails:
            raise OSError("no more processes")
        self.started.append(Fake(100 + len(self.started), number, generation, now))
        return self.started[-1]

    def look(self, seconds: float = 0.5, watched: float | None = None) -> None:
        self.now += seconds
        self.group.look(self.now, seconds if watched is None else watched)

    def starts(self) -> list[Fake]:
        """Those that one look starts."""
        before = len(self.started)
        self.look()
        return self.started[before:]

    def ends(self, process: Fake, code: int = 0) -> None:
        assert self.group.ended(process.pid, code, self.now) is process

    def all_ready(self) -> list[Fake]:
        """Starts all, and has them report that they are ready."""
        started = self.starts()
        for process in started:
            process.tells()
        self.look()
        return started


@pytest.fixture
def make() -> Iterator[Any]:
    made: list[Told] = []

    def make(processes: int = 2, *, is_reloading: bool = False, **limits: float) -> Told:
        made.append(Told(processes, Limits(**limits), is_reloading=is_reloading))
        return made[-1]

    yield make
    for told in made:
        for process in told.started:
            process.close()


# The first processes --------------------------------------------------------------------------------------------------


def test_it_has_settled_when_each_of_the_first_is_ready_or_has_ended(make: Any) -> None:
    told = make(2, is_reloading=True)
    first, second = told.starts()
    assert not told.group.has_settled
    first.tells(ready=False)
    second.tells()
    assert not told.group.has_settled
    told.ends(first, 1)  # its code cannot be imported
    assert told.group.has_settled


# Starting again -------------------------------------------------------------------------------------------------------


def test_what_dies_is_started_again_later_each_time_and_its_siblings_stay(make: Any) -> None:
    told = make()
    first, sibling = told.all_ready()
    waits = []
    for _ in range(6):
        told.ends(first, -signal.SIGKILL)
        died = told.now
        while not (started := told.starts()):
            assert told.now < died + 10
        waits.append(told.now - died)
        (first,) = started
        assert first.number == 1
    assert waits[0] <= 0.5 < waits[-1]
    assert sibling.sent == []


def test_a_process_that_has_lived_for_a_minute_is_started_again_at_once(make: Any) -> None:
    told = make(1)
    for _ in range(8):
        (process,) = told.all_ready()
        process.tells()
        told.look(60, watched=0)
        told.ends(process, 1)
    assert len(told.started) == 8


def test_it_gives_up_when_processes_die_too_often_and_stops_the_others(make: Any) -> None:
    told = make(3)
    *dying, healthy = told.all_ready()
    deaths = 0
    while not healthy.sent:
        assert deaths < 100
        for process in dying:
            told.ends(process, -signal.SIGSEGV)
            deaths += 1
            if healthy.sent:
                break
        dying = told.starts()
        while not healthy.sent and len(dying) < 2:
            dying += told.starts()
    assert deaths == 5 * (3 + 1)
    assert healthy.sent == [signal.SIGTERM]
    for process in tuple(told.group):
        told.ends(process)
    assert told.group.has_ended
    assert told.group.code == 70


@pytest.mark.parametrize(("lives", "code"), [(8, 0), (3, 70)])
def test_deaths_count_for_a_minute_unless_they_come_soon_after_a_start(make: Any, lives: int, code: int) -> None:
    told = make(1)
    told.look()
    for _ in range(50):
        process = told.started[-1]
        process.tells()
        told.look(20)  # it takes that long to be ready
        told.look(lives)
        told.ends(process, 1)
        if told.group.code:
            break
        told.look(8)
    assert told.group.code == code


def test_an_outage_of_the_database_during_which_processes_start_is_outlived(make: Any) -> None:
    told = make(1)
    (first,) = told.starts()
    first.tells()
    told.look(20)
    told.ends(first, -signal.SIGKILL)
    for _ in range(50):
        told.look(40)  # for so long a new one waits for the database, and before it is started
        told.ends(told.started[-1], 69)
    assert told.group.code == 0


def test_a_process_that_cannot_be_started_is_tried_again(make: Any) -> None:
    told = make(1)
    told.fails = True
    assert told.starts() == []
    told.fails = False
    told.look(1)
    assert len(told.started) == 1


def test_an_error_before_any_process_was_ready_ends_all_with_its_code(make: Any) -> None:
    told = make()
    first, second = told.starts()
    told.ends(first, 2)
    assert second.sent == [signal.SIGTERM]
    told.ends(second, -signal.SIGTERM)  # as the kernel does before Python has a handler
    assert told.group.has_ended
    assert told.group.code == 2


# Hung -----------------------------------------------------------------------------------------------------------------


def test_who_is_silent_for_its_lease_is_killed_and_started_again(make: Any) -> None:
    told = make()
    hung, lives = told.all_ready()
    while not hung.sent:
        told.look(1)
        lives.tells()
        assert hung.silent < LEASE + 2
    assert hung.sent == [signal.SIGKILL]
    assert hung.silent >= LEASE
    told.look(5, watched=5)
    assert (hung.sent, lives.sent) == ([signal.SIGKILL], [])
    told.ends(hung, -signal.SIGKILL)
    assert [process.number for process in told.starts()] == [1]


def test_nobody_is_killed_for_a_time_in_which_nobody_watched(make: Any) -> None:
    told = make()
    for _ in range(10):
        told.look(3600, watched=1)
    assert all(process.sent == [] for process in told.started)


def test_a_process_that_is_not_ready_may_take_its_time(make: Any) -> None:
    told = make(1)
    (process,) = told.starts()
    process.tells(ready=False)
    for _ in range(600):
        told.look(1)
    assert process.sent == []


@pytest.mark.parametrize(("is_loaded", "within"), [(True, GRACE + 3), (False, 5)])
def test_who_does_not_stop_is_killed_soon_after_its_grace_period(make: Any, is_loaded: bool, within: float) -> None:
    told = make(1)
    (process,) = told.starts()
    if is_loaded:
        process.tells()
    told.group.stop(told.now)
    told.look(within - 0.1, watched=0)
    assert process.sent == [signal.SIGTERM]
    told.look(0.2, watched=0)
    assert process.sent == [signal.SIGTERM, signal.SIGKILL]
    told.ends(process, -signal.SIGKILL)
    assert told.group.code == (75 if is_loaded else 0)


def test_who_ends_by_itself_has_time_for_that_but_not_forever(make: Any) -> None:
    told = make(1)
    (process,) = told.all_ready()
    process.tells(leaving=True, now=told.now)
    told.look(9.9, watched=LEASE)
    assert process.sent == []
    told.look(0.2)
    assert process.sent == [signal.SIGKILL]
    told.ends(process, -signal.SIGKILL)
    assert len(told.starts()) == 1


# Replacing ------------------------------------------------------------------------------------------------------------


def replaces(told: Told, old: Fake) -> Fake:
    """Sees a whole replacement through: at each of its steps nothing else may happen."""
    (new,) = told.starts()
    assert new.number == old.number
    assert old.sent == []
    assert told.starts() == []
    new.tells()
    assert told.starts() == []
    assert old.sent == [signal.SIGTERM]
    told.look(20)
    told.ends(old)
    return new


def test_a_reload_replaces_one_after_the_other(make: Any) -> None:
    told = make(3)
    processes = told.all_ready()
    told.group.reload(told.now)
    for process in processes:
        replaces(told, process)
    assert told.starts() == []
    assert len(told.started) == 6


def test_a_reload_that_fails_leaves_the_processes_as_they_are(make: Any) -> None:
    told = make()
    told.all_ready()
    told.group.reload(told.now)
    (new,) = told.starts()
    told.ends(new, 1)
    told.look(3600, watched=0)
    assert len(told.started) == 3
    assert all(process.sent == [] for process in told.started)
    told.group.reload(told.now)
    assert len(told.starts()) == 1


def test_a_reload_whose_new_process_hangs_in_its_import_is_given_up(
    make: Any, caplog: pytest.LogCaptureFixture
) -> None:
    told = make()
    told.all_ready()
    told.group.reload(told.now)
    (new,) = told.starts()
    told.look(READY_WITHIN - 1, watched=1)
    assert new.sent == []
    told.look(1, watched=1)
    assert new.sent == [signal.SIGKILL]
    told.ends(new, -signal.SIGKILL)
    told.look(3600, watched=0)
    assert len(told.started) == 3
    assert all(process.sent == [] for process in told.started if process is not new)
    assert f"is not ready after {READY_WITHIN:.0f} s: killed" in caplog.text
    assert "the reload is given up" in caplog.text


def test_a_process_that_replaces_none_may_take_its_time_to_start(make: Any) -> None:
    told = make(1)
    (only,) = told.starts()
    told.look(10 * READY_WITHIN, watched=1)
    assert only.sent == []


def test_another_reload_during_one_starts_over(make: Any) -> None:
    told = make()
    first, second = told.all_ready()
    told.group.reload(told.now)
    half_done = replaces(told, first)
    (early,) = told.starts()
    assert early.number == 2
    told.group.reload(told.now)
    assert early.sent == [signal.SIGTERM]
    told.ends(early)
    replaces(told, half_done)
    replaces(told, second)
    assert told.starts() == []


def test_the_new_process_takes_the_place_of_an_old_one_that_dies_meanwhile(make: Any) -> None:
    told = make(1)
    (old,) = told.all_ready()
    told.group.reload(told.now)
    (new,) = told.starts()
    told.ends(old, -signal.SIGKILL)
    told.look(10)
    new.tells()
    told.look(10)
    assert told.started == [old, new]
    assert new.sent == []


def test_who_has_run_its_tasks_is_replaced(make: Any) -> None:
    told = make(tasks=100)
    first, second = told.all_ready()
    first.tells(ended_runs=99)
    assert told.starts() == []
    first.tells(ended_runs=110)
    replaces(told, first)
    assert told.starts() == []
    assert second.sent == []


def test_not_all_are_replaced_after_as_many_tasks(make: Any) -> None:
    told = make(20, tasks=1000)
    limits = {process.tasks_limit for process in told.all_ready()}
    assert len(limits) == 20
    assert all(1000 <= limit <= 1100 for limit in limits)


def test_who_takes_too_much_memory_is_replaced(make: Any) -> None:
    told = make(memory=500)
    first, second = told.all_ready()
    first.taken, second.taken = 501, 500
    replaces(told, first)
    assert told.starts() == []


def test_a_limit_that_is_too_low_from_the_start_is_none(make: Any, caplog: pytest.LogCaptureFixture) -> None:
    told = make(1, memory=500)
    (process,) = told.starts()
    process.taken = 501
    process.tells()
    for _ in range(3):
        assert told.starts() == []
    assert [record.levelname for record in caplog.records] == ["ERROR"]


def test_a_replacement_that_fails_is_tried_again_later(make: Any) -> None:
    told = make(1, tasks=10)
    (process,) = told.all_ready()
    process.tells(ended_runs=20)
    (new,) = told.starts()
    told.ends(new, 69)
    told.look(29, watched=0)
    assert len(told.started) == 2
    told.look(2, watched=0)
    assert len(told.started) == 3
    assert process.sent == []


# More, fewer, none ----------------------------------------------------------------------------------------------------


def test_one_more_and_one_less(make: Any) -> None:
    told = make(1)
    told.all_ready()
    told.group.add()
    (added,) = told.all_ready()
    assert added.number == 2
    told.group.remove(told.now)
    assert added.sent == [signal.SIGTERM]
    told.ends(added)
    told.group.remove(told.now)  # the last one stays
    told.look()
    assert len(told.started) == 2
    assert told.started[0].sent == []


def test_removing_a_place_in_the_middle_of_its_replacement(make: Any) -> None:
    told = make()
    _, second = told.all_ready()
    told.group.reload(told.now)
    first_again = replaces(told, told.started[0])
    (new,) = told.starts()
    told.group.remove(told.now)
    assert second.sent == new.sent == [signal.SIGTERM]
    new.tells()
    told.look()
    told.ends(new)
    told.ends(second)
    assert told.starts() == []
    assert first_again.sent == []


def test_a_stop_reaches_all_of_them(make: Any) -> None:
    told = make()
    told.all_ready()
    told.group.reload(told.now)
    (new,) = told.starts()
    told.group.stop(told.now)
    assert all(process.sent == [signal.SIGTERM] for process in told.started)
    new.tells()
    assert told.starts() == []
    for process, code in zip(told.started, (0, 75, 0), strict=True):
        assert not told.group.has_ended
        told.ends(process, code)
    assert told.group.has_ended
    assert told.group.code == 75
    assert told.starts() == []


def test_processes_of_others_are_none_of_its_own(make: Any) -> None:
    assert make().group.ended(1, 0, 0.0) is None


# Reports --------------------------------------------------------------------------------------------------------------


def test_reports_may_come_in_pieces_and_from_a_later_version(make: Any) -> None:
    told = make(1)
    (process,) = told.starts()
    line = Report(True, False, 7, LEASE, GRACE).line()
    process.theirs.sendall(b'what is this?\n{"ready": true}\n' + line[:10])
    assert process.read(0.0)
    assert process.report is None
    process.theirs.sendall(line[10:].replace(b"}", b', "news": [1]}') + b'{"re')
    assert process.read(0.0)
    assert process.report == Report(True, False, 7, LEASE, GRACE)
    assert process.read(0.0)  # nothing is there
    process.theirs.close()
    assert not process.read(0.0)


def test_who_is_asked_about_metrics_and_probes(make: Any) -> None:
    told = make(2)
    first, second = told.starts()
    first.tells(port=7)
    assert told.group.asked() == [Asked("1", 7, True), Asked("2", 0, True)]
    second.tells(port=8)
    told.look()
    told.group.reload(told.now)
    (successor,) = told.starts()
    assert told.group.asked() == [Asked("1", 7, True), Asked("2", 8, True)]  # that of the successor says nothing yet
    successor.tells(port=9)
    told.look()
    assert told.group.asked() == [Asked("1", 9, True), Asked("2", 8, True), Asked("1 ending", 7, False)]
    told.ends(first)
    assert told.group.asked() == [Asked("1", 9, True), Asked("2", 8, True)]


# While somebody works on the code -------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [1, 2])
def test_broken_code_waits_for_its_next_change(make: Any, code: int) -> None:
    told = make(1, is_reloading=True)
    (broken,) = told.starts()
    told.ends(broken, code)
    for _ in range(100):
        assert told.starts() == []
    assert not told.group.has_ended
    told.group.reload(told.now, "app.py changed")
    assert [process.number for process in told.starts()] == [1]


def test_a_database_that_is_away_ends_it_as_ever(make: Any) -> None:
    told = make(1, is_reloading=True)
    (first,) = told.starts()
    told.ends(first, 69)
    assert told.group.code == 69  # as without --reload: nothing has ever worked
    assert told.group.has_ended


def test_what_dies_too_often_waits_for_the_next_change(make: Any) -> None:
    told = make(1, is_reloading=True)
    (process,) = told.all_ready()
    for _ in range(9):
        told.ends(process, -signal.SIGKILL)
        while not (started := told.starts()):
            pass
        (process,) = started
    told.ends(process, -signal.SIGKILL)
    for _ in range(100):
        assert told.starts() == []
    told.group.reload(told.now, "app.py changed")
    assert len(told.starts()) == 1


def test_a_change_does_not_wait_for_the_runs_of_former_code(make: Any) -> None:
    told = make(1, is_reloading=True)
    told.all_ready()
    for _ in range(2):
        told.group.reload(told.now, "app.py changed")
        (successor,) = told.starts()
        successor.tells()
        told.look()
    assert [process.sent for process in told.started] == [[signal.SIGTERM], [signal.SIGTERM], []]
    told.ends(told.started[0])
    told.ends(told.started[1], 75)
    assert told.starts() == []


# The command ----------------------------------------------------------------------------------------------------------


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
