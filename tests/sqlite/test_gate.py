"""Tests the gate in front of the write lock: between the threads of a process, and between processes."""

import fcntl
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fang_sqlite.connections.gate import Gate, _Pair, _Waiter
from tests.forking import Forked
from tests.patience import PATIENT

HOLDS = """
import sys, pathlib
from fang_sqlite.connections.gate import Gate
gate = Gate(pathlib.Path(sys.argv[1]))
assert gate.enter(60)
print("in", flush=True)
sys.stdin.readline()
gate.leave()
print("left", flush=True)
sys.stdin.readline()
"""

TAKES_TURNS = """
import sys, pathlib
from fang_sqlite.connections.gate import Gate
gate = Gate(pathlib.Path(sys.argv[1]))
me, journal, times = sys.argv[2], open(sys.argv[3], "a"), int(sys.argv[4])
print("ready", flush=True)
sys.stdin.readline()
for _ in range(times):
    assert gate.enter(60)
    journal.write(me)
    journal.flush()
    gate.leave()
print("done", flush=True)
"""


@pytest.fixture
def gates(tmp_path: Path) -> Iterator[Callable[[], Gate]]:
    """Makes gates of one file, as the queues of several processes have them."""
    made: list[Gate] = []

    def make() -> Gate:
        made.append(Gate(tmp_path / "tasks.db-fang"))
        return made[-1]

    yield make
    for gate in made:
        gate.close()


def holder(directory: Path) -> Forked:
    """Starts a process that has the gate."""
    process = Forked("-c", HOLDS, str(directory))
    assert process.stdout.readline() == "in\n"
    return process


def test_one_at_a_time_has_the_gate(gates: Callable[[], Gate]) -> None:
    first, second = gates(), gates()
    for gate, other in ((first, second), (second, first)) * 3:
        assert gate.enter(0)
        assert not other.enter(0)
        gate.leave()
        gate.leave()  # leaving twice is allowed
        assert other.enter(PATIENT)
        other.leave()


def test_one_who_waits_comes_in_when_the_other_leaves(gates: Callable[[], Gate]) -> None:
    first, second = gates(), gates()
    assert first.enter(0)
    came = threading.Event()
    thread = threading.Thread(target=lambda: second.enter(PATIENT) and came.set())
    thread.start()
    assert not came.wait(0.05)
    first.leave()
    assert came.wait(PATIENT)
    thread.join()
    assert not first.enter(0)


def test_one_who_gives_up_leaves_the_gate_to_the_others(gates: Callable[[], Gate]) -> None:
    first, second, third = gates(), gates(), gates()
    assert first.enter(0)
    assert not second.enter(0.01)
    assert not second.enter(0.01)
    first.leave()
    assert third.enter(PATIENT)
    assert not second.enter(0.01)
    third.leave()
    assert second.enter(PATIENT)


