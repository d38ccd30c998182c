"""From which managed type a pool claims next, and when it looks at one again."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from math import inf
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fang_core import SleepParams
from fang_core.backends.claims import MOST_LANES, NO_TRANSACTIONS, QUANTUM, TURN_TAKEN, LaneClaim, LaneRequest
from fang_core.claims.idle import Poll
from fang_core.claims.lanes import (
    EMPTY_FOR,
    GROWTH,
    MOST_AT_ONCE,
    MOST_MISSES,
    RESTS,
    SHARE,
    TELLS_EVERY,
    TELLS_SHARE,
    TURN,
    Lanes,
)
from fang_core.claims.quantum import PATIENCE
from fang_core.claims.spacing import MANY
from fang_core.record import ClaimedTask

NOW = datetime(2026, 1, 2, tzinfo=UTC)
POLL = 7.0


def lanes(*task_types: str, chance: Callable[[], float] = lambda: 0.5) -> Lanes:
    span = timedelta(seconds=POLL)
    made = Lanes(lambda: Poll(SleepParams(min_sleep_period=span, max_sleep_period=span), chance), chance)
    made.add(task_types)
    return made


def answer(
    made: Lanes, task_type: str, tasks: int, *, limit: int = 10, mono: float = 0.0, seconds: float = 0.0, **claim: Any
) -> bool:
    """Answers a claim for ``limit`` tasks; by default there was room for all of them."""
    request = LaneRequest(
        UUID(int=1), task_type, ("K",), limit, made.after_lane(task_type), looks_closely=made.looks_closely(task_type)
    )
    task = ClaimedTask(UUID(int=2), "K", "{}", 1, 0, 20, 0, task_type, 0, NOW)
    fields = {"registered": True, "room": limit, **claim}
    return made.claimed(request, LaneClaim([task] * tasks, NOW, NO_TRANSACTIONS, **fields), seconds=seconds, mono=mono)


def test_types_take_turns_and_one_without_tasks_is_left_out() -> None:
    made = lanes("a", "b", "c")
    turns = []
    for _ in range(6):
        task_type = made.next(0.0, 1)
        assert task_type is not None
        turns.append(task_type)
        answer(made, task_type, 0 if task_type == "b" else 10)
    assert turns == ["a", "b", "c", "a", "c", "a"]


def test_no_type_that_counts_its_tasks_is_claimed_from_while_no_worker_is_idle() -> None:
    made = lanes("a")
    assert (made.next(0.0, 0), made.waits_for_workers) == (None, True)
    assert (made.next(0.0, 3), made.waits_for_workers) == ("a", False)
    assert made.limit("a", 50, 3) == 3
    answer(made, "a", 10, is_counted=False)
    assert made.next(0.0, 0) == "a"
    assert made.limit("a", 50, 0) == 50


def test_a_claim_expects_as_many_tasks_of_a_key_as_the_last_ones_found() -> None:
    made = lanes("a", "b")
    answer(made, "a", 3, after_lane="k", is_short=True)
    assert (made.quantum("a"), made.quantum("b")) == (QUANTUM // 2, QUANTUM)
    for _ in range(PATIENCE):
        answer(made, "a", 10)
    assert made.quantum("a") == QUANTUM


def test_a_claim_that_took_all_that_its_type_may_start_was_full() -> None:
    made = lanes("a")
    answer(made, "a", 3, room=4, after_lane="k", is_short=True)
    assert made.quantum("a") == QUANTUM
    answer(made, "a", 2, room=4, after_lane="k", is_short=True)
    assert made.quantum("a") == QUANTUM // 2
    for _ in range(PATIENCE):
        answer(made, "a", 4, room=4, after_lane="k")
    assert made.quantum("a") == QUANTUM


def test_a_full_type_is_left_alone_until_the_pool_is_told_or_polls() -> None:
    made = lanes("a")
    assert not answer(made, "a", 0, room=0)
    assert made.next(POLL - 0.1, 1) is None
    assert made.until_next(0.0) == POLL
    assert made.helped_by_inserts == ()
    made.look_again()  # an insert
    assert made.next(POLL - 0.1, 1) is None
    assert made.next(POLL, 1) == "a"
    made.tell("a")
    made.hear()
    assert made.next(0.0, 1) == "a"


def test_a_type_that_was_filled_up_by_the_claim_itself_is_full() -> None:
    made = lanes("a")
    answer(made, "a", 3, room=3, after_lane="k")
    assert made.next(0.0, 1) is None
    assert made.after_lane("a") == "k"


@pytest.mark.parametrize("task_type", ["a", None])
def test_what_it_is_told_concerns_one_type_or_all(task_type: str | None) -> None:
    made = lanes("a", "b")
    for each in ("a", "b"):
        answer(made, each, 0, room=0)
    made.tell(task_type)
    made.tell("unknown")
    made.hear()
    assert [each for each in made if made.is_ready(each, 0.0)] == (["a"] if task_type else ["a", "b"])


def test_what_was_told_comes_before_other_types() -> None:
    made = lanes("a", "b", "c")
    made.tell("c")
    made.hear()
    assert made.next(0.0, 1) == "c"
    answer(made, "c", 10)
    assert made.next(0.0, 1) == "a"


def test_a_type_that_is_out_of_rate_is_looked_at_when_its_next_start_is_allowed() -> None:
    made = lanes("a")
    answer(made, "a", 2, room=2, look_in=0.25)
    assert made.until_next(0.0) == 0.25
    assert made.next(0.25, 1) == "a"


def test_pools_that_come_too_late_for_a_rate_spread_and_one_that_was_in_time_does_not() -> None:
    made = lanes("a", chance=lambda: 1.0)
    waits = []
    for _ in range(MOST_MISSES + 3):
        answer(made, "a", 0, room=0, look_in=1.0)
        waits.append(made.until_next(0.0))
    assert waits == pytest.approx([1.0 + TURN * GROWTH ** min(n, MOST_MISSES) for n in range(MOST_MISSES + 3)])
    assert waits[-1] < 1.5
    answer(made, "a", 1, room=1, look_in=1.0)
    assert made.until_next(0.0) == 1.0


def test_a_pool_whose_turn_was_taken_looks_again_soon_and_then_less_often() -> None:
    made = lanes("a")
    waits = []
    for _ in range(MOST_MISSES + 2):
        answer(made, "a", 0, room=TURN_TAKEN)
        waits.append(made.until_next(0.0))
    assert waits == pytest.approx([TURN * GROWTH ** min(n, MOST_MISSES) for n in range(MOST_MISSES + 2)])
    made.tell("a")
    made.hear()
    answer(made, "a", 0, room=TURN_TAKEN)
    assert made.until_next(0.0) == TURN


def test_a_round_begins_again_behind_keys_that_were_locked() -> None:
    made = lanes("a")
    made._types["a"].after_lane = "b"
    assert not answer(made, "a", 0, after_lane="c")
    assert not answer(made, "a", 0, after_lane="e", room=TURN_TAKEN)
    assert made.after_lane("a") == "e"
    assert not answer(made, "a", 0, after_lane="b")
    assert not answer(made, "a", 0, after_lane="c")
    assert not answer(made, "a", 0, after_lane="e")  # keys up to e may be free now
    assert answer(made, "a", 0, after_lane="b")
    answer(made, "a", 0, room=TURN_TAKEN)  # the lock of the type itself: no key was looked at
    assert made.after_lane("a") == "b"


def test_after_a_claim_that_was_not_filled_the_next_one_waits_a_while_for_the_pools_own_outcomes() -> None:
    made = lanes("a")
    answer(made, "a", 4, after_lane="k", seconds=0.5, mono=1.0)
    assert (made.next(1.0, 10, unwritten=5), made.waits_for_outcomes) == (None, 1.5)
    assert (made.next(1.0, 10, unwritten=4), made.waits_for_outcomes) == ("a", None)
    assert (made.next(1.5, 10, unwritten=10), made.waits_for_outcomes) == ("a", None)
    answer(made, "a", 10, after_lane="k", seconds=0.5, mono=2.0)
    assert (made.next(2.0, 10, unwritten=10), made.waits_for_outcomes) == ("a", None)
    answer(made, "a", 4, after_lane="k", seconds=0.5, mono=3.0, is_counted=False)
    assert (made.next(3.0, 10, unwritten=10), made.waits_for_outcomes) == ("a", None)


def test_a_claim_looks_at_fewer_keys_if_the_last_ones_were_filled_in_part_only() -> None:
    made = lanes("a", "b")
    answer(made, "a", 4, after_lane="k")
    assert (made.most_lanes("a", 10), made.most_lanes("b", 10)) == (MOST_LANES // 2, MOST_LANES)
    answer(made, "a", 0, after_lane="k", room=TURN_TAKEN)
    assert made.most_lanes("a", 10) == MOST_LANES
    answer(made, "a", 4, room=4)  # all that the type as a whole may start
    assert made.most_lanes("a", 10) == MOST_LANES


def test_a_claim_that_passed_keys_of_other_pools_is_followed_by_one_further_back() -> None:
    made = lanes("a")
    for key in "bcdefg":
        answer(made, "a", 10, after_lane=key)
    answer(made, "a", 0, after_lane="h", locked=MANY)  # one of a round in vain
    assert made.after_lane("a") == "h"
    answer(made, "a", 10, after_lane="i", locked=MANY)
    assert made.after_lane("a") == "g"


@pytest.mark.parametrize("way_on", [{}, {"room": TURN_TAKEN}, {"tasks": 3, "room": 3}])
def test_a_pool_goes_back_by_two_claims_whatever_the_first_of_these_brought(way_on: dict[str, Any]) -> None:
    made = lanes("a")
    for key in "bcdef":
        answer(made, "a", 10, after_lane=key)
    answer(made, "a", **{"tasks": 0, "after_lane": "g", **way_on})
    answer(made, "a", 10, after_lane="h", locked=MANY)
    assert made.after_lane("a") == "f"


def test_every_second_claim_goes_on_with_keys_of_a_higher_priority_that_were_not_reached() -> None:
    made = lanes("a")
    begins = []
    for after_lane, cut_at in (("b", "p"), ("t", "r"), ("c", "p"), ("v", None), ("d", "p"), ("u", "z")):
        answer(made, "a", 10, after_lane=after_lane, cut_at=cut_at)
        begins.append(made.after_lane("a"))
    assert begins == ["p", "b", "r", "c", "p", "d"]
    answer(made, "a", 0, after_lane="k")  # a round in vain looks at all
    assert made.after_lane("a") == "k"
    answer(made, "a", 10, after_lane="l")
    assert made.after_lane("a") == "l"


@pytest.mark.parametrize("look_in", [None, 3.0, 300.0])
def test_a_paused_type_is_looked_at_when_the_pause_is_over_or_by_the_poll(look_in: float | None) -> None:
    made = lanes("a")
    assert answer(made, "a", 0, room=None, look_in=look_in) is (look_in != 3.0)  # its limits change
    assert made.until_next(0.0) == min(look_in or POLL, POLL)
    assert made.helped_by_inserts == ()


def test_a_type_without_tasks_is_looked_at_when_the_pool_wakes_and_wakes_it_for_nothing() -> None:
    made = lanes("a")
    assert answer(made, "a", 0)
    assert made.until_next(0.0) == inf
    assert made.helped_by_inserts == ("a",)
    assert made.next(0.0, 1) is None
    made.look_again()
    assert made.next(0.0, 1) == "a"


def test_looks_at_types_without_tasks_take_a_bounded_share_of_a_busy_pool() -> None:
    made = lanes("a", "b")
    answer(made, "a", 0)
    assert [made.is_ready("a", at) for at in (EMPTY_FOR - 0.001, EMPTY_FOR)] == [False, True]
    answer(made, "a", 0, seconds=0.1)
    assert [made.is_ready("a", at) for at in (2 * 0.1 / SHARE - 0.001, 2 * 0.1 / SHARE)] == [False, True]


def test_a_claim_that_was_not_filled_is_repeated_behind_the_last_key() -> None:
    made = lanes("a")
    assert not answer(made, "a", 7, after_lane="k")
    assert (made.next(0.0, 1), made.after_lane("a")) == ("a", "k")
    assert answer(made, "a", 0)
    assert made.after_lane("a") == "k"


def test_keys_that_are_out_of_rate_are_looked_at_then_and_inserts_for_others_help() -> None:
    made = lanes("a")
    assert not answer(made, "a", 0, look_in=0.5)
    assert made.until_next(0.0) == 0.5
    assert made.helped_by_inserts == ("a",)
    made.look_again()
    assert made.next(0.0, 1) == "a"


def test_a_round_in_vain_ends_with_the_next_start_that_the_rate_of_any_of_its_keys_allows() -> None:
    made = lanes("a")
    for last in (None, "d"):
        made._types["a"].after_lane = "b"
        assert not answer(made, "a", 0, after_lane="d", mono=0.5)
        assert not answer(made, "a", 0, after_lane="k", look_in=3.0, mono=1.0)
        assert not answer(made, "a", 0, after_lane="t", look_in=5.0, mono=2.0)
        assert not answer(made, "a", 0, after_lane=last, mono=2.5)
        assert made.until_next(2.5) == 1.5
    assert answer(made, "a", 0)  # what an earlier round has found is out of date


@given(st.lists(st.integers(0, 99), min_size=1, max_size=60, unique=True), st.integers(1, 30), st.integers(0, 99))
def test_a_round_of_claims_in_vain_ends_when_every_key_was_looked_at(keys: list[int], most: int, first: int) -> None:
    names = sorted(f"{key:02}" for key in keys)
    made = lanes("a")
    made._types["a"].after_lane = f"{first:02}"
    looked_at: set[str] = set()
    claims = 0
    is_over = False
    while not is_over:
        place = made.after_lane("a")
        in_turn = sorted(names, key=lambda name: (name <= place, name))[:most]
        looked_at.update(in_turn)
        claims += 1
        is_over = answer(made, "a", 0, after_lane=in_turn[-1] if len(in_turn) == most else None)
    assert looked_at == set(names)
    assert claims <= len(names) // most + 2


def test_a_long_round_in_vain_rests_now_and_then_and_goes_on_behind_the_last_key() -> None:
    made = lanes("a")
    for n in range(MOST_AT_ONCE):
        assert made.next(0.0, 1) == "a"
        assert not answer(made, "a", 0, after_lane=f"k{n:02}", seconds=0.1)
    assert made.next(0.0, 1) is None
    assert made.until_next(0.0) == pytest.approx(RESTS * MOST_AT_ONCE * 0.1)
    assert made.after_lane("a") == "k19"


def test_a_round_in_vain_begins_again_if_tasks_were_inserted() -> None:
    made = lanes("a")
    made._types["a"].after_lane = "b"
    assert not answer(made, "a", 0, after_lane="c")
    assert not answer(made, "a", 0, after_lane="d")
    made.begin_rounds()  # a task of c
    assert not answer(made, "a", 0, after_lane="b")
    assert not answer(made, "a", 0, after_lane="c")
    assert not answer(made, "a", 0, after_lane="d")
    assert answer(made, "a", 0, after_lane="b")


def test_only_claims_that_look_closely_show_that_no_key_can_be_served() -> None:
    made = lanes("a")
    made._types["a"].after_lane = "b"
    assert not made.looks_closely("a")
    assert not answer(made, "a", 0, after_lane="b")  # its own tasks may be all that the pool cannot take
    assert made.looks_closely("a")
    assert answer(made, "a", 0)
    assert not made.looks_closely("a")


def test_slots_that_the_pool_does_not_use_are_told_once() -> None:
    made = lanes("a", "b")
    made.free({"a": 3, "gone": 1})
    made.hear()
    answer(made, "a", 2, limit=2)
    assert made.unused() == ("a",)
    assert made.unused() == ()
    made.free({"a": 3})
    made.hear()
    answer(made, "a", 1, limit=2)  # it has found no more: nobody needs them
    assert made.unused() == ()
    made.free({"a": 1})
    made.hear()
    answer(made, "a", 0, limit=2, after_lane="k")  # a key has due tasks, of kinds that only others know
    assert made.unused() == ("a",)


def test_slots_are_told_though_a_close_look_sees_no_task_that_the_pool_can_take() -> None:
    made = lanes("a")
    made.free({"a": 1})
    made.hear()
    assert not answer(made, "a", 0, after_lane="k")  # tasks that only another pool can take
    answer(made, "a", 0)
    assert made.unused() == ("a",)


def test_nothing_is_kept_of_what_is_told_to_a_pool_without_managed_types() -> None:
    made = lanes()
    made.tell(None)
    made.tell("a")
    assert not made._heard
    assert not made


def test_a_look_at_all_types_says_which_have_due_tasks() -> None:
    made = lanes("a", "b", "full")
    answer(made, "full", 0, room=0)
    made.looked({"a": True, "b": False, "full": True})
    assert [each for each in made if made.is_ready(each, 1e6)] == ["a", "full"]
    assert made.next(0.0, 1) == "a"


def test_a_type_that_is_no_longer_managed_is_forgotten() -> None:
    made = lanes("a", "b")
    made.tell("a")
    made.hear()
    made.remove("a")
    made.remove("a")
    assert (list(made), "a" in made, made.next(0.0, 1)) == (["b"], False, "b")


def test_pools_begin_at_different_keys_none_of_which_postgres_refuses() -> None:
    places = [lanes("a", chance=lambda chance=chance: chance).after_lane("a") for chance in (0.0, 0.5, 1.0)]  # type: ignore[misc]
    assert len(set(places)) == 3
    assert "\0" not in places


def test_others_are_told_of_slots_once_in_a_while_and_in_a_bounded_share_of_the_time() -> None:
    made = lanes("a")
    made.free({"a": 1})
    made.hear()
    assert made.until_telling(0.0) == 0.0
    assert made.unused(0.0) == ("a",)
    assert made.until_telling(0.0) == inf
    made.told_others(began=0.0, ended=0.004)
    made.free({"a": 1})
    made.hear()
    wait = 0.004 / TELLS_SHARE
    assert made.until_telling(0.004) == pytest.approx(wait)
    assert made.unused(0.004) == ()
    assert made.unused(0.004 + wait) == ("a",)
    made.told_others(began=1.0, ended=1.0)
    assert made.unused() == ()
    made.free({"a": 1})
    made.hear()
    assert made.until_telling(1.0) == pytest.approx(TELLS_EVERY)
    assert made.unused() == ("a",)  # a pool that stops tells them in any case
