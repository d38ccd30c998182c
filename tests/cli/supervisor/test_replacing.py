"""How a supervisor replaces processes, told the time."""

import signal
from typing import Any

import pytest

from fang_cli.supervisor.process_group import READY_WITHIN
from tests.cli.supervisor.told import replaces

# Replacing ------------------------------------------------------------------------------------------------------------


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
