"""Several processes do the same at once, each in transactions of its own: what holds for one holds for all together."""

import json
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import Any, Final

import pytest

from fang_core.backends.pools import Declaration
from fang_core.flow.limits import FlowRule, Limit, Rate, rules_as_json
from fang_sqlite.connections.file import File
from fang_sqlite.tasks import flow
from tests.forking import Forked
from tests.patience import PATIENT
from tests.sqlite.files import count, insert, opened, register

PROCESSES: Final = 3

BEGIN: Final = """
import json, pathlib, sys
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4
from fang_sqlite.connections.file import File
file = File(pathlib.Path(sys.argv[1]), "normal")
file.open()
print("ready", flush=True)
sys.stdin.readline()
"""

CLAIMS: Final = """
from fang_core.backends.claims import LaneRequest
from fang_sqlite.tasks import lanes
pool, starts, most, waiting = UUID(sys.argv[2]), [], 0, 1
while waiting:
    with file.writing() as tx:
        claim = lanes.claim_lanes(tx, LaneRequest(pool, "common", ("note",), 3))
        (running,) = tx.row("SELECT count(*) FROM fang_tasks WHERE state = 'in_progress'")
        (waiting,) = tx.row("SELECT count(*) FROM fang_tasks WHERE state = 'new'")
    most = max(most, running)
    while waiting == 57:  # the very first claim, which took three, until another process has claimed beside them
        with file.reading() as look:  # that it has claimed stays to be seen, also when it has ended what it claimed
            (waiting,) = look.row("SELECT count(*) FROM fang_tasks WHERE state = 'new'")
    starts += [(str(task.id), tx.now.isoformat()) for task in claim.tasks]
    with file.writing() as tx:
        tx.run_many("DELETE FROM fang_tasks WHERE id = ?", [(task.id.bytes,) for task in claim.tasks])
print(json.dumps([most, starts]))
"""

PLAIN_CLAIMS: Final = """
from fang_core.backends.claims import ClaimRequest
from fang_core.backends.pools import PoolRecord
from fang_core.driving import drive
from fang_core.lifecycle import Outcome
from fang_sqlite import SqliteQueue

store = SqliteQueue(sys.argv[1]).store()
pool = PoolRecord(uuid4(), "threaded", "host", 1, ("common",), ("note",), 1)
drive(store.register(pool))
ended, tasks = [], True
while tasks:
    tasks = drive(store.claim(ClaimRequest(pool.id, pool.task_types, pool.kinds, 7))).tasks
    outcomes = [Outcome(task.id, task.attempt, None) for task in tasks]
    ended += map(str, drive(store.complete(pool.id, outcomes)))
print(json.dumps(ended))
"""

WRITES: Final = """
from fang_core import Queueable, Runnable
from fang_sqlite import SqliteQueue

class Note(Runnable):
    def run(self, queue: Queueable) -> None: ...

queue = SqliteQueue(sys.argv[1])
for _ in range(40):
    queue.insert_task(Note())
print(40)
"""

INSERTS: Final = """
from fang_core import Queueable, Runnable, TaskConfig, Unique
from fang_core.tasks.insertion import Overrides, Rules
from fang_sqlite.tasks import inserting

class Note(Runnable):
    task_config = TaskConfig(kind="note")
    n: int = 0
    def run(self, queue: Queueable) -> None: ...

terms = (True, Unique(while_="waiting"), Unique(within=timedelta(hours=1)))
inserted = []
for n in range(60):
    overrides = Overrides(uniq=terms[n % 3])
    with file.writing() as tx:
        task = inserting.insert(tx, overrides.new_task(Note(n=n), Rules()), overrides)
    if not task.conflict:
        inserted.append(n)
print(json.dumps(inserted))
"""

