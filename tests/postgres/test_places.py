"""Who may use a connection, and who waits for one: the rules, without any connection."""

from fang_postgres.connections.connecting import NO_ROOM, NONE_FREE, WAIT_FOR_ONE
from fang_postgres.connections.places import ROOM_AGAIN, Places


def test_a_place_that_becomes_free_goes_to_the_caller_that_has_waited_longest() -> None:
    places: Places[str] = Places(2)
    assert [places.enter(0.0) for _ in range(3)] == [True, True, False]
    for name in "abc":
        places.wait(name, 0.0, of_pool=False)
    assert places.give_up("a")
    assert places.leave(1.0) == ["b"]
    assert not places.give_up("b")  # it has a place
    assert not places.enter(1.0)  # nor does a new caller get in before the others
    assert [places.leave(1.0) for _ in range(3)] == [["c"], [], []]
    assert places.taken == 0


def test_only_a_caller_that_got_a_connection_moves_the_line() -> None:
    places: Places[str] = Places(1)
    assert places.enter(0.0)
    places.wait("a", 0.0, of_pool=False)
    places.wait("b", 1.0, of_pool=False)
    assert places.leave(9.0) == ["a"]
    assert places.impatient(10.0) == ([], 1.0 + WAIT_FOR_ONE - 10.0)
    places.lent(10.0)
    assert places.impatient(20.0) == ([], WAIT_FOR_ONE - 10.0)
    assert places.impatient(10.0 + WAIT_FOR_ONE) == (["b"], None)
    assert places.why_none_is_free == NONE_FREE


def test_pools_and_callers_take_turns() -> None:
    places: Places[str] = Places(1)
    assert places.enter(0.0)
    for name in ("c1", "c2", "p1", "p2", "p3"):
        places.wait(name, 0.0, of_pool=name.startswith("p"))
    assert [places.leave(0.0)[0] for _ in range(5)] == ["p1", "c1", "p2", "c2", "p3"]


def test_on_a_full_server_callers_wait_for_the_connections_that_there_are() -> None:
    """Nine of ten find no room, and are served in the order in which they came, before one that comes later."""
    places: Places[int] = Places(10)
    assert all(places.enter(0.0) for _ in range(10))
    assert all(places.refuse(number, 0.1, of_pool=False) for number in range(9))
    assert places.taken == 1
    places.wait(9, 0.2, of_pool=False)
    assert places.why_none_is_free == NO_ROOM
    assert [places.leave(0.3) for _ in range(11)] == [[8 - n] for n in range(9)] + [[9], []]


def test_without_any_connection_a_full_server_is_told_at_once() -> None:
    places: Places[str] = Places(10)
    assert places.enter(0.0)
    assert not places.refuse("a", 0.0, of_pool=False)
    assert places.leave(0.0) == []


def test_room_is_asked_for_once_in_a_while_and_taken_when_it_is_there() -> None:
    places: Places[str] = Places(3)
    assert [places.enter(0.0) for _ in range(2)] == [True, True]
    assert places.refuse("a", 0.0, of_pool=False)
    for name in "bc":
        places.wait(name, 0.0, of_pool=False)
    assert places.leave(ROOM_AGAIN / 2) == ["a"]
    assert places.leave(ROOM_AGAIN) == ["b", "c"]  # one has the connection that came back, the other one asks
    assert not places.enter(ROOM_AGAIN)
    assert places.made(ROOM_AGAIN) == []  # there was room
    assert places.enter(ROOM_AGAIN)
