"""How large the batches of a call for many tasks are."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fang_core.errors import UsageError
from fang_core.tasks.selecting.batches import BATCH_SECONDS, GROWTH, MOST, Batches


def batches(seconds_for: Callable[[int], float], tasks: int) -> list[tuple[int, float]]:
    """The size of each batch, and how long it took."""
    now = 0.0
    tracked = Batches("removal", "removed", None, clock=lambda: now)
    done: list[tuple[int, float]] = []
    while tracked.done < tasks:
        size = min(tracked.limit, tasks - tracked.done)
        tracked.begin()
        seconds = seconds_for(size)
        now += seconds
        tracked.ended(size)
        done.append((size, seconds))
    return done


@given(per_task=st.floats(1e-6, 10), overhead=st.floats(0, 0.05))
def test_no_batch_takes_much_longer_than_a_second_unless_it_is_a_single_task(per_task: float, overhead: float) -> None:
    for size, seconds in batches(lambda size: overhead + size * per_task, 20_000 if per_task < 0.001 else 100):
        assert size == 1 or seconds <= BATCH_SECONDS + overhead
        assert 1 <= size <= MOST


def test_batches_grow_to_what_fits() -> None:
    sizes = [size for size, _ in batches(lambda size: 0.001 + size * 0.00001, 60_000)]
    assert sizes[:5] == [GROWTH**n for n in range(5)]
    assert sizes[5:-1] == [MOST] * (len(sizes) - 6)


def test_they_shrink_when_tasks_become_dear() -> None:
    costs = iter([0.0001, 0.0001, 0.01, 0.01])
    sizes = [size for size, _ in batches(lambda size: size * next(costs), 1 + 8 + 64 + 100)]
    assert sizes == [1, 8, 64, 100]


def test_a_batch_without_tasks_says_nothing_of_the_cost() -> None:
    told: list[int] = []
    tracked = Batches("removal", "removed", told.append)
    tracked.begin()
    tracked.ended(0)
    assert (tracked.limit, told) == (1, [])


async def awaited(_: int) -> None: ...


@pytest.mark.parametrize(
    ("on_progress", "line"), [(awaited, "not an async one"), ("print", "takes a function"), (7, "takes a function")]
)
def test_what_cannot_be_told_of_progress_is_refused_before_anything_is_removed(on_progress: Any, line: str) -> None:
    with pytest.raises(UsageError, match=line):
        Batches("removal", "removed", on_progress)
