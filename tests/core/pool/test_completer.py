"""A completer without a pool: what it writes together, what waits for what, and what it gives up."""

from collections.abc import Sequence, Set
from uuid import UUID

import pytest

from fang_core import BackendUnavailable
from fang_core.errors import NotConnected, RowsLocked
from fang_core.events import EventBus
from fang_core.lifecycle import Outcome
from fang_core.pool.completer import Completer
from fang_core.pool.identity import PoolIdentity
from fang_core.runs.completion import MOST_IN_A_BATCH
from tests.core.pool.fakes import FakeEvent, FakeRuntime, FakeStore

POOL = UUID(int=1)
AWAY = NotConnected("away")


def ids(*numbers: int) -> set[UUID]:
    return {UUID(int=number) for number in numbers}


class OutcomeStore(FakeStore):
    async def complete(self, pool_id: UUID, outcomes: Sequence[Outcome], /, *, waits: bool = True) -> Set[UUID]:
        numbers = [outcome.id.int for outcome in outcomes]
        written: set[UUID] = await self._answer(ids(*numbers), "complete", numbers, waits)
        return written


class Written:
    """A completer, and what it has told of."""

    def __init__(self, runtime: FakeRuntime) -> None:
        self.runtime = runtime
        self.store = OutcomeStore(runtime)
        self.written: list[int] = []
        self.locked: list[int] = []
        self.lost: list[int] = []
        self.completer = Completer(
            runtime,
            self.store,
            PoolIdentity(POOL),
            EventBus(()),
            on_written=lambda outcomes: self.written.extend(outcome.id.int for outcome in outcomes),
            on_locked=lambda outcomes: self.locked.extend(outcome.id.int for outcome in outcomes),
            on_lost=self._on_lost,
            task_of=lambda _: None,
        )
        self.completer.start()
        runtime.settle()

    def _on_lost(self, outcome: Outcome) -> bool:
        self.lost.append(outcome.id.int)
        return False

    def put(self, *numbers: int) -> None:
        for number in numbers:
            self.completer.put(Outcome(UUID(int=number), 1, None))

    def hold_up(self) -> FakeEvent:
        """Has the next write wait; returns the event that lets it go on."""
        answers = self.runtime.event()
        self.store.reply("complete", answers)
        return answers

    def answer(self, answers: FakeEvent) -> None:
        answers.set()
        self.runtime.settle()

    @property
    def batches(self) -> list[list[int]]:
        return [call[1] for call in self.store.calls]


@pytest.fixture
def pool(runtime: FakeRuntime) -> Written:
    return Written(runtime)


def test_what_comes_while_a_batch_is_written_goes_together(pool: Written) -> None:
    answers = pool.hold_up()
    pool.put(1)
    pool.runtime.settle()
    pool.put(2, 3, 4)
    pool.runtime.settle()
    assert pool.batches == [[1]]
    assert pool.written == []
    pool.answer(answers)
    assert pool.batches == [[1], [2, 3, 4]]
    assert pool.written == [1, 2, 3, 4]
    assert pool.completer.written == 4


def test_a_batch_has_a_bound(pool: Written) -> None:
    pool.put(*range(MOST_IN_A_BATCH + 1))
    pool.runtime.settle()
    assert [len(batch) for batch in pool.batches] == [MOST_IN_A_BATCH, 1]


def test_what_finds_no_row_is_tried_once_more_alone_and_then_lost(pool: Written) -> None:
    pool.store.reply("complete", ids(1), ids())
    pool.put(1, 2)
    pool.runtime.settle()
    assert pool.batches == [[1, 2], [2]]
    assert pool.lost == [2]
    assert pool.written == [1, 2]  # dealt with: the pool holds neither


# A flush --------------------------------------------------------------------------------------------------------------


def test_a_flush_waits_for_what_was_put_before_it_and_not_for_what_comes_later(pool: Written) -> None:
    answers = [pool.runtime.event() for _ in range(3)]
    pool.store.reply("complete", answers[0], ids(0), answers[1], ids(1), answers[2], ids(2))
    pool.put(0)
    pool.runtime.settle()
    pool.put(1)
    flushing = pool.runtime.begin(pool.completer.flush(60.0))
    pool.put(2)
    pool.answer(answers[0])
    assert pool.batches == [[0], [1]]
    assert not flushing.has_ended
    pool.answer(answers[1])
    assert flushing.has_ended
    assert pool.written == [0, 1]
    pool.answer(answers[2])
    assert pool.written == [0, 1, 2]


