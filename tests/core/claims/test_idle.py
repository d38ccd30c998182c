"""How an idle pool sleeps once it has announced that it waits."""

from datetime import timedelta
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fang_core import SleepParams
from fang_core.claims.idle import LATE, SETTLING, TOLD_AHEAD, Idle

HOUR = 3600.0
POLL = SleepParams(
    min_sleep_period=timedelta(hours=1), max_sleep_period=timedelta(hours=1), sleep_step=timedelta(seconds=0)
)
NOBODY: frozenset[int] = frozenset()


def running(*xids: int) -> frozenset[int]:
    return frozenset(xids)


def idle() -> Idle:
    return Idle(POLL, listens=False, chance=lambda: 0.5)


# Idle -----------------------------------------------------------------------------------------------------------------


def test_before_any_announcement_it_polls() -> None:
    assert idle().sleep(running(1, 2), 0.0) == HOUR


def test_an_announcement_is_followed_by_two_looks_though_nobody_runs() -> None:
    waits = idle()
    waits.announced(0.0)
    assert [waits.sleep(NOBODY, mono) for mono in (0.0, 0.01, 0.1)] == [0.005, pytest.approx(0.09), HOUR]


def test_a_pool_that_is_woken_between_its_looks_sees_who_gets_an_id_late() -> None:
    waits = idle()
    waits.announced(0.0)
    assert [waits.sleep(NOBODY, mono) for mono in (0.0, 0.002)] == [0.005, pytest.approx(0.098)]
    assert waits.sleep(running(5), 0.1) < 0.05  # its statement had read before that no pool waits
    assert waits.sleep(NOBODY, 0.11) == HOUR


def test_it_settles_until_those_have_ended_that_ran_at_either_look() -> None:
    waits = idle()
    waits.announced(0.0)
    snapshots = [running(5), running(5, 6), running(6, 7), running(6, 7), running(7)]
    sleeps = [
        waits.sleep(snapshot, mono) for snapshot, mono in zip(snapshots, (0, LATE, 0.12, 0.13, 0.14), strict=True)
    ]
    assert all(seconds < 0.1 for seconds in sleeps[:4])
    assert sleeps[4] == HOUR  # 7 got its id after the second look, and has read the announcement


def test_a_transaction_that_stays_is_left_to_the_poll_after_a_second() -> None:
    waits = idle()
    waits.announced(100.0)
    mono, looks = 100.0, 0
    while (seconds := waits.sleep(running(5), mono)) < HOUR:
        mono += seconds
        looks += 1
    assert SETTLING <= mono - 100.0 <= SETTLING + 0.25
    assert looks < 20


def test_two_looks_follow_however_long_a_claim_takes() -> None:
    waits = idle()
    waits.announced(0.0)
    assert [waits.sleep(NOBODY, mono) for mono in (7.0, 14.0)] == [0.005, HOUR]


def test_a_new_announcement_settles_anew() -> None:
    waits = idle()
    for mono in (0.0, 50.0):
        waits.announced(mono)
        assert waits.sleep(running(5), mono) == pytest.approx(0.005)
        assert waits.sleep(running(5), mono + SETTLING) == HOUR


periods = (st.integers(1, 1_000) | st.integers(10_000, 100_000)).map(lambda ms: timedelta(milliseconds=ms))
snapshots = st.frozensets(st.integers(1, 50)).map(lambda xids: running(*xids))


@given(
    st.tuples(periods, periods).map(sorted),
    periods,
    st.lists(st.tuples(st.sampled_from(["announced", "found", "sleep"]), snapshots, st.floats(0, 2)), max_size=60),
    st.floats(0, 1),
    st.booleans(),
)
def test_sleeps_are_bounded(
    least_and_most: list[timedelta], step: timedelta, calls: list[tuple[str, str, float]], chance: float, listens: bool
) -> None:
    least, most = least_and_most
    params = SleepParams(min_sleep_period=least, max_sleep_period=most, sleep_step=step)
    waits, mono = Idle(params, listens=listens, chance=lambda: chance), 0.0
    for call, snapshot, later in calls:
        mono += later
        if call == "announced":
            waits.announced(mono)
        elif call == "found":
            waits.found()
        else:
            seconds = waits.sleep(snapshot, mono)
            assert min(0.005, 0.9 * least.total_seconds()) <= seconds <= max(0.25, 1.1 * most.total_seconds())
            if listens:
                assert seconds <= TOLD_AHEAD - 1


@given(st.floats(0, 1), st.lists(st.tuples(st.floats(0, 30), st.floats(0, 1)), min_size=1, max_size=20))
def test_no_task_is_late_by_a_sleep_where_a_pool_listens(chance: float, inserts: list[tuple[float, float]]) -> None:
    """Told or not: inserts at some time, due so much later than ``TOLD_AHEAD``, that commit so much later."""
    waits, look = Idle(POLL, listens=True, chance=lambda: chance), 0.0
    waits.announced(look)
    tasks = [(at + commits, at + TOLD_AHEAD + later) for at, commits in inserts for later in (0.0, 0.1, 20.0)]
    while tasks:
        next_due = min((due for visible, due in tasks if visible <= look), default=look + HOUR)
        look = min(look + waits.sleep(NOBODY, look), next_due)
        seen = [(visible, due) for visible, due in tasks if max(visible, due) <= look]
        assert all(look == due for _, due in seen)
        tasks = [task for task in tasks if task not in seen]


class Transaction(NamedTuple):
    """One that has an id from ``begin`` on, and inserts something that does not notify."""

    begin: float
    end: float


moments = st.floats(-1, 2 * SETTLING)
transactions = st.lists(st.tuples(moments, moments).map(sorted).map(lambda pair: Transaction(*pair)), max_size=8)


@given(transactions, st.lists(st.floats(0.0001, 0.05), min_size=1, max_size=8))
def test_whoever_ran_at_a_look_and_ends_within_the_settle_is_found(
    producers: list[Transaction], claim_times: list[float]
) -> None:
    waits, mono, looks = idle(), 0.0, []
    waits.announced(mono)
    while True:
        looks.append(mono)
        snapshot = running(*(xid for xid, producer in enumerate(producers, 2) if producer.begin <= mono < producer.end))
        mono += claim_times[len(looks) % len(claim_times)]
        seconds = waits.sleep(snapshot, mono)
        if seconds == HOUR:
            break
        mono += seconds
    for producer in producers:
        if producer.begin <= looks[1] and 0 <= producer.end < SETTLING - 0.1:
            assert any(look >= producer.end for look in looks)
