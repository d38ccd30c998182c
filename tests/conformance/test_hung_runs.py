"""Runs that hang, and a blocked event loop, are told of while they last; what runs tell of their progress is read."""

import asyncio
import logging
import re
import socket
from collections.abc import Iterator
from datetime import timedelta
from queue import SimpleQueue
from typing import Any, Final
from uuid import UUID

import pytest

from fang_core import AsyncRunnable, Cause, ClaimedTask, Events, Progress, Runnable, TaskConfig, UsageError, current_run
from fang_core.backends.memory.state import MemoryState
from fang_core.runs.run import Run
from tests.core.pool.fakes import claim
from tests.modes import GATES, RAN, Harness, eventually, ran
from tests.patience import PATIENT

SOON: Final = timedelta(milliseconds=300)
PEERS: Final[list[socket.socket]] = []


class Told(Events):
    """Keeps what it is told of runs and loops, and on which thread."""

    def __init__(self) -> None:
        self.hung: SimpleQueue[tuple[str, float, str | None]] = SimpleQueue()
        self.blocked: SimpleQueue[tuple[float, str | None]] = SimpleQueue()

    def run_hung(self, pool_id: UUID, task: ClaimedTask, seconds: float, place: str | None) -> None:
        self.hung.put((task.kind, seconds, place))

    def loop_blocked(self, pool_id: UUID, seconds: float, place: str | None) -> None:
        self.blocked.put((seconds, place))


class ThreadedHang(Runnable):
    task_config = TaskConfig(kind="tests.ThreadedHang")
    n: int = 0

    def run(self, queue: Any) -> None:
        ours, theirs = socket.socketpair()
        PEERS.append(theirs)
        RAN.put(self.n)
        with ours:
            ours.recv(1)  # hangs here


class AsyncHang(AsyncRunnable):
    task_config = TaskConfig(kind="tests.AsyncHang")
    n: int = 0

    async def run(self, queue: Any) -> None:
        RAN.put(self.n)
        await wait_on()


async def wait_on() -> None:
    await asyncio.to_thread(GATES["gate"].wait, 20)  # awaits here


class Blocks(AsyncRunnable):
    task_config = TaskConfig(kind="tests.Blocks")

    async def run(self, queue: Any) -> None:
        RAN.put(1)
        GATES["gate"].wait(PATIENT)  # blocks here


class ThreadedTells(Runnable):
    task_config = TaskConfig(kind="tests.ThreadedTells")

    def run(self, queue: Any) -> None:
        current_run().progress(1, 3, "caf\N{LATIN SMALL LETTER E WITH ACUTE}\0" + 300 * "x")
        RAN.put(1)
        GATES["gate"].wait(PATIENT)


class AsyncTells(AsyncRunnable):
    task_config = TaskConfig(kind="tests.AsyncTells")

    async def run(self, queue: Any) -> None:
        current_run().progress(1, 3, "caf\N{LATIN SMALL LETTER E WITH ACUTE}\0" + 300 * "x")
        RAN.put(1)
        await asyncio.to_thread(GATES["gate"].wait, 20)


def line_of(mark: str) -> str:
    with open(__file__, encoding="utf-8") as source:
        number = next(n for n, line in enumerate(source, 1) if line.rstrip().endswith(f"# {mark} here"))
    return f"{__file__}:{number}"


def let_go() -> None:
    GATES["gate"].set()
    while PEERS:
        PEERS.pop().close()


@pytest.fixture(autouse=True)
def _all_end(harness: Harness) -> Iterator[None]:
    yield
    let_go()
    harness.end()


class Bench:
    def __init__(self, harness: Harness, **options: Any) -> None:
        self.harness = harness
        self.told = Told()
        self.queue = harness.memory_queue(MemoryState())
        self.pool = harness.pool(self.queue, events=[self.told], **{"warn_after": SOON, **options})
        self.hang: Any = ThreadedHang if harness.mode == "threaded" else AsyncHang
        self.tells: Any = ThreadedTells if harness.mode == "threaded" else AsyncTells

    @property
    def place(self) -> str:
        """Where ``hang`` stands."""
        return line_of("hangs" if self.harness.mode == "threaded" else "awaits")

    def insert(self, *tasks: Any, **options: Any) -> list[Any]:
        return [self.harness.call(self.queue.insert_task, task, **options) for task in tasks]

    @property
    def runs(self) -> dict[str, Any]:
        (pool,) = self.harness.call(self.queue.pools)
        return dict(pool.runs)


