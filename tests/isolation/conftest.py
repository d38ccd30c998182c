"""What tests of isolated runs share."""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from fang_core import RetentionMode, Task, TaskState
from fang_core.backends.memory.state import MemoryState
from fang_core.runs.interrupt import Interrupt
from fang_isolation.spawning import OneProcess
from tests.isolation import tasks, tasks_slow
from tests.modes import Harness, eventually
from tests.patience import PATIENT
from tests.processes import children_of

START: float = PATIENT
"""Seconds that a child has to start and run: its server may import the library first, on a busy machine."""


class Bench:
    """A pool of one mode on a memory queue, the files that its runs write, and the rows."""

    def __init__(self, harness: Harness, folder: Path) -> None:
        self.harness = harness
        self.folder = folder
        self.state = MemoryState()
        self.queue = harness.memory_queue(self.state)
        self._files = 0

    def task(self, name: str) -> Any:
        """The class of this name of the mode."""
        module = tasks_slow if name == "Slow" else tasks
        return getattr(module, ("Threaded" if self.harness.mode == "threaded" else "Async") + name)

    def pool(self, *, poll: timedelta = timedelta(milliseconds=20), **options: Any) -> Any:
        given: dict[str, Any] = {
            "retention_mode": RetentionMode.KEEP_ALL,
            "number_of_workers": 2,
            "task_type": "isolation",
            "grace_period": timedelta(seconds=1),
            **options,
        }
        return self.harness.pool(self.queue, poll=poll, **given)

    def path(self) -> Path:
        self._files += 1
        return self.folder / str(self._files)

    def insert(self, act: str, *, name: str = "Act", path: Path | None = None, **options: Any) -> Task:
        task = self.task(name)(act=act, path=str(path or self.path()))
        inserted: Task = self.harness.call(self.queue.insert_task, task, **options)
        return inserted

    def begun(self, act: str, **options: Any) -> tuple[Task, dict[str, Any]]:
        """A task that is running, and what it told."""
        path = self.path()
        task = self.insert(act, path=path, **options)
        return task, self.told(path)

    def ran(self, act: str, **options: Any) -> dict[str, Any]:
        """What a task told that has finished."""
        task, told = self.begun(act, **options)
        self.ended(task)
        return told

    def told(self, path: Path) -> dict[str, Any]:
        eventually(path.exists, START)
        told: dict[str, Any] = json.loads(path.read_text())
        return told

    def row(self, task: Task) -> Task:
        return self.state.tasks[task.id]

    def ended(self, task: Task, *states: TaskState) -> Task:
        """The row, once it is in one of these states."""
        eventually(lambda: self.row(task).state in (states or (TaskState.FINISHED,)), START)
        return self.row(task)

    def interrupt(self, pool: Any, task: Task, why: Interrupt, reason: str = "") -> None:
        """What the pool does to a run at its limit, and at its like."""

        def interrupt() -> None:
            run = pool._lifetime.in_flight._runs[task.id]
            assert pool._lifetime.workers.interrupt(run, why, reason)

        self.harness.call(_on_loop(interrupt))


def _on_loop(function: Callable[[], None]) -> Callable[[], Any]:
    async def call() -> None:
        function()

    return call


def is_there(pid: int) -> bool:
    """Whether a process runs that is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def children() -> Sequence[int]:
    """The pids of this process' children that run tasks."""
    return children_of({os.getpid()})


@pytest.fixture(autouse=True, scope="session")
def _server_is_there() -> None:
    """Waits for the server that forks children: it imports for a second of a processor, once for all tests."""
    process = OneProcess(with_main=False).Process(target=int)
    process.start()
    process.join()
    assert process.exitcode == 0


@pytest.fixture
def bench(harness: Harness, tmp_path: Path) -> Iterator[Bench]:
    yield Bench(harness, tmp_path)
    harness.end()
    eventually(lambda: not children())
