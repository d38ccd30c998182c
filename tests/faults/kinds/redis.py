"""What is done to workers and to their Redis: R01 to R10, R12, R13 and R15; ``redis_failover`` has the others."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid4

import pytest
import redis

from fang_core.errors import BackendError, OutcomeUnknown
from fang_redis import RedisQueue
from tests.faults import registry
from tests.faults.ledger import read_ledger
from tests.faults.nursery import Nursery
from tests.faults.redis_trial import DURABLE, RedisTrial, assert_consistent
from tests.faults.registry import BOUND, SHORT
from tests.faults.tasks import Blocking, Cooperative
from tests.faults.trial import MODES
from tests.faults.wallclock import wall_clock
from tests.proxy import Mode, Proxy
from tests.redisserver import RedisServer

BOTH: Final = ("threaded", "async")

KEEP: Final = {"keep_all": True}
"""Rows stay, for the audit."""

PROMISED: Final = 5.0
"""Seconds within which orphans run again if their process was killed; and for a busy machine:"""

BUSY: Final = 5.0

fault: Final = partial(registry.fault, backend="redis")


# Workers --------------------------------------------------------------------------------------------------------------


@fault("R01", "SIGKILL of a random worker every 300 ms under load, restarted at once", given=KEEP, quick=True)
def kill_at_random(trial: RedisTrial) -> None:
    trial.start(2)
    for _ in range(6):
        trial.insert(20, seconds=0.2)
        time.sleep(0.3)
        victim = trial.chance.choice(trial.fleet.alive)
        trial.strike(victim, victim.kill, PROMISED + BUSY + registry.SUSPECTED)
        trial.replace_dead()
    trial.settle(60)


@fault(
    "R02", "a worker stands still for longer than its lease, and goes on with tasks of other pools", given=KEEP | SHORT
)
def freeze_worker(trial: RedisTrial) -> None:
    """What it then says of its runs is a loser's word."""
    (first, *_) = frozen = trial.start()
    tasks = trial.insert(4, gate=trial.gate())
    trial.until(lambda: trial.starts() == len(tasks))
    held = [(worker, trial.held(worker)) for worker in frozen]
    for worker in frozen:
        trial.strike(worker, partial(worker.send, signal.SIGSTOP), BOUND)
    trial.start()
    trial.until(lambda: all(trial.starts(task, 2) for task in tasks), within=BOUND + 5)
    trial.open_gate("gate.1")
    for worker in frozen:
        worker.send(signal.SIGCONT)
    trial.until(lambda: trial.said("was lost: this pool") + trial.said("pool_declared_dead") > 0)
    # A run that hears of its loss before it sees its gate open ends as interrupted: that is an end, too.
    trial.until(lambda: _over(trial) == {*tasks} or first.exit_code is not None)
    assert all(trial.row(task)["s"] == "in_progress" for task in tasks), "a loser's word counted"
    assert held
    trial.open_gate()
    trial.settle()


def _over(trial: RedisTrial) -> set[UUID]:
    """The tasks whose first run has ended, however it did."""
    entries = read_ledger(trial.directory / "ledger")
    return {each.task for each in entries if each.attempt == 1 and each.event in {"ok", "failed"}}


# The server -----------------------------------------------------------------------------------------------------------


@dataclass
class Inserts:
    """What a producer was told: the inserts that have returned, and how often one has raised ``OutcomeUnknown``."""

    returned: list[UUID] = field(default_factory=list)
    doubts: int = 0


