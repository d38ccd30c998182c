"""What a supervisor starts, starts again and kills, told the time. Real processes: tests/cli/test_processes.py."""

import signal
from typing import Any

import pytest

from tests.cli.supervisor.told import GRACE, LEASE

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
