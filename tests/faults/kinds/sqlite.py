"""What is done to processes that share a SQLite file: S01 to S12."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final
from uuid import UUID

from fang_core.errors import BackendError
from fang_sqlite import SqliteQueue
from tests.faults import registry
from tests.faults.effects import CREATE_EFFECTS, DEATHS
from tests.faults.fleet import Worker
from tests.faults.kinds.kills import keep_alive, kill_after_effect, kill_before_start, kill_by_turns
from tests.faults.registry import BOUND, SHORT, SUSPECTED
from tests.faults.sqlite_trial import SqliteTrial
from tests.faults.tasks import Blocking, Cooperative
from tests.faults.trial import Trial
from tests.forking import Forked

fault: Final = partial(registry.fault, backend="sqlite")

PROMISED: Final = 5.0
"""Seconds within which orphans run again if their process was killed; and for a busy machine:"""

BUSY: Final = 5.0


# Killed ---------------------------------------------------------------------------------------------------------------


@fault("S01", "SIGKILL of a random worker every 300 ms under load, restarted at once", quick=True)
def kill_at_random(trial: Trial) -> None:
    kill_by_turns(trial, kills=8, bound=PROMISED + BUSY + SUSPECTED)


fault("S02", "SIGKILL between a task's effect and its completion")(kill_after_effect)
fault("S03", "SIGKILL between the claim and the start of the first run", given=SHORT)(kill_before_start)


@fault("S04", "processes killed anywhere around a transaction of effect and completion", quick=True)
def kill_around_transaction(trial: Trial) -> None:
    """By the tasks themselves between any two steps, and by another's hand at random."""
    trial.database.execute(CREATE_EFFECTS)
    trial.start(2)
    tasks = trial.insert(40, deed="take effect")
    for death in DEATHS:
        tasks += trial.insert(2, deed="take effect", death=death)
    trial.until(trial.starts)
    for _ in range(4):
        trial.replace_dead()
        tasks += trial.insert(20, deed="take effect")
        time.sleep(0.2 * trial.chance.random())
        if alive := trial.fleet.alive:  # none, where the last two have just killed themselves
            trial.chance.choice(alive).kill()
    keep_alive(trial)
    parked = [UUID(bytes=task) for (task,) in trial.rows("SELECT id FROM fang_tasks")]
    effects = [UUID(hex=task) for (task,) in trial.rows("SELECT task FROM effects")]
    assert sorted([*effects, *parked]) == sorted(tasks), "one effect of each task, but of what was killed for good none"


@fault("S05", "SIGKILL of all processes at once, and new ones start", quick=True)
def kill_all(trial: Trial) -> None:
    killed = trial.start(3)
    trial.insert(60, seconds=0.3)
    trial.until(lambda: trial.starts() > 12)
    for worker in killed:
        trial.strike(worker, partial(worker.send, signal.SIGKILL), PROMISED + BUSY)
    trial.start(2)
    trial.settle()


@fault("S06", "SIGKILL of one of six workers: five would rescue its tasks", given={"workers": 2})
def many_rescuers(trial: Trial) -> None:
    workers = trial.start(6)
    trial.insert(40, gate=trial.gate())
    trial.until(lambda: all(trial.held(worker) for worker in workers))
    trial.strike(workers[0], workers[0].kill, PROMISED + BUSY)
    trial.until(lambda: not trial.held(workers[0]))
    trial.open_gate()
    trial.settle()


# Stopped --------------------------------------------------------------------------------------------------------------


