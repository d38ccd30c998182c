"""Tests the hearts of pools on SQLite: their lock files, what they say, and the rescue of tasks."""

import os
import shutil
import signal
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from fang_core.liveness import LOCK_FREE_FOR, Beat, BeatRequest, Pulse, Watch
from fang_core.record import TaskState
from fang_sqlite import SqliteQueue
from fang_sqlite.connections.file import File
from fang_sqlite.listening import marks
from fang_sqlite.listening.marks import Mark
from fang_sqlite.pools import heart, pulse, registering
from fang_sqlite.pools.heart import SqliteHeart
from fang_sqlite.pools.pulse import NO_FILE, PulseFile, Seen
from fang_threaded import WorkerPool
from tests.driven import drive
from tests.forking import Forked
from tests.patience import PATIENT
from tests.sqlite.files import hold, insert, opened, register

BEATS = """
import sys, pathlib, uuid
from fang_sqlite.pools.pulse import PulseFile
pulse = PulseFile(pathlib.Path(sys.argv[1]), uuid.UUID(sys.argv[2]), locks=True)
pulse.beat()
print("beats", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def file(tmp_path: Path) -> Iterator[File]:
    made = opened(tmp_path / "tasks.db")
    yield made
    made.close()


@pytest.fixture
def hearts(file: File) -> Iterator[Any]:
    made: list[SqliteHeart] = []

    def make(**options: Any) -> SqliteHeart:
        made.append(SqliteHeart(file, **{"locks": True, **options}))
        return made[-1]

    yield make
    for each in made:
        drive(each.close())


def beat(of: SqliteHeart, pool_id: UUID, **request: Any) -> Beat:
    return drive(of.beat(BeatRequest(pool_id, **request)))


def process_of(file: File, pool_id: UUID) -> Forked:
    """A process whose pool beats once."""
    process = Forked("-c", BEATS, str(file.directory), str(pool_id))
    assert process.stdout.readline() == "beats\n"
    return process


# Lock files -----------------------------------------------------------------------------------------------------------


def test_the_kernel_lets_go_of_the_lock_of_a_process_that_is_killed_and_of_no_other(file: File) -> None:
    killed, stopped = uuid4(), uuid4()
    processes = [process_of(file, pool_id) for pool_id in (killed, stopped)]
    os.kill(processes[1].pid, signal.SIGSTOP)
    assert pulse.look(file.directory, killed) == pulse.look(file.directory, stopped) == Seen(1, True, True)
    processes[0].kill()
    processes[0].wait(PATIENT)
    assert pulse.look(file.directory, killed) == Seen(1, True, False)
    assert pulse.look(file.directory, stopped) == Seen(1, True, True)
    os.kill(processes[1].pid, signal.SIGCONT)
    for process in processes:
        process.communicate()


def test_a_child_of_a_pool_that_has_died_does_not_keep_its_lock(file: File) -> None:
    pool_id = uuid4()
    own = PulseFile(file.directory, pool_id, locks=True)
    own.beat()
    (may_end, end), (has_begun, begin) = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(end)
        os.write(begin, b"!")
        os.read(may_end, 1)
        os._exit(0)
    os.read(has_begun, 1)
    assert pulse.look(file.directory, pool_id).is_locked
    own.close()  # as if the parent had died
    assert not pulse.look(file.directory, pool_id).is_locked
    os.close(end)
    os.waitpid(pid, 0)
    for descriptor in (may_end, has_begun, begin):
        os.close(descriptor)


def test_a_pool_locks_its_file_although_others_look_at_it(file: File) -> None:
    pool_id = uuid4()
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.is_set():
            pulse.look(file.directory, pool_id)

    watchers = [threading.Thread(target=watch) for _ in range(3)]
    for watcher in watchers:
        watcher.start()
    for _ in range(50):
        own = PulseFile(file.directory, pool_id, locks=True)
        own.beat()
        assert pulse.look(file.directory, pool_id).is_locked
        own.close()
    is_over.set()
    for watcher in watchers:
        watcher.join(PATIENT)


def test_a_pool_makes_its_file_again_and_goes_on_counting(file: File, hearts: Any) -> None:
    pool_id = register(file)
    own = hearts()
    for _ in range(3):
        beat(own, pool_id)
    shutil.rmtree(file.directory)
    assert pulse.look(file.directory, pool_id) == NO_FILE
    beat(own, pool_id)
    assert pulse.look(file.directory, pool_id) == Seen(4, True, True)


def test_in_a_copy_of_the_database_the_pools_are_dead_that_ran_when_it_was_made(file: File, hearts: Any) -> None:
    """Their leases are longer; their files are in the directory of the original alone, where they go on."""
    pool_id = register(file, lease=60.0)
    hold(file, insert(file), pool_id)
    beat(hearts(), pool_id)
    path = file.path.with_name("copy.db")
    with closing(sqlite3.connect(file.path)) as source, closing(sqlite3.connect(path)) as target:
        source.backup(target)
    copy = opened(path)
    for of, dead in ((file, []), (copy, [pool_id])):
        own, watch = SqliteHeart(of, locks=True), Watch()
        me = register(of)
        seen = [[each.pool_id for each in watch.dead(me, beat(own, me), mono)] for mono in (0.0, 1.0, LOCK_FREE_FOR)]
        assert seen == [[], [], dead]
        drive(own.close())
    copy.close()


SAID: Any = {"stopping": True, "runs": '{"a": 1}', "workers": 7}


# Beats ----------------------------------------------------------------------------------------------------------------


def test_a_pool_beats_while_somebody_writes_and_says_later_what_it_has_to_say(file: File, hearts: Any) -> None:
    pool_id = register(file)
    own = hearts()
    beat(own, pool_id)
    said = "SELECT stopping, runs, workers FROM fang_pools"
    before = pulse.look(file.directory, pool_id).beats
    with closing(sqlite3.connect(file.path, isolation_level="IMMEDIATE")) as application:
        application.execute("BEGIN IMMEDIATE")
        says_all = threading.Thread(target=beat, args=(own, pool_id), kwargs=SAID, daemon=True)
        says_all.start()
        says_all.join(PATIENT)
        assert not says_all.is_alive()
        assert pulse.look(file.directory, pool_id).beats == before + 1
        with file.reading() as tx:
            assert tx.row(said) == (0, None, 2)
    beat(own, pool_id, stopping=True, workers=7)
    with file.reading() as tx:
        assert tx.row(said) == (1, '{"a": 1}', 7)


def test_a_beat_that_has_nothing_to_say_writes_nothing(file: File, hearts: Any) -> None:
    pool_id = register(file)
    own = hearts()
    beat(own, pool_id)
    before = file.data_version()
    for _ in range(3):
        beat(own, pool_id)
    assert file.data_version() == before


# Rescue ---------------------------------------------------------------------------------------------------------------


def test_of_two_rescuers_in_two_processes_one_takes_the_tasks(file: File, hearts: Any) -> None:
    dead, other = register(file), opened(file.path)
    held = [insert(file) for _ in range(5)]
    for task_id in held:
        hold(file, task_id, dead)
    rescuers = [hearts(), SqliteHeart(other, locks=True)]
    taken: list[UUID] = []

    def rescue(by: SqliteHeart) -> None:
        taken.extend(task.id for task in drive(by.rescue([Pulse(dead, 0, False, False, 5.0)])))

    threads = [threading.Thread(target=rescue, args=(by,)) for by in rescuers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENT)
    other.close()
    assert sorted(taken) == sorted(held)


def test_a_pool_that_has_beaten_since_it_was_looked_at_is_not_dead(file: File, hearts: Any) -> None:
    pool_id, watcher = register(file), register(file)
    own, others = hearts(), hearts()
    beat(own, pool_id)
    hold(file, insert(file), pool_id)
    seen = {each.pool_id: each for each in beat(others, watcher).pulses}
    beat(own, pool_id)
    assert drive(others.rescue([seen[pool_id]])) == []
    assert beat(own, pool_id).registered


def test_nothing_is_left_of_a_pool_that_was_rescued(file: File, hearts: Any) -> None:
    dead, watcher = register(file), register(file)
    own, others = hearts(), hearts()
    beat(own, dead)
    marks.put(file.directory, Mark(dead, ""))
    drive(own.close())
    seen = {each.pool_id: each for each in beat(others, watcher).pulses}
    assert drive(others.rescue([seen[dead]])) == []
    assert [path.name for path in file.directory.iterdir() if dead.hex in path.name] == []


def test_files_of_pools_without_a_record_are_removed_if_nobody_locks_them(file: File, hearts: Any) -> None:
    gone, alive = uuid4(), uuid4()
    pulses = [PulseFile(file.directory, pool_id, locks=True) for pool_id in (gone, alive)]
    for each in pulses:
        each.beat()
    pulses[0].close()
    assert drive(hearts().rescue_orphans(3)) == []
    assert set(pulse.pools_in(file.directory)) == {alive}
    pulses[1].close()


def test_a_row_that_somebody_has_spoiled_is_taken_back_too(file: File, hearts: Any) -> None:
    dead, task_id = register(file), insert(file)
    hold(file, task_id, dead)
    with file.writing() as tx:
        tx.run("UPDATE fang_tasks SET metadata = '{', errors = 'none', headers = '['")
    (told,) = drive(hearts().rescue([Pulse(dead, 0, False, False, 5.0)]))
    assert (told.id, told.state, told.charged) == (task_id, TaskState.RETRIED, True)


def test_a_rescue_waits_for_nobody_for_long(file: File, hearts: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heart, "WRITES_WITHIN", 0.01)
    dead = register(file)
    application = sqlite3.connect(file.path, isolation_level=None)
    application.execute("BEGIN IMMEDIATE")
    with pytest.raises(Exception, match="another transaction has been writing"):
        drive(hearts().rescue([Pulse(dead, 0, False, False, 5.0)]))
    application.close()
    assert drive(hearts().rescue([Pulse(dead, 0, False, False, 5.0)])) == []


# Pools ----------------------------------------------------------------------------------------------------------------


def test_a_beat_during_which_its_pool_is_deregistered_leaves_no_file(
    file: File, hearts: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool_id = register(file)
    own = hearts()
    beat(own, pool_id)

    def deregister(*_: object) -> None:
        with file.writing() as tx:
            registering.unregister(tx, pool_id)
        file.forget(pool_id)

    monkeypatch.setattr(own, "_say", deregister)  # after the beat has read the record, before it looks at its file
    beat(own, pool_id)
    assert list(pulse.pools_in(file.directory)) == []


def test_a_pool_that_ends_in_order_leaves_no_file(tmp_path: Path) -> None:
    queue = SqliteQueue(tmp_path / "tasks.db")
    pool = WorkerPool(queue)
    pool.start()
    assert {path.suffix for path in (tmp_path / "tasks.db-fang").iterdir()} >= {".pulse", ".sock"}
    pool.stop()
    queue.close()
    assert {path.name for path in (tmp_path / "tasks.db-fang").iterdir()} == {"turn", "writer"}
