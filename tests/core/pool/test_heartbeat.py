"""What a heart passes on between its beats and its pool, in a time that the test decides."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import pytest

from fang_core.backends.pools import Rescued
from fang_core.errors import BackendUnavailable
from fang_core.events import EventBus
from fang_core.liveness import EVERY, MOST_MESSAGES, Beat, BeatRequest, CancelRequest, Pulse
from fang_core.messages import Delivery
from fang_core.pool.control import Control
from fang_core.pool.heartbeat import APART, SWEEP_EVERY, Heartbeat
from fang_core.pool.identity import PoolIdentity
from fang_core.runs.run import Run
from tests.core.pool.fakes import FakeRuntime, claim

ME, OTHER = UUID(int=1), UUID(int=2)
AWAY = BackendUnavailable("away")


def message(number: int) -> Delivery:
    return Delivery(number, "stop", {}, "someone")


class Heart:
    """Answers what it is given, in turn; an exception is raised."""

    def __init__(self, runtime: FakeRuntime) -> None:
        self._runtime = runtime
        self.requests: list[BeatRequest] = []
        self.times: list[float] = []
        self.answers: list[Beat | Exception] = []
        self.takes = 0.0
        """Seconds for each beat, and for each look for tasks without a holder."""

    def answer(self, **fields: Any) -> None:
        self.answers.append(Beat(True, 1e6, [], **fields))

    async def beat(self, request: BeatRequest, /) -> Beat:
        self.requests.append(request)
        self.times.append(self._runtime.now)
        await self._runtime.wait(self._runtime.event(), self.takes)
        answer = self.answers.pop(0) if self.answers else Beat(True, 1e6, [])
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def rescue(self, dead: Sequence[Pulse], /) -> list[Rescued]:
        return []

    async def rescue_orphans(self, max_crashes: int, /) -> list[Rescued]:
        await self._runtime.wait(self._runtime.event(), self.takes)
        return []

    async def close(self) -> None: ...


class Told(Control):
    """Notes what the heart says."""

    def __init__(self) -> None:
        self.going_on: list[Run] = []
        self.asked: list[tuple[UUID, bool]] = []
        self.text: str | None = None
        self.heard: list[Any] = []

    def held(self, pool_id: UUID, *, every: bool) -> list[Run]:
        self.asked.append((pool_id, every))
        return self.going_on

    def runs(self, pool_id: UUID) -> str | None:
        return self.text

    def on_lost(self, run: Run) -> None:
        self.heard.append(("lost", run))

    def on_cancel(self, run: Run, reason: str, by: str) -> None:
        self.heard.append(("cancel", run, reason, by))

    def on_message(self, delivery: Delivery) -> None:
        self.heard.append(delivery.id)


@pytest.fixture
def heart(runtime: FakeRuntime) -> Heart:
    return Heart(runtime)


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def identity() -> PoolIdentity:
    return PoolIdentity(ME)


@pytest.fixture
def heartbeat(runtime: FakeRuntime, heart: Heart, told: Told, identity: PoolIdentity) -> Heartbeat:
    return Heartbeat(
        runtime,
        heart,
        identity,
        lease=60,
        max_crashes=3,
        events=EventBus(()),
        on_declared_dead=lambda _: None,
        control=told,
    )


def test_a_message_is_passed_on_once_however_often_replies_are_lost(
    runtime: FakeRuntime, heart: Heart, told: Told, heartbeat: Heartbeat
) -> None:
    heart.answer(messages=[message(7), message(8)])
    heart.answers.append(AWAY)
    heart.answer(messages=[message(7), message(8), message(9)])  # a backend that has not removed them yet
    heart.answers.append(AWAY)
    runtime.call(heartbeat.start())
    runtime.advance(10.0)
    assert told.heard == [7, 8, 9]
    assert [list(request.handled) for request in heart.requests[:6]] == [[], [7, 8], [7, 8], [7, 8, 9], [7, 8, 9], []]


def test_what_cannot_be_obeyed_is_not_heard_again(
    runtime: FakeRuntime, heart: Heart, told: Told, heartbeat: Heartbeat, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(delivery: Delivery) -> None:
        told.heard.append(delivery.id)
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(told, "on_message", fails)
    heart.answer(messages=[message(7), message(8)])
    runtime.call(heartbeat.start())
    runtime.advance(1.0)
    assert told.heard == [7, 8]
    assert heart.requests[1].handled == [7, 8]


def test_it_asks_about_the_runs_and_names_those_that_are_lost_or_to_be_cancelled(
    runtime: FakeRuntime, heart: Heart, told: Told, heartbeat: Heartbeat
) -> None:
    runs = told.going_on = [Run(task, ME) for task in claim(1, 2, 3).tasks]
    told.text = "{}"
    first, second, third = (run.task.id for run in runs)
    heart.answer(lost=[third], cancels=[CancelRequest(first, "a mistake", "me")])
    runtime.call(heartbeat.start())
    assert heart.requests == [BeatRequest(ME, False, [(first, 1), (second, 1), (third, 1)], [], "{}")]
    assert told.heard == [("lost", runs[2]), ("cancel", runs[0], "a mistake", "me")]


def test_a_pool_without_a_record_hears_of_no_run(
    runtime: FakeRuntime, heart: Heart, told: Told, heartbeat: Heartbeat
) -> None:
    """All are lost, and the pool learns that in another way."""
    told.going_on = [Run(task, ME) for task in claim(1).tasks]
    lost = [told.going_on[0].task.id]
    heart.answers.append(Beat(False, 1e6, [], lost=lost, messages=[message(7)]))
    runtime.call(heartbeat.start())
    assert told.heard == []


def test_told_something_it_beats_at_once_and_asks_about_every_run(
    runtime: FakeRuntime, heart: Heart, told: Told, heartbeat: Heartbeat
) -> None:
    runtime.call(heartbeat.start())
    runtime.advance(0.5)
    heartbeat.on_told(OTHER)
    runtime.settle()
    assert len(heart.requests) == 1
    heart.answers.append(AWAY)
    heartbeat.on_told(ME)
    runtime.settle()
    assert told.asked == [(ME, False), (ME, True)]
    runtime.advance(1.0)
    assert told.asked[2] == (ME, True)  # the one before had no answer
    runtime.advance(1.0)
    assert told.asked[3] == (ME, False)


def test_told_again_and_again_it_does_not_beat_without_a_pause(
    runtime: FakeRuntime, heart: Heart, told: Told, heartbeat: Heartbeat
) -> None:
    runtime.call(heartbeat.start())
    for _ in range(100):
        heartbeat.on_told(ME)
        runtime.advance(APART / 10)
    assert 10 <= len(heart.times) <= 12
    assert min(later - earlier for earlier, later in zip(heart.times, heart.times[1:], strict=False)) >= 0.99 * APART
    heartbeat.on_told(ME)
    runtime.advance(APART)
    assert heart.times[-1] > runtime.now - 2 * APART  # the last is never left out


@pytest.mark.parametrize(("takes", "apart"), [(0.0, EVERY), (0.3, EVERY), (1.5, 1.5 + APART)])
def test_beats_begin_a_second_apart_however_long_they_take(
    runtime: FakeRuntime, heart: Heart, heartbeat: Heartbeat, takes: float, apart: float
) -> None:
    """They do so when a beat has looked for tasks without a holder as well, if there is time for that."""
    heart.takes = takes
    runtime.begin(heartbeat.start())
    runtime.advance(5 * SWEEP_EVERY)
    gaps = [later - earlier for earlier, later in zip(heart.times, heart.times[1:], strict=False)]
    assert sorted({round(gap, 6) for gap in gaps})[0] == round(apart, 6)
    assert sum(gap > apart + 1e-6 for gap in gaps) == (0 if takes < EVERY else len(gaps) // SWEEP_EVERY)


def test_after_as_many_messages_as_a_beat_brings_it_asks_for_more_at_once(
    runtime: FakeRuntime, heart: Heart, told: Told, heartbeat: Heartbeat
) -> None:
    many = [message(number) for number in range(1, 2 * MOST_MESSAGES + 8)]
    heart.answer(messages=many[:MOST_MESSAGES])
    heart.answer(messages=many[MOST_MESSAGES : 2 * MOST_MESSAGES])
    heart.answer(messages=many[MOST_MESSAGES : 2 * MOST_MESSAGES])  # a backend that does not get them removed
    heart.answer(messages=many[2 * MOST_MESSAGES :])
    runtime.call(heartbeat.start())
    runtime.advance(3 * APART)
    assert len(told.heard) == 2 * MOST_MESSAGES
    assert len(heart.requests) == 3
    runtime.advance(1.0)
    assert told.heard == [each.id for each in many]


def test_after_the_pool_has_another_id_it_listens_for_that(
    runtime: FakeRuntime, heart: Heart, told: Told, heartbeat: Heartbeat, identity: PoolIdentity
) -> None:
    runtime.call(heartbeat.start())
    runtime.advance(0.5)
    identity.id = OTHER
    heartbeat.on_told(ME)
    runtime.settle()
    assert len(heart.requests) == 1
    heartbeat.on_told(OTHER)
    runtime.settle()
    assert [request.pool_id for request in heart.requests] == [ME, OTHER]
