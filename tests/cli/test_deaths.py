"""When a supervisor gives up: too many deaths within a minute, or too many in a row soon after a start."""

from fang_cli.supervisor.deaths import FOR_EACH, ROW_ENDS_AFTER, SOON, WITHIN, Deaths

MOST = FOR_EACH * 3  # of two processes


def gives_up_at(deaths: Deaths, every: float, *, soon: bool, most: int = 1_000) -> int | None:
    for count in range(1, most + 1):
        if deaths.are_too_many(count * every, 2, soon=soon):
            return count
    return None


def test_many_within_a_minute_are_too_many_whenever_they_died() -> None:
    for soon in (False, True):
        deaths = Deaths()
        assert gives_up_at(deaths, 1.0, soon=soon) == MOST
        assert str(deaths) == f"{MOST} times within 60 s"


def test_a_process_that_dies_whenever_it_has_started_is_given_up_however_long_it_takes_to_start() -> None:
    for every in (7.5 + SOON, WITHIN, ROW_ENDS_AFTER):
        deaths = Deaths()
        assert gives_up_at(deaths, every, soon=True) == MOST
        assert str(deaths) == f"{MOST} times in a row, soon after they were started"


def test_deaths_of_processes_that_have_worked_for_a_while_are_not_in_a_row() -> None:
    deaths = Deaths()
    assert gives_up_at(deaths, 7.5, soon=False) is None
    for now in range(100_000, 100_000 + 100 * 10, 10):  # one in ten has worked for a while
        assert not deaths.are_too_many(float(now), 2, soon=now % 100 > 0)


def test_a_row_ends_after_some_minutes_without_a_death() -> None:
    assert gives_up_at(Deaths(), ROW_ENDS_AFTER + 1, soon=True) is None
