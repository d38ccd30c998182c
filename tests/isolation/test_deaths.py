"""The death of a child: by itself, by somebody's hand, and by the pool's."""

import logging
import os
import signal
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from fang_core import TaskState
from fang_core.runs.interrupt import Interrupt
from fang_isolation.isolation import Errand
from tests.isolation.conftest import Bench, children, is_there
from tests.modes import eventually
from tests.patience import PATIENT
from tests.processes import ends
from tests.stalls import Stalls

SECOND = timedelta(seconds=1)
DEATHS = {"end_with_0": "exit code 0", "end_with_3": "exit code 3", "violate": "SIGSEGV", "kill_itself": "SIGKILL"}


@pytest.mark.parametrize("act", DEATHS)
def test_the_death_of_a_child_is_charged_to_its_task_and_to_no_other(bench: Bench, act: str) -> None:
    pool = bench.pool()
    path = bench.path()
    neighbour = bench.insert("wait_for_go", path=path)
    its_child = bench.told(path)["pid"]
    task = bench.insert(act, max_retries=0)
    eventually(lambda: bench.row(task).crashes == 2)  # the first time it was due again at once
    row = bench.row(task)
    assert (row.state, row.retries) == (TaskState.RETRIED, 0)
    assert row.scheduled_at - row.updated_at == 4 * SECOND
    assert row.error_message == f"crashed: the child process of its run died ({DEATHS[act]}), 2 of 3 times"
    assert [entry["error"] for entry in row.errors][-1] == row.error_message
    Path(f"{path}.go").touch()
    assert bench.ended(neighbour).crashes == 0
    assert bench.told(Path(f"{path}.done"))["pid"] == its_child
    assert bench.harness.stop(pool) == 0


