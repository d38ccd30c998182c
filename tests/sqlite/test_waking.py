"""Tests how pools are woken: in the process of the one who writes, in others, and by transactions of an application."""

import errno
import os
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from fang_core.backends.waking import SCHEDULES, LateRows
from fang_core.driving import drive
from fang_core.errors import BackendError
from fang_sqlite import SqliteQueue
from fang_sqlite.connections.file import File
from fang_sqlite.connections.transaction import Transaction
from fang_sqlite.listening import ear, marks, sockets
from fang_sqlite.listening.waking import Waking
from tests.forking import Forked
from tests.patience import PATIENT
from tests.sqlite.files import insert

WRITES = """
import sys, pathlib
from fang_sqlite.connections.file import File
from fang_sqlite.listening.waking import Waking
from tests.sqlite.files import insert
path = pathlib.Path(sys.argv[1])
file = File(path, "normal", lambda tx: waking.tell(tx))
waking = Waking(file.directory, file.data_version)
file.open()
for _ in sys.stdin:
    insert(file)
    print("inserted", flush=True)
file.close()
waking.close()
"""

WAITS = r"""
import os, sys, pathlib, uuid
from fang_sqlite.connections.file import File
from fang_sqlite.listening.waking import Waking
file = File(pathlib.Path(sys.argv[1]), "normal")
file.open()
waking = Waking(file.directory, file.data_version)
waking.listen("test", ["common"], lambda late: os.write(1, b"woken\n"), lambda _: None)
waking.set_waiting("test", uuid.uuid4(), True)
os.write(1, b"waits\n")
sys.stdin.readline()
"""


class Pool:
    """A pool that listens, with a file and a socket of its own, as in a process of its own."""

    def __init__(self, path: Path, *task_types: str) -> None:
        self.id = uuid4()
        self.file = File(path, "normal", lambda tx: self.waking.tell(tx))  # noqa: PLW0108 - it is made below
        self.file.open()
        self.waking = Waking(self.file.directory, self.file.data_version)
        self.heard: list[LateRows | UUID | None] = []
        self._has_heard = threading.Event()
        self.waking.listen(self, task_types, self._hear, self._hear)

    def _hear(self, what: LateRows | UUID | None) -> None:
        self.heard.append(what)
        self._has_heard.set()

    def wait(self) -> None:
        """Waits from now on, and has looked once: it may have missed something before."""
        self.waking.set_waiting(self, self.id, True)
        assert self.hears()
        self.heard.clear()

    def wait_no_more(self) -> None:
        self.waking.set_waiting(self, self.id, False)

    def hears(self, seconds: float = PATIENT) -> bool:
        """Waits until it hears something."""
        has_heard = self._has_heard.wait(seconds)
        self._has_heard.clear()
        return has_heard

    def close(self) -> None:
        self.waking.close()
        self.file.close()


@pytest.fixture
def pools(tmp_path: Path) -> Iterator[Any]:
    made: list[Pool] = []

    def make(*task_types: str, directory: Path = tmp_path) -> Pool:
        made.append(Pool(directory / "tasks.db", *(task_types or ("common",))))
        return made[-1]

    yield make
    for pool in made:
        pool.close()


@pytest.fixture
def no_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has nobody look at the file's version: what is heard came as a datagram or by a call."""
    monkeypatch.setattr(ear, "LOOK_EVERY", 3600.0)


def tell(pool: Pool, **said: Any) -> None:
    with pool.file.reading() as tx:
        pool.waking.tell(Transaction(tx.connection, tx.now, **said))


@pytest.mark.usefixtures("no_looks")
def test_an_insert_wakes_the_pools_of_its_type_that_wait_in_this_process_and_in_others(pools: Any) -> None:
    writer, waiter, busy, foreign = pools(), pools(), pools(), pools("mail")
    for pool in (waiter, foreign):
        pool.wait()
    insert(writer.file)
    assert writer.heard == [None]
    assert waiter.hears()
    assert (waiter.heard, foreign.heard) == ([None], [])
    assert busy.heard == []
    waiter.wait_no_more()
    insert(writer.file)
    assert writer.heard == [None, None]
    tell(writer, late={"common", "mail"})  # the next datagram comes behind those that came before
    for pool in (waiter, busy, foreign):
        assert pool.hears()
    assert waiter.heard == [None, LateRows("common", 0, None)]
    assert busy.heard == [LateRows("common", 0, None)]
    assert foreign.heard == [LateRows("mail", 0, None)]