@fault("S07", "SIGSTOP past the lease, another worker goes on, SIGCONT", quick=True, also=("I8", "I10"), given=SHORT)
def stop_past_the_lease(trial: SqliteTrial) -> None:
    """With tasks that are taken over, and some that are removed by hand. The former runs end while the new ones go on:
    what they write must find nothing."""
    stopped = trial.start()
    others = trial.insert(len(stopped), gate=trial.gate(), name="taken over")
    gone = trial.insert(len(stopped), gate=trial.gate(), name="removed")
    trial.until(lambda: trial.starts() == 2 * len(stopped))
    former = {task: worker for worker in stopped for task, _ in trial.held(worker)}
    assert former.keys() == {*others, *gone}
    for worker in stopped:
        trial.strike(worker, partial(worker.send, signal.SIGSTOP), BOUND)
    for task in gone:
        trial.by_hand("DELETE FROM fang_tasks WHERE id = ?", task.bytes)
    successors = trial.start()
    trial.until(lambda: all(trial.starts(each, attempt=2) for each in others), within=BOUND)
    trial.open_gate("gate.1")
    for worker in stopped:
        worker.send(signal.SIGCONT)
    # A beat also tells that tasks are lost, perhaps before their outcomes are tried: each refusal has its own line.
    for task, worker in former.items():
        trial.until(partial(_is_refused_or_written, trial, task, worker), within=10)
    assert all(_goes_on(trial, task) for task in others), "an outcome was written over the run of another pool"
    trial.open_gate("gate")
    trial.settle()
    for worker in successors:
        worker.kill()
    for worker in stopped:
        trial.assert_slots(worker)


def _is_refused_or_written(trial: SqliteTrial, task: UUID, former: Worker) -> bool:
    """Whether the outcome of a task's first run was tried."""
    return f"task {task} was lost" in former.said() or (trial.starts(task, attempt=2) > 0 and not _goes_on(trial, task))


def _goes_on(trial: SqliteTrial, task: UUID) -> bool:
    """Whether the second run of a task still holds it."""
    return trial.count("id = ? AND attempt = 2 AND state = 'in_progress'", task.bytes) == 1


# Writers --------------------------------------------------------------------------------------------------------------


@fault("S08", "SIGKILL of an application in the middle of a transaction that inserts")
def kill_a_writer(trial: SqliteTrial) -> None:
    trial.start()
    for _ in range(5):
        writer = subprocess.Popen(
            [sys.executable, "-c", _HALF_INSERT, str(trial.path)], stdout=subprocess.PIPE, env=os.environ
        )
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"half\n"
        late = trial.chance.random() * 0.2
        time.sleep(late)
        writer.kill()
        writer.wait()
        writer.stdout.close()
        tasks = trial.insert(10)
        trial.until(lambda tasks=tasks: trial.ended(tasks) == 10, within=PROMISED)
    trial.settle()
    assert trial.rows("SELECT count(*) FROM audit_tasks WHERE was IS NULL") == [(50,)], "a half of an insert was seen"


_HALF_INSERT: Final = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level="IMMEDIATE", timeout=60)
connection.executemany(
    "INSERT INTO fang_tasks (id, metadata, kind, task_type, scheduled_at, created_at, updated_at)"
    " VALUES (randomblob(16), '{}', 'half', 'common', 0, 0, 0)", [()] * 10_000)
print("half", flush=True)
time.sleep(60)
"""


@fault(
    "S09",
    "an application's transaction writes for 12 s, under a lease of 5 s: no pool is declared dead",
    given={"lease": 5.0},
)
def long_transaction(trial: SqliteTrial) -> None:
    workers = trial.start(2)
    running = trial.insert(4 * len(workers), seconds=1.0)
    trial.until(lambda: all(trial.starts(each) for each in running))
    application = sqlite3.connect(trial.path, isolation_level=None, timeout=60)
    application.execute("BEGIN IMMEDIATE")
    time.sleep(12)
    application.execute("COMMIT")
    application.close()
    trial.insert(20)
    trial.settle()
    assert trial.rows("SELECT count(*) FROM audit_pools WHERE event = 'gone'") == [(0,)], "a live pool was given up"
    assert trial.starts() == len(running) + 20, "a task ran twice"
    for worker in workers:
        assert "database is locked" not in worker.said()


@fault("S10", "eight processes insert one by one while workers run: no insert is refused, and none waits for long")
def eight_writers(trial: SqliteTrial) -> None:
    trial.start()
    kind = Cooperative if trial.mix == "async" else Blocking
    writers = [Forked("-c", _INSERTS, trial.url, kind.__name__) for _ in range(8)]
    for writer in writers:
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        writer.stdin.write("\n")
        writer.stdin.flush()
    told = [json.loads(writer.stdout.readline()) for writer in writers]
    for writer in writers:
        writer.communicate()
    errors = [error for each in told for error in each["errors"]]
    assert not errors, errors[:3]
    ids = [UUID(task) for each in told for task in each["ids"]]
    for task in ids:
        trial.acknowledge(task)
    worst = max(each["worst"] for each in told)
    print(f"    {len(ids)} inserts of 8 processes, the longest took {worst:.2f} s")
    assert worst < PROMISED, f"an insert took {worst:.1f} s"
    trial.settle(within=60)


_INSERTS: Final = """
import json, sys, time
from fang_core.errors import BackendError
from fang_sqlite import SqliteQueue
from tests.faults import tasks
make = getattr(tasks, sys.argv[2])
ids, errors, worst = [], [], 0.0
with SqliteQueue(sys.argv[1]) as queue:
    print("ready", flush=True)
    sys.stdin.readline()
    until = time.monotonic() + 4
    while (began := time.monotonic()) < until:
        try:
            ids.append(str(queue.insert_task(make()).id))
        except BackendError as error:
            errors.append(f"{type(error).__name__}: {error}")
        worst = max(worst, time.monotonic() - began)
