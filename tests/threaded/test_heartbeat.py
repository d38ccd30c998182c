"""The heartbeat's thread against a heart that the test holds in its hand."""

import threading
import time
import uuid
from collections.abc import Sequence
from queue import SimpleQueue
from typing import Any

import pytest

from fang_core.config import EXIT_RUNS_LEFT
from fang_core.errors import BackendUnavailable
from fang_core.events import Dispatcher
from fang_core.liveness import DECLARED_DEAD, Beat, Pulse
from fang_core.store import Rescued
from fang_threaded.heartbeat import Heartbeat

ME, OTHER = uuid.UUID(int=1), uuid.UUID(int=2)


class Heart:
    """Answers what it is given; an exception is raised."""

    def __init__(self, *answers: Beat | Exception) -> None:
        self._answers = list(answers)
        self.beats: SimpleQueue[tuple[uuid.UUID, bool]] = SimpleQueue()
        self.closed = threading.Event()

    def beat(self, pool_id: uuid.UUID, stopping: bool, /) -> Beat:
        self.beats.put((pool_id, stopping))
        answer = self._answers.pop(0) if self._answers else Beat(True, 1e6, [])
        if isinstance(answer, Exception):
            raise answer
        return answer

    def rescue(self, dead: Sequence[Pulse], /) -> list[Rescued]:
        raise AssertionError("nobody is dead")

    def rescue_orphans(self, max_crashes: int, /) -> list[Rescued]:
        return []

    def close(self) -> None:
        self.closed.set()


class Stuck(Heart):
    """Answers once, and then only when it may."""

    def __init__(self) -> None:
        super().__init__()
        self.answers = threading.Event()

    def beat(self, pool_id: uuid.UUID, stopping: bool, /) -> Beat:
        if not self.beats.empty():
            self.answers.wait()
        return super().beat(pool_id, stopping)


def heartbeat(heart: Any, on_declared_dead: Any = None) -> Heartbeat:
    def unexpected(pool_id: uuid.UUID) -> None:
        raise AssertionError(f"{pool_id} is not dead")

    return Heartbeat(
        heart, ME, lease=60, max_crashes=3, events=Dispatcher([]), on_declared_dead=on_declared_dead or unexpected
    )


def test_it_says_at_once_that_the_pool_stops_and_ends_when_it_is_closed() -> None:
    heart = Heart()
    beating = heartbeat(heart)
    beating.start()
    assert heart.beats.get_nowait() == (ME, False)  # so the pool has its lock before it claims
    beating.say_stopping()
    assert heart.beats.get(timeout=0.9) == (ME, True)
    beating.close(5)
    assert heart.closed.is_set()
    assert not beating._thread.is_alive()


@pytest.mark.parametrize("error", [BackendUnavailable("away"), ValueError("nobody expected this")])
def test_it_starts_though_its_first_beat_fails(error: Exception) -> None:
    heart = Heart(error)
    beating = heartbeat(heart)
    beating.start()
    for _ in range(2):
        heart.beats.get(timeout=5)
    beating.close(5)


def test_it_names_the_id_that_it_beat_with() -> None:
    dead: SimpleQueue[uuid.UUID] = SimpleQueue()
    beating = heartbeat(Heart(Beat(False, 1e6, [])), dead.put)
    beating.start()
    assert dead.get(timeout=5) == ME
    beating.pool_id = OTHER
    beating.close(5)


def test_the_last_call_waits_for_no_beat(monkeypatch: pytest.MonkeyPatch) -> None:
    codes: SimpleQueue[int] = SimpleQueue()
    monkeypatch.setattr("os._exit", codes.put)
    heart = Stuck()
    beating = heartbeat(heart)
    beating.start()
    beating.say_stopping(exit_at=time.monotonic() + 0.1)
    beating.say_stopping(exit_at=time.monotonic() + 3600)  # the first counts
    assert codes.get(timeout=5) == EXIT_RUNS_LEFT
    heart.answers.set()
    beating.close(5)


def test_many_dead_pools_do_not_keep_it_from_beating() -> None:
    dead = [Pulse(uuid.UUID(int=n), DECLARED_DEAD, True, False, 60) for n in (2, 3, 4)]
    rescued: list[Pulse] = []

    class Slow(Heart):
        def rescue(self, dead: Sequence[Pulse], /) -> list[Rescued]:
            rescued.extend(dead)
            if len(rescued) == 1:
                beating._answered -= 10  # so long did it take
            return []

    beating = heartbeat(Slow(Beat(True, 1e6, dead), Beat(True, 1e6, dead)))
    beating._beat()
    assert len(rescued) == 1
    beating._beat()
    assert sorted(rescued[1:]) == dead


@pytest.mark.parametrize("what", ["rescue", "rescue_orphans"])
def test_a_rescue_that_fails_on_the_heart_s_connection_raises_a_doubt(
    what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next beat may come on another session, within a second and without a beat that failed."""
    dead, held, free = (
        Pulse(OTHER, *seen, 600.0) for seen in ((DECLARED_DEAD, True, False), (1, True, True), (1, True, False))
    )
    heart = Heart(Beat(True, 1e6, [dead] if what == "rescue" else [held]), *(Beat(True, 1e6, [free]) for _ in range(3)))
    beating = heartbeat(heart)
    beating._until_sweep = 1

    def fails(*_: Any) -> list[Rescued]:
        raise BackendUnavailable("away")

    monkeypatch.setattr(heart, what, fails)
    with pytest.raises(BackendUnavailable):
        beating._beat()
    for mono in (10.0, 11.0, 12.0):
        beat = heart.beat(ME, False)
        assert not beating._watch.dead(ME, beat, time.monotonic() + mono - 9.5)
