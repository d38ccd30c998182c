"""How a list walks: over statements that are answered by the test, so that the clock and every row are its own."""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

import pytest

from fang_core.errors import UsageError
from fang_core.monitoring.listing import Count, Key, TaskPage
from fang_core.record import TaskState
from fang_core.tasks.selecting.filter import TaskFilter
from fang_postgres.connections.diagnosis import TookTooLong
from fang_postgres.monitoring.listing import COUNT_SECONDS, counts, lists
from fang_postgres.operations.listing import Asked, EndedLane, Looked

NOW = datetime(2026, 1, 1, tzinfo=UTC)
FAILED = TaskFilter(states=TaskState.FAILED)


@dataclass
class Rows:
    """Ended rows by lane, the oldest first, and what it costs to send a statement, and to look at a row."""

    by_lane: dict[EndedLane, list[Key]]
    hits: Callable[[Key], bool] = lambda _: True
    row_seconds: float = 0.0
    statement_seconds: float = 0.0
    now: float = 1.0
    looked: int = 0
    statements: list[int] = field(default_factory=list)
    times_out: bool = False
    estimated: int = 1_000_000

    def clock(self) -> float:
        return self.now

    # What stands in for ``Operations``: each returns what the driver calls to have its result.

    def ended_lanes(self) -> Callable[[], list[EndedLane] | None]:
        return lambda: list(self.by_lane)

    def list_ended(
        self, which: TaskFilter, asked: Sequence[Asked], since: datetime, *, shows: bool
    ) -> Callable[[], list[Looked]]:
        return lambda: self._timed([self._look(each, shows) for each in asked])

    def _look(self, asked: Asked, shows: bool) -> Looked:
        lane = self.by_lane[asked.lane]
        end = bisect_left(lane, asked.behind)
        keys = lane[max(0, end - asked.most) : end][::-1]
        found = sorted(filter(self.hits, keys))
        last: Any = keys[-1] if keys else None
        return Looked(len(keys), len(found), last, last and last[0], found if shows else [])

    def _timed(self, looked: list[Looked]) -> list[Looked]:
        if self.times_out:
            raise TookTooLong("too long")
        rows = sum(each.looked for each in looked)
        self.looked += rows
        self.statements.append(rows)
        self.now += self.statement_seconds + rows * self.row_seconds
        return looked

    def show(self, which: TaskFilter, ids: Sequence[UUID]) -> Callable[[], dict[UUID, Any]]:
        return lambda: {each: each for each in ids}

    def estimate(self, which: TaskFilter) -> Callable[[], int]:
        return lambda: self.estimated

    def page(self, which: TaskFilter = FAILED, limit: int = 50, cursor: str | None = None) -> TaskPage:
        page: TaskPage = drive(lists(self, which, limit, cursor, self.clock)())  # type: ignore[arg-type]
        return page

    def count(self, which: TaskFilter = FAILED, up_to: int = 10_000) -> Count:
        count: Count = drive(counts(self, which, up_to, self.clock)())  # type: ignore[arg-type]
        return count

    def in_order(self) -> list[Any]:
        keys = sorted((key for keys in self.by_lane.values() for key in keys), reverse=True)
        return [key[-1] for key in keys if self.hits(key)]


def drive(script: Any) -> Any:
    """Runs a script whose operations are functions."""
    resume, answer = script.send, None
    while True:
        try:
            operation = resume(answer)
        except StopIteration as end:
            return end.value
        try:
            resume, answer = script.send, operation()
        except TookTooLong as error:
            resume, answer = script.throw, error


def rows_of(lanes: int, each: Callable[[int], int], **options: Any) -> Rows:
    """Rows at random times within an hour; so many of each lane."""
    chance = Random(7)
    by_lane = {
        EndedLane(TaskState.FAILED, f"type{n}"): sorted(
            (NOW + timedelta(seconds=chance.randrange(3_600)), UUID(int=chance.getrandbits(128)))
            for _ in range(each(n))
        )
        for n in range(lanes)
    }
    return Rows(by_lane, **options)  # type: ignore[arg-type]


def all_pages(rows: Rows, limit: int = 50) -> tuple[list[Any], list[TaskPage]]:
    pages, cursor = [], None
    while not pages or cursor is not None:
        page = rows.page(limit=limit, cursor=cursor)
        pages.append(page)
        cursor = page.cursor
        assert len(pages) < 10_000
    return [task for page in pages for task in page.tasks], pages


@pytest.mark.parametrize("limit", [1, 50, 500])
@pytest.mark.parametrize("slow", [False, True])
@pytest.mark.parametrize("which", ["all", "few", "none"])
def test_pages_over_many_lanes_have_each_row_once_and_in_order(limit: int, slow: bool, which: str) -> None:
    """Whether a lane has one row or thousands, and however early the time runs out."""
    rows = rows_of(20, lambda n: (1, 10, 100)[n % 3])
    rows.hits = {"all": lambda _: True, "few": lambda key: hash(key[-1]) % 40 == 0, "none": lambda _: False}[which]
    rows.statement_seconds = 0.02 if slow else 0.0
    found, pages = all_pages(rows, limit)
    assert found == rows.in_order()
    assert all(page.stopped or len(page.tasks) == limit for page in pages[:-1])
    assert any(page.stopped for page in pages) >= (slow and which == "none")