@pytest.mark.parametrize("call", ["listdir", "socket"])
def test_what_is_committed_is_no_error_because_nobody_can_be_told(
    pools: Any, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    writer, waiter = pools(), pools()
    waiter.wait()

    def fail(*_: Any) -> Any:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patch:
        patch.setattr(*{"listdir": (os, "listdir"), "socket": (sockets, "unix_socket")}[call], fail)
        insert(writer.file)
    assert writer.heard == [None]
    assert waiter.hears()  # it has looked


@pytest.mark.usefixtures("no_looks")
def test_what_pools_are_told_reaches_all_who_listen(pools: Any) -> None:
    writer, other = pools(), pools("mail")
    told = uuid4()
    tell(writer, told={told, SCHEDULES})
    assert other.hears()
    while len(other.heard) < 2:
        assert other.hears()
    assert set(other.heard) == set(writer.heard) == {told, SCHEDULES}


@pytest.mark.usefixtures("no_looks")
def test_a_path_that_is_longer_than_a_sockets_will_do(pools: Any, tmp_path: Path) -> None:
    directory = tmp_path / ("deep" * 30)
    directory.mkdir()
    writer, waiter = pools(directory=directory), pools(directory=directory)
    waiter.wait()
    insert(writer.file)
    assert waiter.hears()


def test_an_applications_transaction_wakes_a_pool_that_waits(pools: Any) -> None:
    waiter = pools()
    waiter.wait()
    application = sqlite3.connect(waiter.file.path)
    application.execute("CREATE TABLE orders (id)")
    application.commit()
    assert waiter.hears()
    application.close()


def test_a_pool_that_waits_hears_nothing_if_nobody_commits(pools: Any) -> None:
    waiter = pools()
    waiter.wait()
    assert not waiter.hears(4 * ear.LOOK_EVERY)


def test_pools_hear_of_inserts_of_another_process(pools: Any, no_looks: None) -> None:
    waiter = pools()
    waiter.wait()
    process = Forked("-c", WRITES, str(waiter.file.path))
    for _ in range(3):
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "inserted\n"
        assert waiter.hears()
    out, err = process.communicate()
    assert (out, err, process.returncode) == ("", "", 0)


def test_what_a_killed_process_has_left_is_removed_by_the_next_one_who_would_wake_it(pools: Any) -> None:
    writer = pools()
    process = Forked("-c", WAITS, str(writer.file.path))
    assert {process.stdout.readline() for _ in range(2)} == {"waits\n", "woken\n"}
    insert(writer.file)
    assert process.stdout.readline() == "woken\n"
    process.kill()
    process.communicate()
    assert len(writer.waking.waiting()) == 1
    insert(writer.file)
    assert writer.waking.waiting() == set()
    assert len([name for name in marks.names_in(writer.file.directory) if name.endswith(".sock")]) == 1


def test_a_socket_that_somebody_removes_is_made_again(pools: Any) -> None:
    writer, waiter = pools(), pools()
    waiter.wait()
    shutil.rmtree(writer.file.directory)
    insert(writer.file)
    assert waiter.hears()
    while waiter.id not in writer.waking.waiting():  # it looks ten times a second
        assert waiter.hears()
    waiter.heard.clear()
    tell(writer, late={"common"})
    while LateRows("common", 0, None) not in waiter.heard:
        assert waiter.hears()


def test_nothing_is_left_when_listening_has_ended(pools: Any) -> None:
    first, second = pools(), pools()
    for pool in (first, second):
        pool.wait()
    assert first.waking.waiting() == {first.id, second.id}
    for pool in (first, second):
        pool.close()
        pool.close()  # closing twice is allowed
    assert set(marks.names_in(first.file.directory)) == {"turn", "writer"}


def test_a_directory_that_nobody_can_use_any_more_is_an_error_of_ours_and_keeps_no_pool_from_ending(
    sqlite_path: Path,
) -> None:
    with SqliteQueue(sqlite_path) as queue:
        store, pool_id = queue.store(), uuid4()
        store.listen(["common"], lambda _: None, lambda _: None, lambda _: None)
        drive(store.set_waiting(pool_id, True))
        directory = queue._file.directory
        shutil.rmtree(directory)
        directory.touch()
        with pytest.raises(BackendError, match="see whether tasks"):
            drive(store.set_waiting(pool_id, True))
        drive(store.close())
        directory.unlink()