TICKS: Final = """
from fang_core.backends.scheduling import tick_id
from fang_core.backends.ticks import Tick
from fang_core.tasks.insertion import NewTask
from fang_core.tasks.options import COLUMNS
from fang_sqlite.tasks import schedules

made = []
for n in range(50):
    at = datetime(2024, 1, 1, tzinfo=UTC) + timedelta(minutes=n)
    options = tuple({"task_type": "common", "priority": 0}.get(name) for name in COLUMNS)
    tick = Tick("each minute", at, NewTask(tick_id("each minute", at), '{"type":"note"}', "note", options))
    with file.writing() as tx:
        if schedules.tick(tx, tick):
            made.append(n)
print(json.dumps(made))
"""


@pytest.fixture
def file(tmp_path: Path) -> Iterator[File]:
    made = opened(tmp_path / "tasks.db")
    yield made
    made.close()


def race(file: File, script: str, *arguments: str, processes: int = PROCESSES) -> list[Any]:
    """Runs a script in several processes that begin at once; returns what each has printed as JSON."""
    with ExitStack() as stack:
        started = [
            stack.enter_context(closing(Forked("-c", BEGIN + script, str(file.path), *arguments)))
            for _ in range(processes)
        ]
        for process in started:
            assert process.stdout.readline() == "ready\n"
        for process in started:
            process.stdin.write("\n")
            process.stdin.flush()
        ends = [process.communicate() for process in started]
        assert [process.returncode for process in started] == [0] * processes, ends
        return [json.loads(printed) for printed, _ in ends]


def claimed(file: File, *rules: FlowRule) -> tuple[int, list[datetime]]:
    """Has processes claim and end all tasks of a type with these rules; returns how many ran at once, and when each
    began."""
    pool_id = register(file)
    with file.writing() as tx:
        flow.declare(tx, [Declaration("common", {"note": rules_as_json(rules)})])
    inserted = {str(insert(file)) for _ in range(60)}
    with file.writing() as tx:
        tx.run("UPDATE fang_tasks SET lane = ''")
    found = race(file, CLAIMS, str(pool_id))
    starts = [start for _, of_process in found for start in of_process]
    assert sorted(task_id for task_id, _ in starts) == sorted(inserted)
    return max(most for most, _ in found), sorted(datetime.fromisoformat(at) for _, at in starts)


def test_each_task_is_claimed_and_ended_once(file: File) -> None:
    inserted = sorted(str(insert(file)) for _ in range(200))
    assert sorted(chain.from_iterable(race(file, PLAIN_CLAIMS))) == inserted


def test_no_writer_is_told_that_the_database_is_locked(file: File) -> None:
    """Eight processes write, and an application, which knows nothing of their gate."""
    over = threading.Event()

    def write() -> None:
        with closing(sqlite3.connect(file.path, isolation_level=None, timeout=PATIENT)) as connection:
            connection.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY)")
            while not over.is_set():
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("INSERT INTO orders DEFAULT VALUES")
                over.wait(0.005)  # it does something else
                connection.execute("COMMIT")

    with ThreadPoolExecutor(1) as application:
        writing = application.submit(write)
        try:
            assert race(file, WRITES, processes=8) == [40] * 8
        finally:
            over.set()
        writing.result()
    assert count(file) == 320


def test_a_limit_is_never_exceeded_and_each_task_is_claimed_once(file: File) -> None:
    most, _ = claimed(file, Limit(4))
    assert most == 4


def test_a_rate_is_never_exceeded(file: File) -> None:
    rate = Rate(100, burst=5)
    _, starts = claimed(file, rate)
    for first, begun in enumerate(starts):
        for last in range(first, len(starts)):
            assert last - first + 1 <= rate.burst + (starts[last] - begun) / rate.gcra.interval  # type: ignore[operator]


def test_of_equal_unique_tasks_one_is_inserted(file: File) -> None:
    found = Counter(n for of_process in race(file, INSERTS) for n in of_process)
    assert found == dict.fromkeys(range(60), 1)


def test_each_tick_is_made_once(file: File) -> None:
    found = Counter(n for of_process in race(file, TICKS) for n in of_process)
    with file.reading() as tx:
        rows = tx.rows("SELECT scheduled_at FROM fang_tasks ORDER BY scheduled_at")
    assert found.total() == len(rows)
    assert max(found.values()) == 1
    assert found[49] == 1
