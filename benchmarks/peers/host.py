"""Runs one system in a process of its own: a line of JSON in for each command, a line of JSON out.

The system's own interpreter runs it as a script, so it needs only the standard library and loads the one peer by its
path. It answers ``["drain", {"tasks": 1000}]`` with ``{"result": ...}``, or with ``{"error": "..."}``.
"""

import asyncio
import importlib.util
import itertools
import json
import os
import random
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

CHUNK = 20_000
"""Tasks in one bulk insert."""

STEPS = 100
"""Points in the course of a drain."""

SETTLING = 1.5
"""Seconds after which a worker has started, and has found nothing to do."""

WARMING = 5
"""Inserts that are not measured, before those that are."""

Ran = Callable[[int], None]
Insert = Callable[[int], Awaitable[object]]


class Peer(Protocol):
    """The class ``Peer`` of a peer's module; its arguments are a database's URL and the measured setting."""

    version: str

    async def install(self) -> None:
        """Makes the tables."""

    async def insert(self, numbers: Sequence[int]) -> None:
        """Inserts a no-op task for each number, in bulk, in the fastest documented way."""

    def working(self, ran: Ran) -> AbstractAsyncContextManager[Insert]:
        """Runs a worker until the end of the context; it ends gracefully, with all outcomes written.

        Each task only calls ``ran(its number)``. The context's value inserts one task.
        """


# Commands -------------------------------------------------------------------------------------------------------------


async def insert(peer: Peer, tasks: int) -> float:
    """Returns the seconds for a bulk insert of this many tasks."""
    began = time.perf_counter()
    for chunk in range(0, tasks, CHUNK):
        await peer.insert(range(chunk, min(tasks, chunk + CHUNK)))
    return time.perf_counter() - began


async def drain(peer: Peer, tasks: int) -> dict[str, Any]:
    """Starts a worker that runs this many of the inserted tasks.

    ``seconds`` is the time from before the worker's start, connecting included, to the end of its graceful stop, when
    all is written, and ``cpu`` this process' processor time meanwhile; ``starting`` is the time before the first run,
    and ``stopping`` the time after the last; ``course`` has how many had run, and at what second after the first.
    """
    course = _Course(tasks)
    cpu = time.process_time()
    began = time.perf_counter()
    async with peer.working(course.ran):
        await course.over()
    ended = time.perf_counter()
    points = sorted(course.points)
    first = points[0][1]
    return {
        "starting": first - began,
        "stopping": ended - points[-1][1],
        "seconds": ended - began,
        "cpu": time.process_time() - cpu,
        "course": [(count, at - first) for count, at in points],
    }


async def latency(peer: Peer, samples: int, seed: int) -> list[float]:
    """Returns the milliseconds from before each single insert to its run; the worker is idle for 20 to 50 ms before."""
    loop = asyncio.get_running_loop()
    ran = asyncio.Event()
    seen: list[float] = []

    def on_run(began: int) -> None:
        seen.append((time.perf_counter_ns() - began) / 1e6)
        loop.call_soon_threadsafe(ran.set)

    chance = random.Random(seed)
    async with peer.working(on_run) as insert_one:
        await asyncio.sleep(SETTLING)
        for _ in range(WARMING + samples):
            await asyncio.sleep(chance.uniform(0.02, 0.05))
            ran.clear()
            await insert_one(time.perf_counter_ns())
            await ran.wait()
    return seen[WARMING:]


async def record(peer: Peer, quiet: float) -> list[tuple[int, float]]:
    """Starts a worker; returns the number of each run and when it started, when none has for ``quiet`` seconds.

    The time is that of the machine's monotonic clock, in seconds: it can be compared with other processes' times.
    """
    runs: list[tuple[int, float]] = []
    async with peer.working(lambda number: runs.append((number, time.monotonic()))):
        last = time.monotonic()
        while time.monotonic() < last + quiet:
            await asyncio.sleep(last + quiet - time.monotonic())
            last = runs[-1][1] if runs else last
    return runs


async def version(peer: Peer) -> list[str]:
    """Returns the versions of the system, and of Python."""
    return [peer.version, sys.version.split()[0]]


class _Course:
    """Counts runs, from any thread, and keeps the time of every hundredth part."""

    def __init__(self, tasks: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._over = asyncio.Event()
        self._counter: Iterator[int] = itertools.count(1)  # next() is atomic, += is not
        self._step = max(1, tasks // STEPS)
        self._tasks = tasks
        self.points: list[tuple[int, float]] = []

    def ran(self, _number: int) -> None:
        count = next(self._counter)
        if count % self._step == 0 or count in {1, self._tasks}:
            self.points.append((count, time.perf_counter()))
            if count == self._tasks:  # and not again, if the worker goes on to run more
                self._loop.call_soon_threadsafe(self._over.set)

    async def over(self) -> None:
        await self._over.wait()


# The conversation -----------------------------------------------------------------------------------------------------

COMMANDS: dict[str, Callable[..., Awaitable[Any]]] = {
    "insert": insert,
    "drain": drain,
    "latency": latency,
    "record": record,
    "version": version,
}


def main(name: str, url: str, setting: str) -> None:
    """Answers commands, each on an event loop of its own, until its input ends."""
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # so that output of a library is not taken for an answer
    module = _load(name)
    peer = module.Peer(url, **json.loads(setting))
    new_loop = getattr(module, "new_event_loop", asyncio.new_event_loop)
    for line in sys.stdin:
        command, arguments = json.loads(line)
        try:
            with asyncio.Runner(loop_factory=new_loop) as runner:
                answer = {"result": runner.run(_perform(peer, command, arguments))}
        except Exception as error:  # noqa: BLE001 - the driver shows it
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


def _end_with(parent: int) -> None:
    """Makes this process end with its parent: a command may last for an hour, and the driver may be killed."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


async def _perform(peer: Any, command: str, arguments: dict[str, Any]) -> Any:
    if command in COMMANDS:
        return await COMMANDS[command](peer, **arguments)
    return await getattr(peer, command)(**arguments)  # a command that only this peer has


def _load(name: str) -> ModuleType:
    # Not by an import: the peer's file has the name of the library that it imports.
    spec = importlib.util.spec_from_file_location(f"peer_{name}", Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main(*sys.argv[1:])