@contextmanager
def inserting(trial: RedisTrial) -> Iterator[Inserts]:
    """Inserts one task after the other meanwhile, each until it stands; what is acknowledged must run."""
    inserts = Inserts()
    stopping = threading.Event()
    failed: list[BaseException] = []

    def insert() -> None:
        try:
            queue = trial.make_queue()
            while not stopping.wait(0.005):
                insist(queue)
            queue.close()
        except BaseException as error:  # noqa: BLE001 - told below
            failed.append(error)

    kind: Any = Cooperative if trial.mix == "async" else Blocking

    def insist(queue: Any) -> None:
        task_id = uuid4()
        while True:
            try:
                queue.insert_task(kind(name=str(task_id)), id=task_id)
            except BackendError as error:
                trial.acknowledge(task_id, known=False)
                inserts.doubts += isinstance(error, OutcomeUnknown)
                if stopping.wait(0.02):
                    return
            else:
                trial.acknowledge(task_id)
                inserts.returned.append(task_id)
                return

    thread = threading.Thread(target=insert)
    thread.start()
    try:
        yield inserts
    finally:
        stopping.set()
        thread.join(60)
    assert not failed, failed


@fault(
    "R03",
    "SIGKILL of the server in a drain, three times (AOF always)",
    given=KEEP,
    modes=BOTH,
    quick=True,
)
def kill_server(trial: RedisTrial) -> None:
    """Nothing that was acknowledged is lost, and nothing runs twice: no worker has died."""
    trial.start(2)
    trial.insert(300, seconds=0.01)
    with inserting(trial):
        for _ in range(3):
            time.sleep(0.5)
            trial.shutdown(trial.server.restart)
    trial.settle(60)
    runs = trial.record().runs
    twice = [key for key, each in runs.items() if len(each) > 1]
    tasks = [task for task, _ in runs]
    assert not twice
    assert len(tasks) == len({*tasks}), "a task ran again although no worker has died"


@fault(
    "R04",
    "SIGKILL of the server in the middle of scripts that write 1,000 tasks: all of them or none",
    given=KEEP,
    modes=("threaded",),
)
def kill_within_script(trial: RedisTrial) -> None:
    with RedisQueue(trial.url) as queue:
        for n in range(8):
            rows = [Blocking(name=f"{n} {i}") for i in range(1_000)]
            inserts = threading.Thread(target=_quietly, args=(queue, rows))
            inserts.start()
            time.sleep(0.06 * trial.chance.random())
            trial.shutdown(trial.server.restart)
            inserts.join(60)
            assert trial.database.zcard("{fang}:ids") % 1_000 == 0, "a part of a bulk insert was left"
            assert_consistent(trial.database)
        queue.remove_all_tasks()
    trial.start()
    trial.insert(4)
    trial.settle()


def _quietly(queue: Any, rows: list[Any]) -> None:
    with suppress(BackendError):
        queue.insert_tasks(rows)


@fault(
    "R05",
    "a script is ended by SCRIPT KILL, and another one holds the server up for long",
    given=KEEP,
    modes=BOTH,
)
def end_scripts(trial: RedisTrial) -> None:
    trial.database.config_set("lua-time-limit", 50)
    trial.start()
    trial.insert(60, seconds=0.02)
    with inserting(trial):
        for _ in range(4):
            busy = threading.Thread(target=_run_for_ever, args=(trial.url,))
            busy.start()
            time.sleep(0.3)
            trial.until(lambda: _ended(trial.database))
            busy.join(30)
            time.sleep(0.1)
    trial.settle(60)


def _run_for_ever(url: str) -> None:
    with suppress(redis.exceptions.ResponseError), redis.Redis.from_url(url) as client:
        client.eval("while true do end", 0)


def _ended(client: redis.Redis) -> bool:
    try:
        return bool(client.script_kill())
    except redis.exceptions.ResponseError:  # none runs yet, or it has not been noticed
        return False


@fault(
    "R06",
    "the server stands still for five seconds, longer than a lease",
    given=KEEP | SHORT,
    modes=BOTH,
)
def freeze_server(trial: RedisTrial) -> None:
    """No pool could beat, so none is taken for dead, and nothing runs twice."""
    trial.start(2)
    tasks = trial.insert(8, seconds=1.0)
    trial.until(lambda: trial.starts() >= 4)
    trial.server.freeze()
    time.sleep(5)
    trial.server.thaw()
    trial.settle(60)
    assert trial.attempts() == 1, "a task ran again although no worker has died"
    assert trial.ended(tasks) == len(tasks)


