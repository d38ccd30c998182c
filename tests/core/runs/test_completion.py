"""How batches of outcomes are written: against a backend that refuses, falls silent, has locked and has lost rows."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fang_core import TaskState
from fang_core.lifecycle import Outcome, unstorable
from fang_core.runs.completion import Refused, Reply, Report, Unanswered, Unwritten, Written, plan
from tests.examples import as_often

Answer = Literal["answered", "lost before", "lost after"]


def outcome(number: int, attempt: int = 1, state: TaskState | None = TaskState.FINISHED) -> Outcome:
    return Outcome(UUID(int=number), attempt, state, error_message=f"{number}/{attempt}")


@dataclass
class Backend:
    """Rows with their attempts; a batch is one statement, all of it or nothing."""

    rows: dict[UUID, int]
    refuses: frozenset[UUID] = frozenset()
    """Ids whose own outcome cannot be stored."""
    locks: frozenset[UUID] = frozenset()
    """Ids of rows that others have locked: they are passed by."""
    refuses_even_the_substitute: frozenset[UUID] = frozenset()
    answers: list[Answer] = field(default_factory=list)
    """What becomes of the next statements; all further ones are answered."""
    written: list[Outcome] = field(default_factory=list)
    sent: list[list[Outcome]] = field(default_factory=list)

    def write(self, batch: Sequence[Outcome]) -> Reply:
        self.sent.append(list(batch))
        answer = self.answers.pop(0) if self.answers else "answered"
        if answer == "lost before":
            return Unanswered()
        reply = self._apply(batch)
        return Unanswered() if answer == "lost after" else reply

    def _apply(self, batch: Sequence[Outcome]) -> Reply:
        if any(self._is_refused(one) for one in batch):
            return Refused()
        held = [one for one in batch if self.rows.get(one.id) == one.attempt]
        found = [one for one in held if one.id not in self.locks]
        for one in found:
            del self.rows[one.id]  # held no more
        self.written += [one._replace(doubtful=False) for one in found]
        return Written({one.id for one in found}, frozenset(one.id for one in held if one.id in self.locks))

    def _is_refused(self, one: Outcome) -> bool:
        return one.id in self.refuses_even_the_substitute or (
            one.id in self.refuses and one.error_message != unstorable(one).error_message
        )


def drive(outcomes: Sequence[Outcome], backend: Backend) -> Report:
    """As both modes do it."""
    writing = plan(outcomes)
    request = next(writing)
    while True:
        assert request, "an empty batch was sent"
        assert len({one.id for one in request}) == len(request)
        try:
            request = writing.send(backend.write(request))
        except StopIteration as end:
            report = end.value
            assert isinstance(report, Report)
            return report


def holding(*outcomes: Outcome, **options: frozenset[UUID] | list[Answer]) -> Backend:
    return Backend({one.id: one.attempt for one in outcomes}, **options)  # type: ignore[arg-type]


def ids(*numbers: int) -> frozenset[UUID]:
    return frozenset(UUID(int=number) for number in numbers)


some_ids = st.frozensets(st.integers(0, 29)).map(lambda numbers: ids(*numbers))


@as_often(3)
@given(
    count=st.integers(1, 30),
    refused=some_ids,
    hopeless=some_ids,
    gone=some_ids,
    locked=some_ids,
    answers=st.lists(st.sampled_from(["answered", "lost before", "lost after"]), max_size=40),
)
def test_every_outcome_is_written_once_or_accounted_for(
    count: int,
    refused: frozenset[UUID],
    hopeless: frozenset[UUID],
    gone: frozenset[UUID],
    locked: frozenset[UUID],
    answers: list[Answer],
) -> None:
    outcomes = [outcome(number) for number in range(count)]
    silent = sum(answer != "answered" for answer in answers)
    backend = holding(
        *outcomes, refuses=refused, refuses_even_the_substitute=hopeless, locks=locked, answers=list(answers)
    )
    for number in gone:
        backend.rows.pop(number, None)

    report = drive(outcomes, backend)

    assert {one.id for one in report.locked} == (locked & backend.rows.keys()) - {one.id for one in report.lost}
    assert all(silent or not one.doubtful for one in report.locked)
    if report.locked:
        backend.locks, backend.answers = frozenset(), []  # the others have ended
        report.lost.extend(drive(report.locked, backend).lost)

    written = [one.id for one in backend.written]
    lost = [one.id for one in report.lost]
    assert len(written) == len(set(written))
    assert len(lost) == len(set(lost))
    assert not set(written) & set(lost)
    for one in outcomes:
        poison = one.id in refused or one.id in hopeless
        # A poison row that is gone is refused for its values all the same: nobody can know that it is gone.
        if not poison and one.id not in gone:
            assert one in backend.written  # no innocent is lost, whatever stands beside it
        elif not poison:
            assert one.id not in written
            assert one.id in lost or silent  # where every reply came, it is known to be lost
        else:
            assert one in report.unstorable
            assert one not in backend.written
            if one.id in hopeless:
                assert one.id in lost
            elif one.id not in gone:
                assert unstorable(one) in backend.written
    assert len(report.unstorable) == len({one.id for one in report.unstorable})
    assert all(one.id in refused | hopeless for one in report.unstorable)
    assert all(one.id in gone | hopeless for one in report.lost)
    # Halving sends at most twice as many batches as there are outcomes; each one alone at most twice more.
    assert len(backend.sent) <= silent + 4 * count + len(report.locked) + bool(report.locked)


def test_all_goes_in_one_statement_where_nothing_is_wrong() -> None:
    outcomes = [outcome(number) for number in range(1000)]
    backend = holding(*outcomes)

    assert drive(outcomes, backend) == Report([], [], [])
    assert backend.sent == [outcomes]


def test_a_culprit_is_found_by_halving_and_failed() -> None:
    outcomes = [outcome(number) for number in range(1024)]
    culprit = outcomes[700]
    backend = holding(*outcomes, refuses=ids(700))

    assert drive(outcomes, backend) == Report(lost=[], unstorable=[culprit], locked=[])
    assert len(backend.written) == 1024
    assert unstorable(culprit) in backend.written
    assert len(backend.sent) == 1 + 2 * 10 + 1


def test_a_missing_row_is_tried_once_more_alone_and_then_lost() -> None:
    outcomes = [outcome(number) for number in range(5)]
    backend = holding(*outcomes)
    del backend.rows[UUID(int=3)]

    assert drive(outcomes, backend) == Report(lost=[outcomes[3]], unstorable=[], locked=[])
    assert backend.sent == [outcomes, [outcomes[3]]]


def test_a_row_that_is_found_at_the_second_look_is_not_lost() -> None:
    one = outcome(1)
    writing = plan([one])

    assert next(writing) == [one]
    assert writing.send(Written(set())) == [one]
    with pytest.raises(StopIteration) as end:
        writing.send(Written({one.id}))
    assert end.value.value == Report([], [], [])


@pytest.mark.parametrize("answer", ["lost before", "lost after"])
def test_after_silence_the_same_is_sent_again_and_what_is_missing_counts_as_done(answer: Answer) -> None:
    outcomes = [outcome(number) for number in range(5)]
    backend = holding(*outcomes, answers=[answer] * 3)

    assert drive(outcomes, backend) == Report([], [], [])
    assert backend.sent == [outcomes] * 4
    assert backend.written == outcomes


def test_after_silence_a_refused_batch_remembers_that_it_may_have_been_written() -> None:
    outcomes = [outcome(number) for number in range(4)]
    writing = plan(outcomes)
    request = next(writing)
    assert writing.send(Unanswered()) == request
    first_half = writing.send(Refused())
    second_half = writing.send(Written(set()))

    assert (first_half, second_half) == (outcomes[:2], outcomes[2:])
    with pytest.raises(StopIteration) as end:
        writing.send(Written(set()))
    assert end.value.value == Report([], [], [])


def test_after_silence_the_substitute_may_find_its_row_gone() -> None:
    one = outcome(1)
    writing = plan([one])
    next(writing)
    writing.send(Unanswered())

    assert writing.send(Refused()) == [unstorable(one)]
    with pytest.raises(StopIteration) as end:
        writing.send(Written(set()))
    assert end.value.value == Report(lost=[], unstorable=[one], locked=[])


def test_silence_in_one_half_says_nothing_of_the_other() -> None:
    outcomes = [outcome(number) for number in range(4)]
    writing = plan(outcomes)
    next(writing)
    writing.send(Refused())
    writing.send(Unanswered())
    second_half = writing.send(Written(set()))

    assert second_half == outcomes[2:]
    sent = [writing.send(Written(set())), writing.send(Written(set()))]
    assert sorted(one.id for (one,) in sent) == [UUID(int=2), UUID(int=3)]


def test_what_refuses_even_the_fixed_text_is_left_to_others() -> None:
    one = outcome(1)
    backend = holding(one, refuses_even_the_substitute=ids(1))

    assert drive([one], backend) == Report(lost=[unstorable(one)], unstorable=[one], locked=[])
    assert backend.written == []


def test_what_others_have_locked_is_neither_written_nor_lost() -> None:
    outcomes = [outcome(number) for number in range(5)]
    backend = holding(*outcomes, locks=ids(3))

    assert drive(outcomes, backend) == Report([], [], locked=[outcomes[3]])
    assert backend.sent == [outcomes]
    backend.locks = frozenset()
    assert drive([outcomes[3]], backend) == Report([], [], [])
    assert backend.rows == {}


def test_what_is_gone_when_the_lock_is_is_lost() -> None:
    backend = holding(outcome(1), locks=ids(1))
    (locked,) = drive([outcome(1)], backend).locked
    backend.rows.clear()
    assert drive([locked], backend).lost == [outcome(1)]


def test_where_our_own_write_may_be_what_locks_the_row_it_counts_as_done_when_it_is_gone() -> None:
    """The connection broke, and the server still works on what it was sent."""
    backend = holding(outcome(1), outcome(2), locks=ids(1), answers=["lost before"])
    (locked,) = drive([outcome(1), outcome(2)], backend).locked
    backend.rows.clear()
    assert drive([locked, outcome(3)], backend).lost == [outcome(3)]
    assert backend.sent[-3:] == [[outcome(3)], [outcome(3)], [locked]]


def test_what_was_surely_not_written_is_sent_again_without_doubt() -> None:
    one = outcome(1)
    writing = plan([one])
    assert next(writing) == writing.send(Unwritten()) == [one]
    assert writing.send(Written(set())) == [one]
    with pytest.raises(StopIteration) as end:
        writing.send(Written(set()))
    assert end.value.value == Report(lost=[one], unstorable=[], locked=[])


@pytest.mark.parametrize("newest_first", [True, False])
def test_of_two_outcomes_for_one_task_that_of_the_later_attempt_is_written(newest_first: bool) -> None:
    """The older run was lost when its pool claimed the task again; its outcome could not pass the fence."""
    older, newer = outcome(1, attempt=1), outcome(1, attempt=2)
    backend = holding(newer)

    report = drive([newer, older] if newest_first else [older, newer], backend)

    assert report == Report([], [], [])
    assert backend.written == [newer]


def test_a_text_that_the_encoding_lacks_is_written_in_ascii() -> None:
    """Such as a dash in LATIN1: what is to become of the task stays as it was decided."""
    entry = json.dumps({"number": 1, "error": "no room \u2014", "traceback": None}, ensure_ascii=False)
    retried = Outcome(UUID(int=3), 1, TaskState.RETRIED, timedelta(0), 1, "no room \u2014", entry)
    neighbours = [outcome(number) for number in (1, 2, 4)]
    writing = plan([*neighbours, retried])
    request = next(writing)
    written: list[Outcome] = []
    report = None
    while report is None:
        is_ascii = all((one.error_message or "").isascii() and (one.error_entry or "").isascii() for one in request)
        written += request if is_ascii else []
        try:
            request = writing.send(Written({one.id for one in request}) if is_ascii else Refused())
        except StopIteration as end:
            report = end.value
    assert report == Report([], [], [])
    in_ascii = '{"number": 1, "error": "no room \\\\u2014", "traceback": null}'
    expected = retried._replace(error_message="no room \\u2014", error_entry=in_ascii)
    assert sorted(written, key=lambda one: one.id) == sorted([*neighbours, expected], key=lambda one: one.id)