def test_a_task_is_parked_at_the_pools_max_crashes(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.pool(max_crashes=2)
    task = bench.insert("end_with_3")
    row = bench.ended(task, TaskState.FAILED)
    assert row.crashes == 2
    assert row.error_message == "crashed: the child process of its run died (exit code 3), 2 of 2 times"
    told = [(record.levelno, record.getMessage()) for record in caplog.records if str(task.id) in record.getMessage()]
    start = (
        f"task {task.id} ({task.kind}): the child process of run 1 died (exit code 3); crashes charged to it so far:"
    )
    assert told == [
        (logging.WARNING, f"{start} 1; it runs again"),
        (logging.ERROR, f"{start} 2; it has failed for good"),
    ]
    bench.ran("tell")  # the pool goes on


def test_a_child_that_is_killed_between_two_runs_costs_nothing(bench: Bench) -> None:
    bench.pool(number_of_workers=1)
    for seconds in (0.0, 0.5):  # before it is noticed, and after
        pid = bench.ran("tell")["pid"]
        os.kill(pid, signal.SIGKILL)
        time.sleep(seconds)
        task, told = bench.begun("tell")
        assert told["pid"] != pid
        row = bench.ended(task)
        assert (row.attempt, row.retries, row.crashes) == (1, 0, 0)


# Interrupted ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("act", ["hang", "hang_in_c"])
def test_a_child_is_killed_at_the_limit_of_its_run(bench: Bench, act: str, caplog: pytest.LogCaptureFixture) -> None:
    bench.pool(number_of_workers=1)
    task, told = bench.begun(act, timeout=3 * SECOND, max_retries=0)
    began, claimed = time.monotonic(), bench.row(task).claimed_at
    assert claimed is not None
    with Stalls() as stalls:
        row = bench.ended(task, TaskState.FAILED)
    assert time.monotonic() - began < 5 + stalls.seconds
    assert ends(told["pid"], 1)
    assert "asyncio" not in caplog.text  # it says nothing of how the pool waited
    assert row.error_message == "TimedOut: the run took longer than its timeout of 3 s"
    assert row.crashes == 0
    assert row.updated_at - claimed >= 2.9 * SECOND
    bench.ran("tell")


def test_the_limit_of_a_run_counts_from_when_the_child_has_imported_its_class(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FANG_TEST_IMPORT_SECONDS", "2")
    bench.pool(number_of_workers=1)
    quick = bench.insert("tell", name="Slow", timeout=1.5 * SECOND, max_retries=0)
    assert bench.ended(quick, TaskState.FINISHED, TaskState.FAILED).error_message is None


def test_a_child_that_imports_for_long_is_killed_at_the_limit_nevertheless(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FANG_TEST_IMPORT_SECONDS", "2")
    bench.pool(number_of_workers=1)
    path = bench.path()
    late = bench.insert("hang", name="Slow", path=path, timeout=SECOND, max_retries=0)
    told = bench.told(path)
    began = time.monotonic()
    with Stalls() as stalls:
        row = bench.ended(late, TaskState.FAILED)
    assert time.monotonic() - began < 3 + stalls.seconds
    assert row.error_message == "TimedOut: the run took longer than its timeout of 1 s"
    assert ends(told["pid"], 1)


def test_a_run_whose_child_does_not_start_has_failed_and_the_pool_goes_on(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FANG_TEST_IMPORT_SECONDS", "600")
    monkeypatch.setattr("fang_isolation.isolation.STARTS_WITHIN", 3.0)
    bench.pool(number_of_workers=1)
    row = bench.ended(bench.insert("tell", name="Slow", timeout=0.1 * SECOND, max_retries=0), TaskState.FAILED)
    expected = "FangError: the child process of this run took too long to start and to import the task's module"
    assert (row.error_message, row.crashes) == (expected, 0)
    eventually(lambda: not children())
    monkeypatch.setattr("fang_isolation.isolation.STARTS_WITHIN", 60.0)
    bench.ran("tell")


def test_a_child_that_another_run_has_got_is_not_killed_for_the_former(bench: Bench) -> None:
    bench.pool(number_of_workers=1)
    former: list[Any] = []
    released = Errand.release

    def release(errand: Errand) -> bool:
        former.append(errand)
        return released(errand)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Errand, "release", release)
        bench.ran("tell")
    path = bench.path()
    task = bench.insert("wait_for_go", path=path)
    bench.told(path)
    former[0].kill()
    Path(f"{path}.go").touch()
    assert bench.ended(task).crashes == 0


def test_a_child_is_killed_when_its_task_is_cancelled(bench: Bench) -> None:
    pool = bench.pool()
    task, told = bench.begun("hang")
    bench.interrupt(pool, task, Interrupt.CANCELLED, "not wanted")
    row = bench.ended(task, TaskState.CANCELLED)
    assert row.error_message == "not wanted"
    assert ends(told["pid"])


def test_a_child_is_killed_when_somebody_cancels_its_task(bench: Bench) -> None:
    bench.pool()
    task, told = bench.begun("hang")
    bench.harness.call(bench.queue.cancel_task, task.id, "not wanted")
    assert bench.ended(task, TaskState.CANCELLED).error_message == "not wanted"
    assert ends(told["pid"])


def test_a_child_is_killed_when_its_task_is_lost(bench: Bench) -> None:
    pool = bench.pool()
    task, told = bench.begun("hang")
    bench.interrupt(pool, task, Interrupt.LOST)
    assert ends(told["pid"])
    row = bench.row(task)
    assert (row.crashes, row.retries) == (0, 0)


def test_the_programs_of_a_run_are_killed_with_it(bench: Bench) -> None:
    pool = bench.pool()
    task, told = bench.begun("hang_with_a_program")
    bench.interrupt(pool, task, Interrupt.CANCELLED)
    bench.ended(task, TaskState.CANCELLED)
    assert ends(told["program"])


def test_the_programs_of_a_run_end_with_a_child_that_dies_by_itself(bench: Bench) -> None:
    bench.pool()
    task, told = bench.begun("hang_with_a_program")
    os.kill(told["pid"], signal.SIGKILL)
    assert ends(told["program"], 20)
    bench.harness.call(bench.queue.cancel_task, task.id)


def test_an_interruption_while_the_child_starts_ends_the_run(bench: Bench) -> None:
    pool = bench.pool()
    task = bench.insert("hang")
    eventually(lambda: bench.row(task).state is TaskState.IN_PROGRESS)
    eventually(lambda: bool(pool._lifetime.in_flight._runs[task.id].child))
    bench.interrupt(pool, task, Interrupt.CANCELLED, "already")
    bench.ended(task, TaskState.CANCELLED)


# The end of the pool --------------------------------------------------------------------------------------------------


def test_a_run_has_the_grace_period_and_is_then_killed_and_given_back(bench: Bench) -> None:
    pool = bench.pool(grace_period=2 * SECOND)
    path = bench.path()
    quick = bench.insert("wait_for_go", path=path)
    slow, told = bench.begun("hang_in_c")
    bench.told(path)
    stopping = bench.harness.begin(pool.stop)
    bench.harness._pools.remove(pool)
    for number in (signal.SIGINT, signal.SIGTERM):  # of a terminal, or of a system that ends all processes of a service
        os.kill(told["pid"], number)
    Path(f"{path}.go").touch()
    bench.ended(quick)
    assert is_there(told["pid"])
    assert stopping.result(PATIENT) == 0
    row = bench.row(slow)
    assert (row.state, row.attempt, row.retries, row.crashes) == (TaskState.NEW, 1, 0, 0)
    assert ends(told["pid"])
    eventually(lambda: not children())