@fault(
    "R07",
    "all connections are killed, again and again (CLIENT KILL)",
    given=KEEP,
    modes=BOTH,
)
def kill_clients(trial: RedisTrial) -> None:
    trial.start(2)
    trial.insert(200, seconds=0.01)
    with inserting(trial):
        for _ in range(20):
            trial.database.execute_command("CLIENT", "KILL", "TYPE", "normal")
            trial.database.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
            time.sleep(0.1)
    trial.settle(60)


@fault(
    "R08",
    "connections break at any moment, and replies are lost with them",
    given=KEEP,
    modes=BOTH,
)
def lose_replies(trial: RedisTrial) -> None:
    with Proxy(trial.url) as proxy:
        trial.fleet.given["url"] = proxy.url
        trial.start(2)
        proxy.slow_down(seconds=0.02)  # so that replies are under way
        trial.insert(150, seconds=0.01)
        for _ in range(15):
            time.sleep(0.1 + 0.1 * trial.chance.random())
            proxy.set(trial.chance.choice([Mode.RESET, Mode.CLOSE]))
            proxy.set(Mode.PASS)
        trial.settle(90)


@fault(
    "R15",
    "the same while runs insert through the queue of their own pool, so that its claims go along and are lost too",
    given=KEEP,
    modes=BOTH,
)
def lose_claims_that_go_along(trial: RedisTrial) -> None:
    with Proxy(trial.url) as proxy:
        trial.fleet.given["url"] = proxy.url
        trial.start(2)
        proxy.slow_down(seconds=0.02)
        for _ in range(15):
            trial.insert(6, deed="relay", seconds=0.05)
            time.sleep(0.1 + 0.1 * trial.chance.random())
            proxy.set(trial.chance.choice([Mode.RESET, Mode.CLOSE]))
            proxy.set(Mode.PASS)
        trial.settle(90)


@fault(
    "R09",
    "the memory is full: inserts are refused, and what is there is run",
    given=KEEP,
    modes=BOTH,
)
def fill_memory(trial: RedisTrial) -> None:
    trial.insert(40)
    trial.database.config_set("maxmemory", 1)
    with RedisQueue(trial.url) as queue:
        for tasks in ([Blocking()], [Blocking()] * 50):
            with pytest.raises(BackendError, match="memory is full"):
                queue.insert_tasks(tasks)
    trial.database.config_set("maxmemory", 0)
    workers = trial.start()
    trial.settle()
    held = trial.insert(4, gate=trial.gate())
    trial.until(lambda: trial.starts() == 44)
    trial.database.config_set("maxmemory", 1)
    time.sleep(3)  # beats go on, or the pools would be taken for dead
    trial.open_gate()
    trial.until(lambda: trial.ended(held) == 4)
    trial.until(lambda: not trial.count("in_progress"))
    assert trial.attempts() == 1
    assert all(worker.exit_code is None for worker in workers)
    trial.database.config_set("maxmemory", 0)
    trial.insert(4)
    trial.settle()


@fault(
    "R10",
    "FLUSHALL while pools work: they log it, register again, and run what is inserted then",
    given=KEEP,
    modes=BOTH,
    quick=True,
)
def flush(trial: RedisTrial) -> None:
    trial.start(2)
    kind: Any = Cooperative if trial.mix == "async" else Blocking
    before = [kind(seconds=0.05) for _ in range(30)]
    with RedisQueue(trial.url) as queue:
        queue.insert_tasks(before)
    trial.until(lambda: trial.starts() > 4)
    trial.database.flushall()
    pools = len(trial.fleet.workers)
    trial.until(lambda: trial.database.hlen("{fang}:pools") == pools)
    tasks = trial.insert(20)
    trial.until(lambda: trial.ended(tasks) == len(tasks))
    trial.settle()
    trial.until(lambda: trial.said("were removed"))  # a heart hears of it with its next beat
    assert trial.said("were removed") <= pools, "it is said again and again"
    assert trial.said("pool_declared_dead") in range(1, 2 * pools + 1), "a pool registers again once, and not for ever"


