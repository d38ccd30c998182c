"""The heartbeat's thread against a heart that the test holds in its hand."""

import asyncio
import threading
import time
import uuid
from collections.abc import Sequence
from queue import SimpleQueue
from typing import Any

import pytest

from fang_async.heartbeat import Heartbeat
from fang_core.config import EXIT_RUNS_LEFT
from fang_core.errors import BackendUnavailable
from fang_core.events import Dispatcher
from fang_core.liveness import DECLARED_DEAD, Beat, Pulse
from fang_core.store import Rescued

ME, OTHER = uuid.UUID(int=1), uuid.UUID(int=2)


class Heart:
    """Answers what it is given; an exception is raised."""

    def __init__(self, *answers: Beat | Exception) -> None:
        self._answers = list(answers)
        self.beats: SimpleQueue[tuple[uuid.UUID, bool]] = SimpleQueue()
        self.closed = threading.Event()

    async def beat(self, pool_id: uuid.UUID, stopping: bool, /) -> Beat:
        self.beats.put((pool_id, stopping))
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

    async def beat(self, pool_id: uuid.UUID, stopping: bool, /) -> Beat:
        if not self.beats.empty():
            await asyncio.to_thread(self.answers.wait)
        return await super().beat(pool_id, stopping)


def heartbeat(heart: Any, on_declared_dead: Any = None) -> Heartbeat:
    def unexpected(pool_id: uuid.UUID) -> None:
        raise AssertionError(f"{pool_id} is not dead")

    return Heartbeat(
        heart, ME, lease=60, max_crashes=3, events=Dispatcher([]), on_declared_dead=on_declared_dead or unexpected
    )


async def test_it_says_at_once_that_the_pool_stops_and_ends_when_it_is_closed() -> None:
    heart = Heart()
    beating = heartbeat(heart)
    await beating.start()
    assert heart.beats.get_nowait() == (ME, False)  # so the pool has its lock before it claims
    beating.say_stopping()
    assert await asyncio.to_thread(heart.beats.get, True, 0.9) == (ME, True)
    await beating.close(5)
    assert heart.closed.is_set()


def test_it_ends_with_the_loop_of_an_application_that_forgot_to_stop_its_pool() -> None:
    heart = Heart()
    beating = heartbeat(heart)

    async def application() -> None:
        await beating.start()

    asyncio.run(application())
    assert heart.closed.wait(5)
    beating._thread.join(5)
    assert not beating._thread.is_alive()


@pytest.mark.parametrize("error", [BackendUnavailable("away"), ValueError("nobody expected this")])
async def test_a_beat_that_fails_is_tried_again_before_the_next_second(error: Exception) -> None:
    heart = Heart(error)
    beating = heartbeat(heart)
    await beating.start()
    for _ in range(2):
        await asyncio.to_thread(heart.beats.get, True, 0.9)
    await beating.close(5)


async def test_it_names_the_id_that_it_beat_with() -> None:
    dead: SimpleQueue[uuid.UUID] = SimpleQueue()
    beating = heartbeat(Heart(Beat(False, 1e6, [])), dead.put)
    await beating.start()
    assert await asyncio.to_thread(dead.get, True, 5) == ME
    beating.pool_id = OTHER
    await beating.close(5)


async def test_the_last_call_waits_for_no_beat(monkeypatch: pytest.MonkeyPatch) -> None:
    codes: SimpleQueue[int] = SimpleQueue()
    monkeypatch.setattr("os._exit", codes.put)
    heart = Stuck()
    beating = heartbeat(heart)
    await beating.start()
    beating.say_stopping(exit_at=time.monotonic() + 0.1)
    beating.say_stopping(exit_at=time.monotonic() + 3600)  # the first counts
    assert await asyncio.to_thread(codes.get, True, 5) == EXIT_RUNS_LEFT
    heart.answers.set()
    await beating.close(5)


async def test_many_dead_pools_do_not_keep_it_from_beating() -> None:
    dead = [Pulse(uuid.UUID(int=n), DECLARED_DEAD, True, False, 60) for n in (2, 3, 4)]
    rescued: list[Pulse] = []

    class Slow(Heart):
        async def rescue(self, dead: Sequence[Pulse], /) -> list[Rescued]:
            rescued.extend(dead)
            if len(rescued) == 1:
                beating._answered -= 10  # so long did it take
            return []

    beating = heartbeat(Slow(Beat(True, 1e6, dead), Beat(True, 1e6, dead)))
    await beating._beat()
    assert len(rescued) == 1
    await beating._beat()
    assert sorted(rescued[1:]) == dead


@pytest.mark.parametrize("what", ["rescue", "rescue_orphans"])
async def test_a_rescue_that_fails_on_the_heart_s_connection_raises_a_doubt(
    what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next beat may come on another session, within a second and without a beat that failed."""
    dead, held, free = (
        Pulse(OTHER, *seen, 600.0) for seen in ((DECLARED_DEAD, True, False), (1, True, True), (1, True, False))
    )
    heart = Heart(Beat(True, 1e6, [dead] if what == "rescue" else [held]), *(Beat(True, 1e6, [free]) for _ in range(3)))
    beating = heartbeat(heart)
    beating._until_sweep = 1

    async def fails(*_: Any) -> list[Rescued]:
        raise BackendUnavailable("away")

    monkeypatch.setattr(heart, what, fails)
    with pytest.raises(BackendUnavailable):
        await beating._beat()
    for mono in (10.0, 11.0, 12.0):
        beat = await heart.beat(ME, False)
        assert not beating._watch.dead(ME, beat, time.monotonic() + mono - 9.5)
