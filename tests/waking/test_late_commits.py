"""Tasks become visible behind the cursors of pools that claim on: each runs soon after its commit all the same."""

import random
import threading
import time
from contextlib import suppress
from datetime import timedelta
from queue import Empty

import psycopg

from fang_threaded import Queue
from tests.modes import RAN, Harness
from tests.stalls import Stalls

SHORT, LONG = 0.02, 3.0
"""Seconds that transactions of producers last: at most, and the one."""

LATEST = 1.0
"""Seconds after the commit by which a task has run."""

LONG_ONE = -1


class Traffic:
    """Eight producers, each inserting in a transaction that stays open for up to 20 ms, and one of three seconds."""

    def __init__(self, url: str, harness: Harness) -> None:
        self._url = url
        self._harness = harness
        self._inserting = Queue(url)
        self._over = threading.Event()
        self.committed: dict[int, float] = {}
        self._threads = [threading.Thread(target=self._produce, args=[number]) for number in range(8)]
        self._threads.append(threading.Thread(target=self._produce_long))

    def __enter__(self) -> "Traffic":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _produce(self, number: int) -> None:
        lasts = random.Random(number)
        n = number
        with psycopg.connect(self._url) as connection:
            while not self._over.is_set():
                self._insert(connection, n, lasts.uniform(0, SHORT))
                n += 8

    def _produce_long(self) -> None:
        with psycopg.connect(self._url) as connection:
            self._insert(connection, LONG_ONE, LONG)

    def _insert(self, connection: psycopg.Connection, n: int, seconds: float) -> None:
        self._inserting.insert_task(self._harness.note(n=n), connection=connection)
        connection.execute("SELECT pg_sleep(%s)", [seconds])
        connection.commit()
        self.committed[n] = time.monotonic()


def test_no_task_runs_long_after_its_commit(harness: Harness, url: str) -> None:
    for _ in range(4):
        harness.pool(harness.queue(url), number_of_workers=2, poll=timedelta(seconds=1))
    ran_at: dict[int, float] = {}
    with Stalls() as stalls, Traffic(url, harness) as traffic:
        deadline = time.monotonic() + LONG + 5
        while LONG_ONE not in ran_at and time.monotonic() < deadline:
            note(ran_at)
    deadline = time.monotonic() + 5
    while ran_at.keys() < traffic.committed.keys() and time.monotonic() < deadline:
        note(ran_at)
    assert ran_at.keys() == traffic.committed.keys()
    latest = LATEST + stalls.seconds
    late = {n: ran_at[n] - committed for n, committed in traffic.committed.items() if ran_at[n] > committed + latest}
    assert not late


def note(ran_at: dict[int, float]) -> None:
    """When the next one ran."""
    with suppress(Empty):
        ran_at[RAN.get(timeout=0.1)] = time.monotonic()
