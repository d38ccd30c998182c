"""Defines what ``pool.stats()`` returns."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolStats:
    """Counts what a pool does, at one moment; work goes on meanwhile, so the numbers may differ by a few.

    Attributes:
        running: runs in progress, without the stuck ones.
        waiting: tasks that were claimed and wait for a worker.
        unwritten: tasks whose run has ended, or that are given back, but whose outcome is not yet written.
        stuck: runs that go on though they were interrupted, and whose workers were replaced.
        workers: how many tasks the pool runs at once.
        claims: claims that were answered since the last start, with tasks or without.
        claimed: tasks that were claimed since then.
        started: runs that a worker has begun since then.
        ended: runs that have ended since then; those that are stuck count as ended.
        given_back: tasks that were claimed since then and that did not run here.
        by_kind: for each kind of the tasks that run or wait, how many run, and how many wait.
    """

    running: int = 0
    waiting: int = 0
    unwritten: int = 0
    stuck: int = 0
    workers: int
    claims: int = 0
    claimed: int = 0
    started: int = 0
    ended: int = 0
    given_back: int = 0
    by_kind: Mapping[str, tuple[int, int]] = field(default_factory=dict)
