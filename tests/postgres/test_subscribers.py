"""Who is woken by a notification: no database is needed for this."""

from datetime import UTC, datetime

import pytest

from fang_core.errors import BackendUnavailable
from fang_core.store import ANYWHERE, Behind
from fang_postgres.waking import MOST_CHARS, Subscribers


def nothing(_: object) -> None: ...


def test_a_task_type_wakes_the_pools_that_serve_it() -> None:
    subscribers, woken = Subscribers(), list[str]()
    subscribers.add("a", ("mail", "heavy"), lambda _: woken.append("a"), nothing)
    subscribers.add("b", ("mail",), lambda _: woken.append("b"), nothing)
    for payload in ("heavy", "mail", "other", "mai"):
        subscribers.wake(payload)
    assert woken == ["a", "a", "b"]
    subscribers.wake_all()
    assert woken[3:] == ["a", "b"]


def test_who_has_left_is_not_woken_and_may_leave_twice() -> None:
    subscribers, woken = Subscribers(), list[str]()
    subscribers.add("a", ("mail",), lambda _: woken.append("a"), nothing)
    assert subscribers
    for _ in range(2):
        subscribers.remove("a")
    assert not subscribers
    subscribers.wake("mail")
    subscribers.wake_all()
    assert woken == []


def test_a_pool_may_leave_while_it_is_woken() -> None:
    subscribers, woken = Subscribers(), list[str]()
    subscribers.add("a", ("mail",), lambda _: subscribers.remove("a"), nothing)
    subscribers.add("b", ("mail",), lambda _: woken.append("b"), nothing)
    subscribers.wake("mail")
    subscribers.wake_all()
    assert woken == ["b", "b"]


def test_a_long_task_type_is_compared_as_far_as_it_is_sent() -> None:
    subscribers, woken = Subscribers(), list[str]()
    subscribers.add("a", ("é" * MOST_CHARS + "x",), lambda _: woken.append("a"), nothing)
    subscribers.wake("é" * MOST_CHARS)
    assert woken == ["a"]


@pytest.mark.parametrize("task_type", ["mail", "mail,2,3", ""])
def test_rows_behind_cursors_are_told_with_their_place(task_type: str) -> None:
    subscribers, told = Subscribers(), list[Behind | None]()
    subscribers.add("a", (task_type,), told.append, nothing)
    subscribers.wake(f"{task_type},-2,1500000")
    subscribers.wake(f"{task_type},-2,{-(10**18)}")  # before the first year of a datetime
    subscribers.wake(f"{task_type},x,1500000")
    assert told == [Behind(task_type, -2, datetime(1970, 1, 1, 0, 0, 1, 500_000, UTC)), Behind(task_type, 0, None)]
    subscribers.wake_all()
    assert told[2:] == [ANYWHERE]


def test_who_is_there_is_told_that_nobody_is_woken() -> None:
    subscribers, told = Subscribers(), list[object]()
    subscribers.add("a", ("mail",), nothing, told.append)
    subscribers.add("b", ("heavy",), nothing, told.append)
    subscribers.remove("b")
    silence = BackendUnavailable("gone")
    subscribers.tell(silence)
    assert told == [silence]
