"""Interrupts runs of threads at random moments, many times, and counts what became of each."""

import itertools
import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

from fang_core import ClaimedTask, Interrupt, Runnable, Success, TaskConfig
from fang_core.config import PoolOptions
from fang_core.driving import drive
from fang_core.events import EventBus
from fang_core.lifecycle import Cancelled, Failure, Result
from fang_core.logs import SafeLogger
from fang_core.pool.identity import PoolIdentity
from fang_core.runs.run import Run
from fang_threaded.workers import ThreadWorkers
from tests.patience import PATIENT

NOW = datetime(2024, 2, 29, tzinfo=UTC)
LOCK = threading.Lock()
OURS = SafeLogger("tests.threaded.interrupts")
THEIRS = logging.getLogger("tests.threaded.interrupts")
THEIRS.propagate = False


class Formats(logging.Handler):
    """Holds the handler's lock for some steps of Python."""

    def emit(self, record: logging.LogRecord) -> None:
        self.format(record)


def spin(turns: int) -> int:
    return sum(number for number in range(turns) if number % 3)


def computes() -> None:
    spin(2_000)


def logs() -> None:
    for _ in range(5):
        THEIRS.warning("a line %s", spin(10))
        OURS.warning("a line %s", spin(10))


def locks() -> None:
    for _ in range(20):
        with LOCK:
            spin(20)


def sleeps() -> None:
    for _ in range(3):
        time.sleep(0.00005)


def raises() -> None:
    for turn in itertools.count():
        try:
            spin(50)
            raise ValueError(turn)
        except ValueError:
            if turn > 10:
                return
        finally:
            spin(20)


DEEDS: tuple[Callable[[], None], ...] = (computes, logs, locks, sleeps, raises)


class Interrupts(Runnable):
    task_config = TaskConfig(kind="interrupts.Interrupts")
    deed: int

    def run(self, queue: Any) -> None:
        DEEDS[self.deed]()


class Rig:
    """Workers without a pool, always with runs to take."""

    def __init__(self, number_of_workers: int, cls: type[Runnable] = Interrupts) -> None:
        self.count: Counter[str] = Counter()
        self.wrong: list[str] = []
        self._ended: set[int] = set()
        self._limited: set[UUID] = set()  # the tasks whose runs were interrupted for a lower reason first
        kinds: Any = SimpleNamespace(class_of=lambda _: cls)
        self.workers = ThreadWorkers(
            kinds, None, PoolOptions(number_of_workers=number_of_workers), identity=PoolIdentity(), events=EventBus(())
        )
        self._is_over = False
        for _ in range(2 * number_of_workers):
            self._feed()
        self.workers.start(
            on_taken=lambda _: None,
            on_ended=self._on_ended,
            is_over=lambda: False,
            on_fewer=lambda: None,
            held=lambda: 0,
            on_too_many_stuck=lambda: None,
        )
        self.threads = [worker.thread for worker in self.workers._by_number().values()]

    def _feed(self) -> None:
        task = ClaimedTask(uuid4(), "any", f'{{"deed": {random.randrange(len(DEEDS))}}}', 1, 0, 20, 0, "common", 0, NOW)
        self.workers.put([Run(task, uuid4())])

    def _on_ended(self, run: Run, result: Result | None, seconds: float) -> None:
        struck = run.interruption is not None and run.interruption.is_struck
        if id(run) in self._ended:
            self.wrong.append("a run has ended twice")
        match result:
            case Success() if struck:
                self.count["struck, and ended all the same"] += 1
            case Success():
                self.count["not struck"] += 1
            case Cancelled() if struck or run.task.id in self._limited:
                self.count["interrupted"] += 1
            case Failure(error) if run.task.id in self._limited and error.message.startswith("TimedOut"):
                self.count["timed out"] += 1
            case _:
                self.wrong.append(f"struck: {struck}, but {result}")
        if not self._is_over:
            self._feed()

    def interrupt(self, times: int) -> None:
        """Interrupts so many runs at random moments, half of them for a lower reason first."""
        until = self.count["interrupted"] + times
        while self.count["interrupted"] < until and not self.wrong:
            time.sleep(random.random() * 0.0005)
            run = random.choice(list(self.workers._by_number().values())).current
            if run is not None:
                if random.random() < 0.5:
                    self._limited.add(run.task.id)
                    self.workers.interrupt(run, Interrupt.TIME_LIMIT)
                    time.sleep(random.random() * 0.0002)
                self.workers.interrupt(run, Interrupt.CANCELLED, "for a test")

    def stop(self) -> int:
        """Ends the workers; returns how many are left."""
        self._is_over = True
        left = drive(self.workers.stop(time.monotonic() + 30))
        if [worker.thread for worker in self.workers._by_number().values()] != self.threads:
            self.wrong.append("a worker was replaced")
        return left


def interrupt(times: int, number_of_workers: int = 4) -> Counter[str]:
    """Interrupts so many runs; returns what became of all of them. Raises ``AssertionError`` if one was lost."""
    handler = Formats()
    THEIRS.addHandler(handler)
    try:
        rig = Rig(number_of_workers)
        rig.interrupt(times)
        assert rig.stop() == 0
        assert rig.wrong == [], rig.wrong
        assert rig.count["struck, and ended all the same"] == 0
        assert LOCK.acquire(timeout=PATIENT)
        LOCK.release()
        assert handler.lock is not None
        assert handler.lock.acquire(timeout=PATIENT)
        handler.lock.release()
    finally:
        THEIRS.removeHandler(handler)
    return rig.count
