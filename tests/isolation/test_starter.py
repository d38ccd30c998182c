"""The turns in which children start."""

import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from types import SimpleNamespace
from typing import NoReturn

import pytest

from fang_core import TaskState
from fang_core.runs.interrupt import Interrupt
from fang_isolation import starting
from fang_isolation.process import ChildProcess
from fang_isolation.starting import AT_ONCE, Starter
from tests.isolation.conftest import START, Bench
from tests.modes import eventually
from tests.patience import PATIENT


@dataclass
class Slow:
    """A child that has started when the test says so."""

    running_since: float = 0.0
    is_over: bool = False
    sent: threading.Event = field(default_factory=threading.Event)

    def send(self) -> None:
        self.sent.set()


@pytest.fixture
def starter() -> Iterator[Starter]:
    made = Starter()
    yield made
    made.close()


def test_so_many_children_start_at_once_and_the_next_when_one_has_started_or_ended(starter: Starter) -> None:
    several = [Slow() for _ in range(AT_ONCE + 2)]
    for each in several:
        starter.start(each)
    *first, second, third = several
    assert all(each.sent.wait(10) for each in first)
    assert not second.sent.wait(0.1)
    first[0].running_since = 1.0
    assert second.sent.wait(10)
    assert not third.sent.wait(0.1)
    first[1].is_over = True
    assert third.sent.wait(10)


def test_children_that_never_start_do_not_hold_up_the_others_for_ever(
    starter: Starter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(starting, "PATIENCE", 0.2)
    several = [Slow() for _ in range(AT_ONCE + 1)]
    for each in several:
        starter.start(each)
    assert several[-1].sent.wait(10)


def test_without_a_thread_for_its_start_a_run_fails_and_the_next_one_tries_it_again(
    starter: Starter, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused, later = Slow(), Slow()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", lambda _: _fail(RuntimeError("no thread left")))
        with pytest.raises(RuntimeError, match="no thread left"):
            starter.start(refused)
    starter.start(later)
    assert later.sent.wait(10)
    assert not refused.sent.is_set(), "its run has failed"


def test_a_child_that_cannot_be_started_for_whatever_reason_does_not_end_the_turns(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = ChildProcess.call
    failing = [MemoryError("no memory for a child"), TypeError("no executable")]
    monkeypatch.setattr(ChildProcess, "call", lambda *given: call(*given) if not failing else _fail(failing.pop()))
    bench.pool(number_of_workers=1)
    bench.ran("tell")
    assert not failing


def test_a_run_has_its_result_where_the_system_has_no_thread_to_clean_up_after_its_child(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.pool(number_of_workers=1, max_tasks_per_child=1)
    with monkeypatch.context() as patch:
        asked = threading.Event()

        def refuse(*_: object, **__: object) -> NoReturn:
            asked.set()
            raise RuntimeError("can't start new thread")

        patch.setattr("fang_isolation.process.threading", SimpleNamespace(Lock=threading.Lock, Thread=refuse))
        assert bench.ended(bench.insert("nothing", max_retries=0), TaskState.FINISHED, TaskState.FAILED).attempt == 1
        assert asked.is_set()
    bench.ran("tell")
    assert not [row for row in bench.state.tasks.values() if row.state is not TaskState.FINISHED]


def _fail(error: Exception) -> NoReturn:
    raise error


def test_a_run_that_is_cancelled_before_its_child_starts_ends_at_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[object] = []
    monkeypatch.setattr(Starter, "start", lambda _, errand: held.append(errand))
    pool = bench.pool(number_of_workers=1)
    task = bench.insert("hang")
    eventually(lambda: bool(held))
    bench.interrupt(pool, task, Interrupt.CANCELLED, "not wanted")
    assert bench.ended(task, TaskState.CANCELLED).error_message == "not wanted"
    held[0].send()  # type: ignore[attr-defined]
    assert held[0].process.pid is None  # type: ignore[attr-defined]


@pytest.mark.both_modes  # asyncio cancels the task that waits, and does not wait for the child
def test_a_run_that_is_cancelled_while_its_child_starts_ends_at_once_and_the_child_when_it_has_started(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server that forks may be slow, on a busy machine or since it imports the library."""
    start, has_begun, may_go_on = ChildProcess.start, threading.Event(), threading.Event()
    started: list[ChildProcess] = []

    def start_slowly(process: ChildProcess) -> None:
        has_begun.set()
        assert may_go_on.wait(10 * PATIENT)
        start(process)
        started.append(process)

    monkeypatch.setattr(ChildProcess, "start", start_slowly)
    monkeypatch.setattr(ChildProcess, "throw_away", lambda _: None)  # it is told before there is anything to kill
    path = bench.path()
    pool = bench.pool(number_of_workers=1, stuck_after=timedelta(hours=1))
    task = bench.insert("tell", path=path)
    assert has_begun.wait(PATIENT)
    bench.interrupt(pool, task, Interrupt.CANCELLED, "not wanted")
    try:
        assert bench.ended(task, TaskState.CANCELLED).error_message == "not wanted"
    finally:
        may_go_on.set()
    eventually(lambda: bool(started) and started[0].exit_code == -signal.SIGKILL, START)
    assert not path.exists()
    monkeypatch.undo()
    started[0].throw_away()


def test_a_run_whose_child_cannot_be_started_fails_and_says_why(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Starter, "start", lambda *_: _fail(RuntimeError("can't start new thread")))
    pool = bench.pool(number_of_workers=1)
    task = bench.insert("tell", max_retries=0)
    assert bench.ended(task, TaskState.FAILED).error_message == "RuntimeError: can't start new thread"
    assert not pool._lifetime.in_flight