print(json.dumps({"ids": ids, "errors": errors, "worst": worst}), flush=True)
"""


# The file -------------------------------------------------------------------------------------------------------------


@fault("S11", "the file is moved away for three seconds, and comes back", quick=True, also=("I8", "I10"))
def file_away(trial: SqliteTrial) -> None:
    workers = trial.start(2)
    trial.insert(40, seconds=0.2)
    trial.until(trial.starts)
    away = trial.path.with_name("away.db")
    before = [_cpu_seconds(worker.pid) for worker in workers]
    trial.path.rename(away)
    for worker in workers:
        trial.until(lambda worker=worker: "was removed while it was in use" in worker.said(), within=10)
    time.sleep(3)
    assert not trial.path.exists(), "an empty file was made in its place"
    for worker, cpu in zip(workers, before, strict=True):
        assert _cpu_seconds(worker.pid) - cpu < 2, "it was busy while there was no file"
        assert worker.said().count("was removed") < 60, "it said so without an end"
    away.rename(trial.path)
    trial.settle()


@fault("S12", "the disk is full for two seconds", also=("I8", "I10"))
def disk_full(trial: SqliteTrial) -> None:
    """On a small file system of its own; only root may mount one."""
    disk = trial.lasting.enter_context(_small_disk(trial.directory / "disk"))
    trial.move(f"sqlite:///{disk}/tasks.db")
    workers = trial.start(2)
    trial.insert(60, seconds=0.2)
    trial.until(trial.starts)
    filling = disk / "filling"
    _fill(filling)
    assert "\n" not in _refused(trial)
    for worker in workers:
        trial.until(lambda worker=worker: _says_full(worker.said()), within=20)
    time.sleep(2)
    filling.unlink()
    trial.insert(20)
    trial.settle()
    for worker in workers:
        assert worker.exit_code is None


def _says_full(said: str) -> bool:
    return "the disk is full" in said


def _refused(trial: SqliteTrial) -> str:
    """What an application is told that inserts meanwhile; the log has room for some of them."""
    kind = Cooperative if trial.mix == "async" else Blocking
    with SqliteQueue(trial.url) as queue:
        for _ in range(2_000):
            try:
                trial.acknowledge(queue.insert_task(kind(name="x" * 10_000)).id)
            except BackendError as error:
                refused = str(error)
                break
        else:
            raise AssertionError("a full disk takes inserts")
    assert _says_full(refused), refused
    return refused


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 9, 1):
            with suppress(OSError):
                while True:
                    file.write(b"x" * size)


@contextmanager
def _small_disk(path: Path) -> Iterator[Path]:
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", path], check=False, capture_output=True
    )
    assert mounted.returncode == 0, f"only root may mount a small disk: {mounted.stderr.decode().strip()}"
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", path], check=True)


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