def test_a_flush_waits_no_longer_than_it_may(pool: Written) -> None:
    pool.hold_up()
    pool.put(1)
    flushing = pool.runtime.begin(pool.completer.flush(2.0))
    pool.runtime.advance(1.9)
    assert not flushing.has_ended
    pool.runtime.advance(0.1)
    assert flushing.has_ended


def test_a_flush_waits_for_locked_rows_which_are_tried_at_once(pool: Written) -> None:
    pool.store.fail("complete", RowsLocked("locked", written=set(), locked=ids(1)), times=2)
    pool.put(1)
    pool.runtime.settle()
    flushing = pool.runtime.begin(pool.completer.flush(60.0))
    assert pool.batches == [[1], [1]]
    assert not flushing.has_ended
    pool.runtime.advance(5.0)
    assert flushing.has_ended
    assert pool.written == [1]


# Locked rows ----------------------------------------------------------------------------------------------------------


def test_outcomes_of_locked_rows_hold_up_no_other_and_are_tried_again_without_waiting(pool: Written) -> None:
    pool.store.fail("complete", RowsLocked("locked", written=ids(1, 3), locked=ids(2)))
    pool.put(1, 2, 3)
    pool.runtime.settle()
    assert pool.written == [1, 3]
    assert pool.locked == [2]
    pool.put(4)
    pool.runtime.settle()
    assert pool.written == [1, 3, 4]
    pool.runtime.advance(0.2)
    assert pool.written == [1, 3, 4, 2]
    assert [call[1:] for call in pool.store.calls] == [([1, 2, 3], True), ([4], True), ([2], False)]


# A backend that is away -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [AWAY, BackendUnavailable("no reply"), ValueError("nobody expected this")])
def test_an_outcome_is_kept_until_it_is_written(
    pool: Written, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    pool.store.fail("complete", error, times=5)
    pool.put(1)
    pool.runtime.advance(0.5)
    assert pool.written == []
    pool.runtime.advance(20.0)
    assert pool.batches == [[1]] * 6
    assert (pool.written, pool.lost) == ([1], [])
    assert [record.exc_info is not None for record in caplog.records if "wait to be written" in record.message] == (
        [isinstance(error, ValueError)]
    )
    assert len([record for record in caplog.records if "writes outcomes again" in record.message]) == 1


# The end --------------------------------------------------------------------------------------------------------------


def test_closing_writes_what_is_there(pool: Written) -> None:
    answers = pool.hold_up()
    pool.put(1)
    pool.runtime.settle()
    pool.put(2)
    closing = pool.runtime.begin(pool.completer.close(1.0))
    pool.put(3)  # a run that ends just now
    pool.answer(answers)
    assert closing.has_ended
    assert closing.result is True
    assert pool.written == [1, 2, 3]


def test_closing_gives_up_what_the_backend_does_not_take(pool: Written, caplog: pytest.LogCaptureFixture) -> None:
    pool.store.fail("complete", AWAY, times=1_000)
    pool.put(1)
    pool.runtime.settle()
    closing = pool.runtime.begin(pool.completer.close(1.0))
    assert closing.has_ended  # it does not wait for the next try, and the next answer is the last
    assert closing.result is False
    assert len(pool.batches) == 2
    assert [record.levelname for record in caplog.records][-1] == "ERROR"


def test_closing_ends_though_a_write_hangs(pool: Written) -> None:
    pool.hold_up()
    pool.put(1)
    closing = pool.runtime.begin(pool.completer.close(1.0))
    pool.runtime.advance(0.9)
    assert not closing.has_ended
    pool.runtime.advance(0.1)
    assert closing.result is False


def test_closing_tries_locked_rows_until_its_time_is_over(pool: Written) -> None:
    pool.store.fail("complete", RowsLocked("locked", written=set(), locked=ids(1)), times=1_000)
    pool.put(1)
    pool.runtime.settle()
    closing = pool.runtime.begin(pool.completer.close(1.0))
    pool.runtime.advance(0.6)
    assert not closing.has_ended
    pool.runtime.advance(0.4)
    assert closing.result is False
    assert len(pool.batches) > 2


def test_nothing_is_left_when_nothing_was_put(pool: Written) -> None:
    assert pool.runtime.call(pool.completer.close(1.0))
    assert pool.batches == []