@fault("R12", "the disk of the append-only file is full for a while", given=KEEP, modes=("threaded",))
def fill_disk(trial: RedisTrial) -> None:
    """Writes are refused then; what was acknowledged runs, also after a SIGKILL."""
    mounted = trial.directory / "disk"
    mounted.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", mounted], check=True)
    trial.lasting.callback(subprocess.run, ["umount", "-l", mounted], check=True)
    _fill(trial, mounted)


def _fill(trial: RedisTrial, mounted: Path) -> None:
    trial.server.close()
    trial.server = trial.lasting.enter_context(RedisServer(DURABLE, tcp=True, directory=mounted / "data"))
    trial.move(trial.server.url)
    trial.start()
    refused: list[str] = []
    ballast = mounted / "ballast"
    with RedisQueue(trial.url) as queue:
        trial.acknowledge(queue.insert_task(Blocking()).id)
        with suppress(OSError), ballast.open("wb") as file:
            for _ in range(3_000):
                file.write(b"x" * 1_024)
                file.flush()
        for n in range(200):
            task_id = uuid4()
            try:
                queue.insert_task(Blocking(name="x" * 1_000, seconds=0), id=task_id)
            except BackendError as error:
                refused.append(str(error))
                trial.acknowledge(task_id, known=False)
                if n > 100:
                    break
            else:
                trial.acknowledge(task_id)
        assert refused, "the disk did not become full"
        ballast.unlink()
        if not _is_alive(trial.server):  # with appendfsync always a server gives up, and its supervisor starts it again
            trial.server.restart()
        trial.until(trial.answers)
        trial.until(partial(_takes, queue, trial), within=60)
    trial.shutdown(trial.server.restart)
    trial.settle(60)


def _is_alive(server: RedisServer) -> bool:
    try:
        os.kill(server.pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def _takes(queue: Any, trial: RedisTrial) -> bool:
    try:
        trial.acknowledge(queue.insert_task(Blocking()).id)
    except BackendError:
        return False
    return True


@fault("R13", "workers' clocks an hour ahead and an hour behind", given=KEEP, modes=BOTH)
def wrong_clocks(trial: RedisTrial) -> None:
    """The server's clock decides what is due, and nobody is taken for dead."""
    workers = []
    for seconds in (3_600.0, -3_600.0):
        clock = trial.lasting.enter_context(wall_clock())
        clock.move(seconds)
        nursery = trial.lasting.enter_context(Nursery(clock.environment))
        workers += [trial.fleet.start(mode, nursery=nursery).await_ready() for mode in MODES[trial.mix]]
    with RedisQueue(trial.url) as queue:
        kind: Any = Blocking if trial.mix == "threaded" else Cooperative
        began = time.monotonic()
        soon = [queue.insert_task(kind(), delay=timedelta(seconds=2)).id for _ in range(8)]
        later = [queue.insert_task(kind(), delay=timedelta(minutes=50)).id for _ in range(8)]
        for task in soon:
            trial.acknowledge(task)
        trial.until(lambda: trial.ended(soon) == len(soon))
        early = [each for each in trial.record().entries if each.at < began + 2 and each.task in soon]
        assert not early, "a task ran before it was due"
        held = trial.insert(4, gate=trial.gate())
        trial.until(lambda: trial.starts() == len(soon) + len(held))
        time.sleep(4)
        assert trial.attempts() == 1, "a pool was taken for dead"
        assert not any(trial.starts(task) for task in later), "a task ran an hour early"
        for task in later:
            queue.remove_task(task)
    trial.open_gate()
    trial.settle()