def test_ties_are_listed_by_their_ids() -> None:
    rows = rows_of(1, lambda _: 0)
    rows.by_lane[EndedLane(TaskState.FAILED, "type0")] = [(NOW, UUID(int=n)) for n in range(3_000)]
    assert all_pages(rows)[0] == rows.in_order()


def test_the_first_page_of_many_lanes_looks_at_few_rows() -> None:
    rows = rows_of(60, lambda _: 500)
    assert len(rows.page().tasks) == 50
    assert rows.looked < 1_000
    assert len(rows.statements) <= 3


def test_a_page_ends_when_its_time_is_over_and_says_how_far_it_came() -> None:
    rows = rows_of(3, lambda _: 10_000, hits=lambda _: False, row_seconds=1e-5)
    page = rows.page()
    assert (page.tasks, page.stopped) == ((), True)
    assert rows.now - 1.0 < 0.05  # also the last statement, which is as large as what is left of the time
    assert page.looked_at == rows.looked > 1_000
    keys = [key for keys in rows.by_lane.values() for key in keys]
    seen: Any = page.looked_to
    assert rows.looked >= sum(key[0] > seen for key in keys) > 0
    assert page.cursor is not None


def test_chunks_grow_with_the_speed_of_the_last_one() -> None:
    quick = rows_of(1, lambda _: 12_000, hits=lambda _: False, row_seconds=1e-6)
    slow = rows_of(1, lambda _: 12_000, hits=lambda _: False, row_seconds=1e-4)
    quick.page()
    slow.page()
    assert max(quick.statements) == 5_000
    assert max(slow.statements) < 300
    assert slow.now - 1.0 < 0.05


def test_a_page_whose_statement_takes_too_long_goes_on_from_where_it_was() -> None:
    rows = rows_of(1, lambda _: 100)
    first = rows.page(limit=10)
    rows.times_out = True
    for cursor in (None, first.cursor):
        page = rows.page(limit=10, cursor=cursor)
        assert (page.tasks, page.stopped, page.looked_at) == ((), True, 0)
        rows.times_out = False
        expected = rows.in_order()[:10] if cursor is None else rows.in_order()[10:20]
        assert list(rows.page(limit=10, cursor=page.cursor).tasks) == expected
        rows.times_out = True


def test_a_count_is_exact_up_to_its_bound_and_then_says_how_many_there_are_at_least() -> None:
    rows = rows_of(3, lambda _: 100)
    assert rows.count() == Count(300, True)
    assert rows.count(up_to=300) == Count(300, True)
    assert rows.count(up_to=299) == Count(300, False, 1_000_000)
    rows.estimated = 300
    assert rows.count(up_to=299) == Count(300, False)  # an estimate that is not more says nothing
    rows.hits = lambda key: hash(key[-1]) % 2 == 0
    assert rows.count(up_to=299) == Count(len(rows.in_order()), True)


@pytest.mark.parametrize("condition", [{"error": "xxx"}, {"payload": {"a": 1}}, {"headers": {"a": "1"}}])
def test_what_the_planner_knows_nothing_of_is_not_estimated(condition: dict[str, Any]) -> None:
    rows = rows_of(3, lambda _: 100)
    assert rows.count(replace(FAILED, **condition), up_to=50) == (pytest.approx(250, abs=250), False, None)


def test_a_count_that_takes_long_says_what_it_has_found_by_then() -> None:
    rows = rows_of(1, lambda _: 5_000, hits=lambda _: False, statement_seconds=0.2)
    assert rows.count() == Count(0, False, 1_000_000)
    assert rows.now < 2


def test_a_count_with_a_larger_bound_has_more_time() -> None:
    rows = rows_of(1, lambda _: 41_427, row_seconds=2e-5)
    at_least = rows.count()
    assert (at_least.is_exact, at_least.estimate) == (False, 1_000_000)
    assert 10_000 < at_least.count < 20_000
    rows.now = 1.0
    assert rows.count(up_to=100_000) == Count(41_427, True)
    slow = rows_of(1, lambda _: 41_427, row_seconds=1e-3)
    assert not slow.count(up_to=100_000).is_exact
    assert slow.now - 1.0 < 10 * COUNT_SECONDS + 0.1


def test_a_cursor_that_other_walks_have_made_is_refused() -> None:
    rows = rows_of(1, lambda _: 100)
    cursor = rows.page(limit=10).cursor
    rows.ended_lanes = lambda: lambda: None  # type: ignore[method-assign, assignment]
    with pytest.raises(UsageError, match="cursor is too old"):
        rows.page(cursor=cursor)