def blocked(bench: Bench) -> list[str | None]:
    """Where the loop stood each time when it was told of as blocked: on a busy machine it may stand anywhere."""
    return [bench.told.blocked.get()[1] for _ in range(bench.told.blocked.qsize())]


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def test_each_hung_run_is_told_of_once_with_its_place(harness: Harness, caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(harness, number_of_workers=4)
    rows = bench.insert(*(bench.hang(n=n) for n in range(4)))
    ran(4)
    hung = [bench.told.hung.get(timeout=PATIENT) for _ in range(4)]
    kind = bench.hang.__fang_options__.kind
    assert {(told, place) for told, _, place in hung} == {(kind, bench.place)}
    assert all(seconds >= SOON.total_seconds() for _, seconds, _ in hung)
    for row in rows:
        (line,) = [line for line in warnings(caplog) if str(row.id) in line]
        expected = rf"task {row.id} \({kind}\): run 1 has been going on for \d\.\d s, and stands at "
        assert re.fullmatch(expected + re.escape(bench.place), line)
    eventually(lambda: set(bench.runs) == {str(row.id) for row in rows})
    told = bench.runs[str(rows[0].id)]
    assert (told["kind"], told["attempt"], told["hung"]) == (kind, 1, bench.place)
    why = harness.call(bench.queue.explain, rows[0].id)
    assert (why.cause, why.details["place"]) == (Cause.RUNNING, bench.place)
    eventually(lambda: [pool.busy for pool in harness.call(bench.queue.pools)] == [4])
    let_go()
    eventually(lambda: bench.runs == {})
    assert bench.told.hung.empty()
    assert bench.place not in blocked(bench)


def test_a_run_within_its_own_timeout_does_not_hang(harness: Harness, caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(harness, number_of_workers=2)
    patient, other = bench.insert(bench.hang(n=1), timeout=timedelta(hours=1)) + bench.insert(bench.hang(n=2))
    ran(2)
    bench.told.hung.get(timeout=PATIENT)
    eventually(lambda: set(bench.runs) == {str(other.id)})
    assert not [line for line in warnings(caplog) if str(patient.id) in line]


def test_none_warns_of_nothing(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(harness, warn_after=None)
    bench.insert(bench.hang())
    ran()
    beats = SimpleQueue[None]()
    registry = bench.queue.state.registry
    beat = registry.beat
    monkeypatch.setattr(registry, "beat", lambda request: (beats.put(None), beat(request))[1])
    for _ in range(2):
        beats.get(timeout=PATIENT)
    assert bench.told.hung.empty()
    assert bench.runs == {}


def test_a_blocked_loop_is_told_of_while_it_is_blocked(caplog: pytest.LogCaptureFixture, harness: Harness) -> None:
    if harness.mode == "threaded":
        pytest.skip("threads have no loop")
    caplog.set_level(logging.INFO)
    bench = Bench(harness)
    (row,) = bench.insert(Blocks())
    ran()
    eventually(lambda: any(str(row.id) in line for line in warnings(caplog)))
    (line,) = [line for line in warnings(caplog) if str(row.id) in line]
    place = re.escape(line_of("blocks"))
    expected = rf"the event loop has been blocked for \d\.\d s, at {place}, by task {row.id} \(tests.Blocks\)"
    assert re.fullmatch(expected, line)
    state = bench.queue.state
    eventually(lambda: next(iter(state.pools.values())).runs.get(str(row.id), {}).get("hung") == line_of("blocks"))
    assert line_of("blocks") not in blocked(bench)  # hooks are called on the loop
    let_go()
    seconds, place = bench.told.blocked.get(timeout=PATIENT)
    assert (seconds >= SOON.total_seconds(), place) == (True, line_of("blocks"))
    eventually(lambda: bench.runs == {})
    eventually(lambda: any("goes on" in record.getMessage() for record in caplog.records))
    assert len([line for line in warnings(caplog) if str(row.id) in line]) == 1


def test_the_progress_of_a_run_is_found_with_its_task_until_it_ends(harness: Harness) -> None:
    bench = Bench(harness, warn_after=None)
    (row,) = bench.insert(bench.tells())
    assert row.progress is None
    ran()

    def progress() -> Progress | None:
        found = harness.call(bench.queue.find_task_by_id, row.id)
        return None if found is None else found.progress

    eventually(progress)
    text = "caf\N{LATIN SMALL LETTER E WITH ACUTE}\N{SYMBOL FOR NULL}" + 195 * "x"
    assert progress() == Progress(1, 3, text)
    told = bench.runs[str(row.id)]
    assert told["progress"] == {"done": 1, "total": 3, "text": text}
    assert "hung" not in told
    let_go()
    eventually(lambda: bench.runs == {})


@pytest.mark.parametrize(
    "arguments", [("half",), (float("nan"),), (float("inf"),), (1, "3"), (1, 10**400), (1, None, b"half")]
)
def test_progress_that_says_nothing_is_refused(arguments: tuple[Any, ...]) -> None:
    (task,) = claim(1).tasks
    with pytest.raises(UsageError, match=r"a finite number between -10\^15 and 10\^15, another one or None, and a str"):
        Run(task, UUID(int=1)).progress(*arguments)