def test_without_a_thread_to_wait_on_it_does_not_wait(
    gates: Callable[[], Gate], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    first, second = gates(), gates()
    assert first.enter(0)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert not second.enter(PATIENT)
    first.leave()
    assert second.enter(PATIENT)


def test_a_gate_whose_files_somebody_removes_makes_them_again(gates: Callable[[], Gate], tmp_path: Path) -> None:
    first, second = gates(), gates()
    for gate in (first, second):
        assert gate.enter(0)
        gate.leave()
    for path in (tmp_path / "tasks.db-fang").iterdir():
        path.unlink()
    (tmp_path / "tasks.db-fang").rmdir()
    assert first.enter(0)
    assert not second.enter(0)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_death_of_a_process_frees_its_gate(
    gates: Callable[[], Gate], tmp_path: Path, number: signal.Signals
) -> None:
    process = holder(tmp_path / "tasks.db-fang")
    gate = gates()
    assert not gate.enter(0)
    os.kill(process.pid, number)
    assert gate.enter(PATIENT)
    process.communicate()


def test_of_a_process_that_is_stopped_nobody_waits_for_longer_than_it_wants(
    gates: Callable[[], Gate], tmp_path: Path
) -> None:
    process = holder(tmp_path / "tasks.db-fang")
    os.kill(process.pid, signal.SIGSTOP)
    gate = gates()
    assert not gate.enter(0.05)
    os.kill(process.pid, signal.SIGCONT)
    process.stdin.write("\n")
    process.stdin.flush()
    assert process.stdout.readline() == "left\n"
    assert gate.enter(PATIENT)
    process.communicate()


def test_a_child_neither_has_nor_keeps_the_gate_of_its_parent(gates: Callable[[], Gate]) -> None:
    gate, other = gates(), gates()
    assert gate.enter(0)
    (may_end, end), (has_tried, tried) = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(end)
        code = 1 if gate.enter(0.01) else 0
        gate.leave()
        os.write(tried, b"!")
        os.read(may_end, 1)
        os._exit(code)
    os.read(has_tried, 1)
    assert not other.enter(0)
    gate.close()  # as if the parent had died
    assert other.enter(PATIENT)
    os.close(end)
    assert os.waitpid(pid, 0)[1] == 0
    for descriptor in (may_end, has_tried, tried):
        os.close(descriptor)


def test_no_process_comes_in_twice_while_another_one_waits_for_its_turn(tmp_path: Path) -> None:
    journal, times = tmp_path / "journal", 300
    processes = [
        Forked("-c", TAKES_TURNS, str(tmp_path / "tasks.db-fang"), me, str(journal), str(times)) for me in "abc"
    ]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    deadline = time.monotonic() + PATIENT
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        assert process.stdout.readline() == "done\n"
        process.communicate()
    assert time.monotonic() < deadline
    turns = journal.read_text()
    assert {me: turns.count(me) for me in "abc"} == dict.fromkeys("abc", times)


@pytest.mark.parametrize("locked", [1, 2], ids=["the first", "both"])
def test_a_signal_that_strikes_among_the_locks_leaves_the_gate_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, locked: int
) -> None:
    struck, other = Gate(tmp_path), Gate(tmp_path)
    taken: list[int] = []
    lock = fcntl.flock

    def flock(file: int, operation: int) -> None:
        lock(file, operation)
        taken.append(operation)
        if len(taken) == locked:
            raise KeyboardInterrupt

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(KeyboardInterrupt):
        struck.enter(0)
    monkeypatch.undo()
    struck.leave()
    assert other.enter(0)
    other.close()
    struck.close()


def test_a_signal_that_strikes_at_the_end_of_a_wait_leaves_the_gate_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, struck, other = Gate(tmp_path), Gate(tmp_path), Gate(tmp_path)
    assert first.enter(0)
    ends_within = _Waiter.ends_within

    def strike(waiter: _Waiter, seconds: float) -> bool:
        first.leave()
        assert ends_within(waiter, PATIENT)
        raise KeyboardInterrupt

    monkeypatch.setattr(_Waiter, "ends_within", strike)
    with pytest.raises(KeyboardInterrupt):
        struck.enter(PATIENT)
    monkeypatch.undo()
    struck.leave()
    assert other.enter(0)
    for each in (first, struck, other):
        each.close()


@pytest.mark.parametrize(("of", "name"), [(_Waiter, "locked"), (_Pair, "close")], ids=["is taken", "is left"])
def test_a_signal_that_strikes_as_a_gate_that_was_waited_for_changes_hands_leaves_it_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, of: type, name: str
) -> None:
    first, struck, other = Gate(tmp_path), Gate(tmp_path), Gate(tmp_path)
    assert first.enter(0)
    ends_within = _Waiter.ends_within

    def once_first_has_left(waiter: _Waiter, seconds: float) -> bool:
        first.leave()
        return ends_within(waiter, seconds)

    def strike(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(_Waiter, "ends_within", once_first_has_left)
    monkeypatch.setattr(of, name, strike)
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012 - where it strikes depends on what does
        assert struck.enter(PATIENT)
        struck.leave()
    monkeypatch.undo()
    struck.leave()
    assert other.enter(0)
    for each in (first, struck, other):
        each.close()
