"""How many ticks the list of schedules has, and which arguments `put` takes."""

from datetime import timedelta
from typing import Any

import pytest

from fang_core import Cron, MemoryQueue, Queueable, Runnable, UsageError, WrongArguments


class ListedNightly(Runnable):
    def run(self, queue: Queueable) -> None: ...


@pytest.mark.parametrize("ticks", [0, 1, 100])
def test_a_list_has_as_many_ticks_as_asked_for(ticks: int) -> None:
    queue = MemoryQueue()
    for name, every in (("b", 1), ("a", 2)):
        queue.schedules.put(name, ListedNightly(), every=timedelta(hours=every))
    listed = queue.schedules.list(ticks=ticks)
    assert [len(info.upcoming) for info in listed] == [ticks, ticks]
    assert [info.name for info in listed] == (["b", "a"] if ticks else ["a", "b"])


def test_a_list_without_ticks_looks_for_none(monkeypatch: pytest.MonkeyPatch) -> None:
    queue = MemoryQueue()
    queue.schedules.put("nightly", ListedNightly(), cron="0 3 * * *")
    monkeypatch.setattr(Cron, "next_after", lambda *_: pytest.fail("to look for ticks of thousands takes seconds"))
    assert [info.upcoming for info in queue.schedules.list(ticks=0)] == [()]


@pytest.mark.parametrize("ticks", [-1, 101, True, 1.0, "5", None])
def test_a_number_of_ticks_that_cannot_be_is_refused(ticks: Any) -> None:
    with pytest.raises(UsageError, match="ticks must be a number between 0 and 100"):
        MemoryQueue().schedules.list(ticks=ticks)


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ("evry", r"^put: there is no option 'evry' \(did you mean 'every'\?\); options are at, by, connection, cron, "),
        ("overlaps", r"\(did you mean 'overlap'\?\); .* missed, missed_within, overlap, pause_on_failure, priority, "),
        ("id", r"^put: there is no option 'id'"),
    ],
)
def test_an_unknown_argument_of_put_is_told_those_of_put(option: str, told: str) -> None:
    queue = MemoryQueue()
    queue.schedules.put("nightly", ListedNightly(), cron="0 3 * * *")
    wrong: dict[str, Any] = {option: timedelta(hours=1)}
    for task in (ListedNightly(), queue.schedules.list()[0]):
        with pytest.raises(WrongArguments, match=told) as refusal:
            queue.schedules.put("nightly", task, cron="0 4 * * *", **wrong)
        assert "scheduled_at" not in str(refusal.value)
