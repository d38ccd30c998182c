"""Statements that meet: one is held back until another waits for it."""

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partialmethod
from typing import Any

import psycopg
import pytest

from fang_postgres.operations import Operations
from tests.patience import PATIENT

WAITING = """SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock'"""


def await_waiting(watcher: psycopg.Connection[Any], count: int, seconds: float = PATIENT) -> None:
    """Until so many sessions of this database wait for a lock; ``watcher`` is in autocommit."""
    deadline = time.monotonic() + seconds
    while (waiting := watcher.execute(WAITING).fetchone()[0]) < count:  # type: ignore[index]
        assert time.monotonic() < deadline, f"{waiting} sessions wait for a lock, not {count}"
        time.sleep(0.005)


def wait_for_rows(patch: pytest.MonkeyPatch) -> None:
    """Has outcomes wait for locked rows until these are free, so that they meet what was changed meanwhile."""
    patch.setattr(Operations, "complete", partialmethod(Operations.complete, lock_wait="10s"))


def while_changed(url: str, sql: str, params: Mapping[str, Any], act: Callable[[], Any], *, end: str = "COMMIT") -> Any:
    """What ``act`` returns or raises, begun in a thread while ``sql`` is done and not committed.

    The change ends, by ``end``, once ``act`` waits for it or is done.
    """
    with (
        ThreadPoolExecutor(1) as executor,
        psycopg.connect(url) as changer,
        psycopg.connect(url, autocommit=True) as watcher,
    ):
        changer.execute(sql, params)
        future = executor.submit(act)
        while not future.done() and not watcher.execute(WAITING).fetchone()[0]:  # type: ignore[index]
            wait([future], 0.01)
        changer.execute(end)
        return future.result(PATIENT)
