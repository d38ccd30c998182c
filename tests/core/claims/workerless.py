"""A pool without workers, as a dispatch sees it: tests take the runs that wait, and read what outcomes they come to."""

import logging
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from fang_core import Constant, Runnable, TaskConfig
from fang_core.claims.dispatch import Dispatch
from fang_core.claims.expiry import ClaimTime
from fang_core.claims.inflight import InFlight
from fang_core.config import PoolOptions, RetentionMode
from fang_core.events import EventBus, Events
from fang_core.lifecycle import Outcome
from fang_core.record import ClaimedTask
from fang_core.runs.run import Run
from fang_core.tasks.registry import Kinds

POOL = uuid.UUID(int=99)
NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Supplied(Runnable):
    task_config = TaskConfig(backoff=Constant(delay=timedelta(seconds=7), jitter=0))

    def run(self, queue: Any) -> None: ...


def task(number: int, **fields: Any) -> ClaimedTask:
    claimed = ClaimedTask(uuid.UUID(int=number), "Supplied", "{}", 1, 0, 20, 0, "common", 0, NOW)
    return claimed._replace(**fields)


class Waiting:
    """A line, as workers keep it."""

    def __init__(self) -> None:
        self.runs: list[Run] = []
        self.ended_runs = 0

    @property
    def backlog(self) -> int:
        return len(self.runs)

    def put(self, runs: list[Run]) -> None:
        self.runs += runs

    def take_back(self, count: int) -> Iterator[Run]:
        for _ in range(count):
            yield self.runs.pop(0)


class Put:
    """Outcomes that wait to be written."""

    def __init__(self) -> None:
        self.written = 0
        self.outcomes: list[Outcome] = []

    def put(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)


class Workerless:
    """A dispatch with all that stands around it.

    Args:
        events: are told.
        workers: how many the dispatch counts on.
    """

    def __init__(
        self,
        *events: Events,
        workers: int = 2,
        retention_mode: RetentionMode = RetentionMode.REMOVE_FINISHED,
    ) -> None:
        self.is_stopping = False
        self.line, self.put = Waiting(), Put()
        self.in_flight = InFlight(retention_mode, lambda: False, workers)
        self.dispatch = Dispatch(
            PoolOptions(number_of_workers=workers, retention_mode=retention_mode),
            Kinds("threaded"),
            self.in_flight,
            self.line,
            self.put,
            events=EventBus(events),
            is_stopping=lambda: self.is_stopping,
            logger=logging.getLogger("tests"),
        )

    def hand_out(self, *tasks: ClaimedTask, began: float = 0.0) -> None:
        """Hands out what a claim has brought that began then and took no time."""
        self.dispatch.hand_out(list(tasks), POOL, ClaimTime(NOW, began), began)

    @property
    def waiting(self) -> list[int]:
        return [run.task.id.int for run in self.line.runs]

    @property
    def given_back(self) -> list[int]:
        return [outcome.id.int for outcome in self.put.outcomes if outcome.state is not None]
