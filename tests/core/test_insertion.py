"""What one insert may say for itself, and how bulk inserts are cut."""

from datetime import UTC, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from itertools import pairwise
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fang_core import PayloadError, Queueable, Runnable, TaskConfig, UsageError
from fang_core.insertion import NewTask, Overrides, Rules, in_chunks

NOW = datetime(2024, 2, 29, 12, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)


class Parse(Runnable):
    task_config = TaskConfig(kind="insertion.Parse", task_type="heavy", priority=1, max_retries=3)
    n: Any = 0

    def run(self, queue: Queueable) -> None: ...


class NoOffset(tzinfo):
    def utcoffset(self, _: datetime | None) -> None:
        return None

    def __repr__(self) -> str:
        return "NoOffset()"  # the same in every process: it stands in the names of tests


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"priority": True}, "priority: Input should be a valid integer"),
        ({"priority": "1"}, "priority: Input should be a valid integer"),
        ({"priority": 1.0}, "priority: Input should be a valid integer"),
        ({"priority": Decimal(1)}, "priority: Input should be a valid integer"),
        ({"priority": 3}, "priority: .* less than or equal to 2"),
        ({"priority": -3}, "priority: .* greater than or equal to -2"),
        ({"max_retries": -1}, "max_retries: .* greater than or equal to 0"),
        ({"max_retries": 1_000_001}, "max_retries: .* less than or equal to 1000000"),
        ({"max_retries": "5"}, "max_retries: Input should be a valid integer"),
        ({"max_retries": False}, "max_retries: Input should be a valid integer"),
        ({"task_type": ""}, "task_type: String should have at least 1 character"),
        ({"task_type": "a\0"}, "task_type: String should match pattern"),
        ({"task_type": "\udc80"}, "task_type: Input should be a valid string"),
        ({"task_type": b"heavy"}, "task_type: Input should be a valid string"),
        ({"task_type": "x" * 501}, "task_type: String should have at most 500 characters"),
        ({"scheduled_at": NOW.replace(tzinfo=None)}, "scheduled_at needs a time zone"),
        ({"scheduled_at": NOW.replace(tzinfo=NoOffset())}, "scheduled_at needs a time zone"),
        ({"scheduled_at": NOW.isoformat()}, "scheduled_at must be a datetime, not str"),
        ({"scheduled_at": NOW.date()}, "scheduled_at must be a datetime, not date"),
        ({"scheduled_at": 0}, "scheduled_at must be a datetime, not int"),
        (
            {"scheduled_at": datetime.max.replace(tzinfo=timezone(-timedelta(hours=1)))},
            "scheduled_at lies outside of the years 1 to 9999 in UTC",
        ),
        ({"delay": -SECOND}, "delay must be between zero and a hundred years"),
        ({"delay": timedelta.max}, "delay must be between zero and a hundred years"),
        ({"delay": 60}, "delay must be a timedelta, not int"),
        ({"delay": SECOND, "scheduled_at": NOW}, "give scheduled_at or delay, not both"),
        ({"delay": timedelta(0), "scheduled_at": NOW}, "give scheduled_at or delay, not both"),
    ],
    ids=repr,
)
def test_what_an_insert_cannot_say(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=f"^{message}") as caught:
        Overrides(**options)

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"priority": -2, "max_retries": 0, "task_type": "x" * 500},
        {"priority": 2, "max_retries": 1_000_000},
        {"delay": timedelta(0)},
        {"delay": timedelta(days=36_600)},
        {"scheduled_at": NOW.astimezone(timezone(timedelta(hours=5, minutes=30)))},
    ],
    ids=repr,
)
def test_what_an_insert_can_say(options: dict[str, Any]) -> None:
    assert Overrides(**options) == Overrides(**options)


def test_without_overrides_the_class_decides() -> None:
    new = Overrides().new_task(Parse(n=5), Rules(max_payload_bytes=1000))

    assert isinstance(new.id, UUID)
    assert new.id.version == 7
    assert new[1:] == ('{"type":"insertion.Parse","n":5}', "insertion.Parse", "heavy", 1, 3, None)


def test_overrides_win_over_the_class_also_where_they_are_zero() -> None:
    new = Overrides(priority=0, max_retries=0, task_type="light").new_task(Parse(), Rules(max_payload_bytes=1000))

    assert (new.task_type, new.priority, new.max_retries) == ("light", 0, 0)


def test_ids_rise_in_the_order_given() -> None:
    rows = Overrides().new_tasks((Parse(n=n) for n in range(500)), Rules(max_payload_bytes=1000))

    assert [row.metadata for row in rows] == [f'{{"type":"insertion.Parse","n":{n}}}' for n in range(500)]
    assert rows == sorted(rows)
    assert len({row.id for row in rows}) == 500


def test_one_bad_task_stops_them_all() -> None:
    with pytest.raises(PayloadError, match=r"insertion\.Parse\.n: the text contains NUL"):
        Overrides().new_tasks([Parse(), Parse(n="\0"), Parse()], Rules(max_payload_bytes=1000))
    with pytest.raises(PayloadError, match="larger than 1000 bytes"):
        Overrides().new_tasks([Parse(n="x" * 1000)], Rules(max_payload_bytes=1000))


def new_row(chars: int) -> NewTask:
    return NewTask(uuid4(), "x" * chars, "kind", "common", 0, 20)


@given(st.lists(st.integers(0, 60), max_size=60), st.integers(1, 10), st.integers(1, 100))
def test_chunks_keep_the_order_and_their_bounds(sizes: list[int], most_rows: int, most_chars: int) -> None:
    rows = [new_row(size) for size in sizes]
    chunks = list(in_chunks(rows, most_rows=most_rows, most_chars=most_chars))

    assert [row for chunk in chunks for row in chunk] == rows
    for chunk in chunks:
        assert 1 <= len(chunk) <= most_rows
        assert len(chunk) == 1 or sum(len(row.metadata) for row in chunk) <= most_chars
    # And no chunk could have taken the next one's first row as well.
    for chunk, after in pairwise(chunks):
        full = sum(len(row.metadata) for row in chunk) + len(after[0].metadata) > most_chars
        assert full or len(chunk) == most_rows


def test_a_row_above_the_bound_goes_alone() -> None:
    small, large = new_row(1), new_row(500)

    assert list(in_chunks([small, large, small], most_chars=100)) == [[small], [large], [small]]


def test_nothing_makes_no_chunk() -> None:
    assert list(in_chunks([])) == []
