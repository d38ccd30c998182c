"""Who is woken by a notification: no database is needed for this."""

from fang_postgres.waking import MOST_CHARS, Subscribers


def test_a_task_type_wakes_the_pools_that_serve_it() -> None:
    subscribers, woken = Subscribers(), list[str]()
    subscribers.add("a", ("mail", "heavy"), lambda: woken.append("a"))
    subscribers.add("b", ("mail",), lambda: woken.append("b"))
    for payload in ("heavy", "mail", "other", "mai"):
        subscribers.wake(payload)
    assert woken == ["a", "a", "b"]
    subscribers.wake_all()
    assert woken[3:] == ["a", "b"]


def test_who_has_left_is_not_woken_and_may_leave_twice() -> None:
    subscribers, woken = Subscribers(), list[str]()
    subscribers.add("a", ("mail",), lambda: woken.append("a"))
    assert subscribers
    for _ in range(2):
        subscribers.remove("a")
    assert not subscribers
    subscribers.wake("mail")
    subscribers.wake_all()
    assert woken == []


def test_a_pool_may_leave_while_it_is_woken() -> None:
    subscribers, woken = Subscribers(), list[str]()
    subscribers.add("a", ("mail",), lambda: subscribers.remove("a"))
    subscribers.add("b", ("mail",), lambda: woken.append("b"))
    subscribers.wake("mail")
    subscribers.wake_all()
    assert woken == ["b", "b"]


def test_a_long_task_type_is_compared_as_far_as_it_is_sent() -> None:
    subscribers, woken = Subscribers(), list[str]()
    subscribers.add("a", ("é" * MOST_CHARS + "x",), lambda: woken.append("a"))
    subscribers.wake("é" * MOST_CHARS)
    assert woken == ["a"]
