"""The heartbeat's thread against a heart that the test holds in its hand, in both modes.

Whatever blocks here blocks the heart's own thread alone.
"""

import asyncio
import threading
import time
import uuid
from collections.abc import Sequence
from queue import SimpleQueue
from typing import Any

import pytest

from fang_async.runtime import AsyncioRuntime
from fang_core.backends.pools import Rescued
from fang_core.config import EXIT_RUNS_LEFT
from fang_core.errors import BackendUnavailable
from fang_core.events import EventBus
from fang_core.liveness import DECLARED_DEAD, Beat, BeatRequest, Pulse
from fang_core.pool.heartbeat import Heartbeat
from fang_core.pool.identity import PoolIdentity
from tests.modes import Harness, eventually
from tests.patience import PATIENT

ME, OTHER = uuid.UUID(int=1), uuid.UUID(int=2)


class Heart:
    """Answers what it is given; an exception is raised."""

    def __init__(self, *answers: Beat | Exception) -> None:
        self._answers = list(answers)
        self.beats: SimpleQueue[tuple[uuid.UUID, bool]] = SimpleQueue()
        self.closed = threading.Event()

    async def beat(self, request: BeatRequest, /) -> Beat:
        self.beats.put((request.pool_id, request.stopping))
        answer = self._answers.pop(0) if self._answers else Beat(True, 1e6, [])
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def rescue(self, dead: Sequence[Pulse], /) -> list[Rescued]:
        raise AssertionError("nobody is dead")

    async def rescue_orphans(self, max_crashes: int, /) -> list[Rescued]:
        return []

    async def close(self) -> None:
        self.closed.set()


class Stuck(Heart):
    """Answers once, and then only when it may."""

    def __init__(self) -> None:
        super().__init__()
        self.answers = threading.Event()

    async def beat(self, request: BeatRequest, /) -> Beat:
        if not self.beats.empty():
            self.answers.wait()
        return await super().beat(request)


def heartbeat(harness: Harness, heart: Any, on_declared_dead: Any = None) -> Heartbeat:
    def unexpected(pool_id: uuid.UUID) -> None:
        raise AssertionError(f"{pool_id} is not dead")

    async def make() -> Heartbeat:
        return Heartbeat(
            harness.runtime(),
            heart,
            PoolIdentity(ME),
            lease=60,
            max_crashes=3,
            events=EventBus([]),
            on_declared_dead=on_declared_dead or unexpected,
        )

    made: Heartbeat = harness.call(make)
    return made


def test_it_says_at_once_that_the_pool_stops_and_ends_when_it_is_closed(harness: Harness) -> None:
    heart = Heart()
    beating = heartbeat(harness, heart)
    harness.call(beating.start)
    assert heart.beats.get_nowait() == (ME, False)  # so the pool has its lock before it claims
    beating.say_stopping()
    assert heart.beats.get(timeout=0.9) == (ME, True)
    harness.call(beating.close, 5)
    assert heart.closed.is_set()
    assert beating._service is not None
    assert beating._service.has_ended


@pytest.mark.parametrize("error", [BackendUnavailable("away"), ValueError("nobody expected this")])
def test_it_starts_though_its_first_beat_fails(harness: Harness, error: Exception) -> None:
    heart = Heart(error)
    beating = heartbeat(harness, heart)
    harness.call(beating.start)
    for _ in range(2):
        heart.beats.get(timeout=PATIENT)
    harness.call(beating.close, 5)


def test_it_names_the_id_that_it_beat_with(harness: Harness) -> None:
    dead: SimpleQueue[uuid.UUID] = SimpleQueue()
    beating = heartbeat(harness, Heart(Beat(False, 1e6, [])), dead.put)
    harness.call(beating.start)
    assert dead.get(timeout=PATIENT) == ME
    beating._identity.id = OTHER
    harness.call(beating.close, 5)


def test_the_last_call_waits_for_no_beat(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    codes: SimpleQueue[int] = SimpleQueue()
    monkeypatch.setattr("os._exit", codes.put)
    heart = Stuck()
    beating = heartbeat(harness, heart)
    harness.call(beating.start)
    beating.say_stopping(exit_at=time.monotonic() + 0.1)
    beating.say_stopping(exit_at=time.monotonic() + 3600)  # the first counts
    assert codes.get(timeout=PATIENT) == EXIT_RUNS_LEFT
    heart.answers.set()
    harness.call(beating.close, 5)


def test_many_dead_pools_do_not_keep_it_from_beating(harness: Harness) -> None:
    dead = [Pulse(uuid.UUID(int=n), DECLARED_DEAD, True, False, 60) for n in (2, 3, 4)]
    rescued: list[Pulse] = []

    class Slow(Heart):
        async def rescue(self, dead: Sequence[Pulse], /) -> list[Rescued]:
            rescued.extend(dead)
            if len(rescued) == 1:
                beating._tried -= 10  # so long did it take
            return []

    beating = heartbeat(harness, Slow(Beat(True, 1e6, dead), Beat(True, 1e6, dead)))
    harness.call(beating._try)
    assert len(rescued) == 1
    harness.call(beating._try)
    assert sorted(rescued[1:]) == dead


@pytest.mark.parametrize("what", ["rescue", "rescue_orphans"])
def test_a_rescue_that_fails_on_the_heart_s_connection_raises_a_doubt(
    harness: Harness, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next beat may come on another session, within a second and without a beat that failed."""
    dead, held, free = (
        Pulse(OTHER, *seen, 600.0) for seen in ((DECLARED_DEAD, True, False), (1, True, True), (1, True, False))
    )
    heart = Heart(Beat(True, 1e6, [dead] if what == "rescue" else [held]), *(Beat(True, 1e6, [free]) for _ in range(3)))
    beating = heartbeat(harness, heart)
    beating._until_sweep = 1

    async def fails(*_: Any) -> list[Rescued]:
        raise BackendUnavailable("away")

    monkeypatch.setattr(heart, what, fails)
    with pytest.raises(BackendUnavailable):
        harness.call(beating._beat)
    for mono in (10.0, 11.0, 12.0):
        beat = harness.call(heart.beat, BeatRequest(ME))
        assert not beating._watch.dead(ME, beat, time.monotonic() + mono - 9.5)


def test_it_ends_with_the_loop_of_an_application_that_forgot_to_stop_its_pool() -> None:
    heart = Heart()

    async def application() -> Heartbeat:
        beating = Heartbeat(
            AsyncioRuntime(),
            heart,
            PoolIdentity(ME),
            lease=60,
            max_crashes=3,
            events=EventBus([]),
            on_declared_dead=lambda _: None,
        )
        await beating.start()
        return beating

    beating = asyncio.run(application())
    assert heart.closed.wait(PATIENT)
    eventually(lambda: beating._service is not None and beating._service.has_ended)
