"""Tests that writes wake the pools that wait."""

import threading
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

from fang_core.backends.ticking import tick_of
from fang_core.backends.waking import LateRows
from fang_core.conformance.backend import WITHIN, Backend
from fang_core.conformance.store.leases import seen
from fang_core.record import ClaimedTask, TaskState
from fang_core.tasks.uniqueness import Unique

SOON = timedelta(seconds=5)
"""The delay of a task whose insert still wakes pools: a pool may look again by itself only after that time."""


class Sleeper:
    """Has a client that waits to be woken."""

    def __init__(self, backend: Backend, *task_types: str) -> None:
        self.backend = backend
        self.woken = threading.Event()
        self.times = 0
        self.client = backend.client(task_types=task_types)
        self.client.listen(self._wake)
        self.client.set_waiting(True)

    def _wake(self, late: LateRows | None) -> None:
        self.times += 1
        self.woken.set()

    def is_woken_by(self, write: Callable[[], Any], seconds: float | None = None) -> bool:
        """Calls ``write``, and returns whether that wakes the client."""
        self.woken.clear()
        write()
        return self.backend.wait_for(self.woken, WITHIN if seconds is None else seconds)

    def fall_asleep(self) -> None:
        """Waits until inserts wake the client. A backend may need a moment, and may wake it by itself at first."""
        insert = partial(self.backend.insert, self.backend.note(), task_type=self.client.record.task_types[0])
        deadline = time.monotonic() + WITHIN
        times = 0
        while times < 3:
            assert time.monotonic() < deadline, "no insert wakes a pool that waits"
            times += self.is_woken_by(insert, 0.2)
        self.backend.call(self.backend.queue.remove_all_tasks)


class WakeSuite:
    """Tests ``Store.listen`` and ``set_waiting``."""

    def test_whatever_makes_a_task_due_wakes_a_pool_that_waits(self, backend: Backend) -> None:
        backend.needs("wakes")
        sleeper, worker = Sleeper(backend, "common", "conformance.yearly"), backend.client()
        sleeper.fall_asleep()

        def claimed() -> ClaimedTask:
            (task,) = worker.claim()
            return task

        tick = tick_of(backend.yearly_note(), worker.read_schedules("any").now, backend.queue.rules)
        writes: dict[str, Callable[[], Any]] = {
            "insert, due soon": lambda: backend.insert(backend.note(), delay=SOON),
            "bulk": lambda: backend.insert_many([backend.note()] * 20),
            "tick": lambda: worker.tick(tick),
            "insert": lambda: backend.insert(backend.note(n=1)),
            "give-back": lambda: worker.end(claimed(), TaskState.NEW),
            "retry at once": lambda: worker.end(claimed(), TaskState.RETRIED, delay=timedelta(0), charge=1),
            "reconcile": lambda: (worker.claim(), worker.reconcile()),
        }
        for name, write in writes.items():
            if name == "insert":
                backend.call(backend.queue.remove_all_tasks)  # the next writes need a single task
            assert sleeper.is_woken_by(write), f"no pool was woken by this: {name}"
        cancelled = backend.move(backend.row(claimed()), TaskState.CANCELLED)
        assert sleeper.is_woken_by(partial(backend.move, cancelled, TaskState.NEW))
        for uniq in (Unique(on_conflict="replace"), Unique(on_conflict="postpone")):
            backend.insert(backend.note(n=2), uniq=uniq, delay=timedelta(hours=1))
            assert sleeper.is_woken_by(partial(backend.insert, backend.note(n=2), uniq=uniq)), uniq.on_conflict
            backend.call(backend.queue.remove_all_tasks)

    def test_a_rescue_wakes_a_pool_that_waits(self, backend: Backend) -> None:
        backend.needs("wakes", "outlives_processes")
        sleeper, dead, watcher = Sleeper(backend, "common"), backend.client(), backend.client()
        sleeper.fall_asleep()
        backend.insert(backend.note())
        assert len(dead.claim()) == 1
        pulse = seen(watcher, dead)
        assert sleeper.is_woken_by(lambda: watcher.rescue(pulse))

    def test_a_listener_hears_until_it_is_closed(self, backend: Backend) -> None:
        backend.needs("wakes")
        closed, other = Sleeper(backend, "common"), Sleeper(backend, "common")
        for sleeper in (closed, other):
            sleeper.fall_asleep()
        closed.client.close()
        closed.client.close()  # closing twice is allowed
        closed.times = 0
        for _ in range(3):
            assert other.is_woken_by(lambda: backend.insert(backend.note()))
        assert closed.times == 0
