"""Who is woken by a notification: no database is needed for this."""

from datetime import UTC, datetime
from uuid import UUID

import pytest

from fang_core.backends.waking import ANYWHERE, LateRows
from fang_core.errors import BackendUnavailable
from fang_postgres.pool.waking import MOST_CHARS, Subscribers

ME = UUID(int=7)


def nothing(_: object) -> None: ...


def test_a_task_type_wakes_the_pools_that_serve_it() -> None:
    subscribers, woken = Subscribers(), list[str]()
    subscribers.add("a", ("mail", "heavy"), lambda _: woken.append("a"), nothing, nothing)
    subscribers.add("b", ("mail",), lambda _: woken.append("b"), nothing, nothing)
    for payload in ("heavy", "mail", "other", "mai"):
        subscribers.wake(payload)
    assert woken == ["a", "a", "b"]
    subscribers.wake_all()
    assert woken[3:] == ["a", "b"]


def test_who_has_left_is_not_woken_and_may_leave_twice() -> None:
    subscribers, woken = Subscribers(), list[str]()
    subscribers.add("a", ("mail",), lambda _: woken.append("a"), nothing, nothing)
    assert subscribers
    for _ in range(2):
        subscribers.remove("a")
    assert not subscribers
    subscribers.wake("mail")
    subscribers.wake_all()
    assert woken == []


def test_a_pool_may_leave_while_it_is_woken() -> None:
    subscribers, woken = Subscribers(), list[str]()
    subscribers.add("a", ("mail",), lambda _: subscribers.remove("a"), nothing, nothing)
    subscribers.add("b", ("mail",), lambda _: woken.append("b"), nothing, nothing)
    subscribers.wake("mail")
    subscribers.wake_all()
    assert woken == ["b", "b"]


def test_a_long_task_type_is_compared_as_far_as_it_is_sent() -> None:
    subscribers, woken = Subscribers(), list[str]()
    subscribers.add("a", ("é" * MOST_CHARS + "x",), lambda _: woken.append("a"), nothing, nothing)
    subscribers.wake("é" * MOST_CHARS)
    assert woken == ["a"]


@pytest.mark.parametrize("task_type", ["mail", "mail,2,3", ""])
def test_rows_behind_cursors_are_told_with_their_place(task_type: str) -> None:
    subscribers, told = Subscribers(), list[LateRows | None]()
    subscribers.add("a", (task_type,), told.append, nothing, nothing)
    subscribers.wake(f"{task_type},-2,1500000")
    subscribers.wake(f"{task_type},-2,{-(10**18)}")  # before the first year of a datetime
    subscribers.wake(f"{task_type},x,1500000")
    assert told == [LateRows(task_type, -2, datetime(1970, 1, 1, 0, 0, 1, 500_000, UTC)), LateRows(task_type, 0, None)]
    subscribers.wake_all()
    assert told[2:] == [ANYWHERE]


def test_who_is_there_is_told_that_nobody_is_woken() -> None:
    subscribers, told = Subscribers(), list[object]()
    subscribers.add("a", ("mail",), nothing, nothing, told.append)
    subscribers.add("b", ("heavy",), nothing, nothing, told.append)
    subscribers.remove("b")
    silence = BackendUnavailable("gone")
    subscribers.tell(silence)
    assert told == [silence]


def test_a_pool_hears_that_it_is_told_something_and_so_do_the_others_of_its_queue() -> None:
    subscribers, told, woken = Subscribers(), list[object](), list[object]()
    subscribers.add("a", (f"!{ME}",), woken.append, told.append, nothing)  # a task type may look like that
    subscribers.add("b", ("mail",), woken.append, told.append, nothing)
    subscribers.wake(f"!{ME}")
    assert told == [ME, ME]
    assert woken == [None]
    for payload in (str(ME), "!", "!mail", f"!{ME},0,0", f"! {ME}x"):
        subscribers.wake(payload)
    assert told == [ME, ME]
