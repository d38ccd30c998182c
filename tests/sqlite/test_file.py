"""Tests the file itself: what becomes of those who use it when it is locked, removed, replaced, full or read only."""

import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from fang_core.errors import (
    BackendError,
    BackendUnavailable,
    FangError,
    NotConnected,
    ReadOnlyServer,
    RowsLocked,
    SchemaError,
    StatementRefused,
)
from fang_sqlite.connections.file import File
from fang_sqlite.connections.gate import Gate
from tests.patience import PATIENT
from tests.sqlite.files import count, insert, insert_in, opened


@pytest.fixture
def file(tmp_path: Path) -> Iterator[File]:
    made = opened(tmp_path / "tasks.db")
    yield made
    made.close()


def one_line(error: FangError) -> str:
    """The text of an error, which every user sees."""
    text = str(error)
    assert "\n" not in text
    assert "database is locked" not in text
    return text


def another(file: File) -> sqlite3.Connection:
    """A connection of the application's, which knows nothing of the gate."""
    return sqlite3.connect(file.path, isolation_level=None, check_same_thread=False)


def insert_until_refused(file: File) -> None:
    for _ in range(1000):
        insert(file)


# Locked ---------------------------------------------------------------------------------------------------------------


def test_a_writer_waits_for_an_applications_transaction(file: File) -> None:
    application = another(file)
    application.execute("BEGIN IMMEDIATE")
    inserted = threading.Thread(target=insert, args=(file,))
    inserted.start()
    time.sleep(0.05)
    assert count(file) == 0  # readers do not wait
    application.execute("COMMIT")
    inserted.join(PATIENT)
    assert count(file) == 1
    application.close()


def test_one_who_opens_an_applications_file_that_has_no_log_yet_waits_for_its_transaction(tmp_path: Path) -> None:
    path = tmp_path / "application.db"
    application = sqlite3.connect(path, isolation_level=None)
    application.execute("CREATE TABLE people (name TEXT)")
    application.execute("BEGIN IMMEDIATE")
    with ThreadPoolExecutor(1) as pool:
        opened_soon = pool.submit(opened, path)
        time.sleep(0.05)
        assert not opened_soon.done()
        application.execute("COMMIT")
        with closing(opened_soon.result(PATIENT)) as file:
            insert(file)
            assert count(file) == 1
    application.close()


def test_one_who_has_waited_for_too_long_is_told_what_to_do(file: File) -> None:
    application = another(file)
    application.execute("BEGIN IMMEDIATE")
    with pytest.raises(RowsLocked) as refused, file.writing(0.05):
        pass
    assert "another transaction has been writing for 0.05 s" in one_line(refused.value)
    application.execute("ROLLBACK")
    insert(file)
    application.close()


def test_a_thread_that_waits_for_another_one_of_its_process_does_not_wait_for_ever(file: File) -> None:
    with file.writing():
        refused: list[BackendError] = []

        def write() -> None:
            try:
                with file.writing(0.05):
                    pass
            except BackendError as error:
                refused.append(error)

        thread = threading.Thread(target=write)
        thread.start()
        thread.join(PATIENT)
    assert [type(error) for error in refused] == [RowsLocked]


def test_one_who_has_waited_at_the_gate_in_vain_writes_all_the_same(
    file: File, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As behind a process that was stopped between the gate and its transaction."""
    monkeypatch.setattr("fang_sqlite.connections.file.AT_THE_GATE", 0.01)
    stopped = Gate(file.directory)
    assert stopped.enter(0)
    for _ in range(3):
        insert(file)
    stopped.close()
    assert count(file) == 3


# Removed and replaced -------------------------------------------------------------------------------------------------


def test_a_file_that_is_removed_is_not_made_again(file: File) -> None:
    insert(file)
    kept = file.path.with_name("kept.db")
    file.path.rename(kept)
    for _ in range(2):
        with pytest.raises(NotConnected, match="was removed while it was in use: put it back"):
            insert(file)
        with pytest.raises(NotConnected) as refused:
            count(file)
    assert str(file.path) in one_line(refused.value)
    assert not file.path.exists()
    kept.rename(file.path)
    assert count(file) == 1
    insert(file)


def test_nothing_is_written_to_a_file_that_took_its_place(file: File) -> None:
    insert(file)
    shutil.copy(file.path, file.path.with_name("copy.db"))
    os.replace(file.path.with_name("copy.db"), file.path)
    for use in (insert, count):
        with pytest.raises(NotConnected, match="was replaced by another file") as refused:
            use(file)
        one_line(refused.value)


def test_the_files_beside_it_are_made_again_when_somebody_removes_them(file: File) -> None:
    shutil.rmtree(file.directory)
    insert(file)
    assert count(file) == 1


# Full, read only, and no database -------------------------------------------------------------------------------------


def test_a_full_disk_is_named_and_what_is_written_later_is_kept(file: File) -> None:
    insert(file)
    writer = file._writer
    assert writer is not None
    pages = writer.execute("PRAGMA page_count").fetchone()[0]
    writer.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(BackendError, match="the disk is full, and nothing was written: make room") as refused:
        insert_until_refused(file)
    one_line(refused.value)
    before = count(file)
    writer.execute("PRAGMA max_page_count = 1000000")
    insert(file)
    assert count(file) == before + 1


def test_a_file_that_cannot_be_written_to_is_named(file: File) -> None:
    writer = file._writer
    assert writer is not None
    writer.execute("PRAGMA query_only = ON")
    with pytest.raises(ReadOnlyServer, match="cannot be written to") as refused:
        insert(file)
    one_line(refused.value)


@pytest.mark.parametrize("content", [b"no database" * 100, b"SQLite format 3\0" + b"\xff" * 4080])
def test_what_is_no_database_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "tasks.db"
    path.write_bytes(content)
    with pytest.raises(FangError, match=r"no SQLite database|damaged|cannot be opened") as refused:
        opened(path)
    one_line(refused.value)
    assert path.read_bytes() == content


def test_tables_of_a_later_version_are_refused(file: File) -> None:
    with file.writing() as tx:
        tx.run("UPDATE fang_version SET version = 99")
    file.close()
    with pytest.raises(SchemaError, match="install a later one"):
        file.open()


def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotConnected, match=r"see that .* exists and can be written to") as refused:
        opened(tmp_path / "missing" / "tasks.db")
    one_line(refused.value)


def test_a_value_that_sqlite_refuses_is_at_fault_and_the_file_stays_good(file: File) -> None:
    with pytest.raises(StatementRefused), file.writing() as tx:
        tx.run("INSERT INTO fang_uniques (hash, task_id, inserted_at) VALUES (NULL, x'00', 1)")
    insert(file)


# Forks ----------------------------------------------------------------------------------------------------------------


def in_child(function) -> int:  # type: ignore[no-untyped-def]
    """Runs a function in a child that is forked; returns its exit code."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            function()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def opened_and_closed_by_another_process(file: File) -> None:
    """Removes the log, if that process sees no lock of this one's."""
    code = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('SELECT 1 FROM fang_tasks')"
    subprocess.run([sys.executable, "-c", code, file.path], check=True, timeout=PATIENT)


def test_what_is_acknowledged_is_kept_though_this_process_has_let_go_of_the_locks_of_sqlite(file: File) -> None:
    insert(file)
    assert count(file) == 1
    file.data_version()
    file.path.read_bytes()  # as a copy does
    opened_and_closed_by_another_process(file)
    assert not file.path.with_name(f"{file.path.name}-wal").exists()
    with pytest.raises(NotConnected, match=r"tasks\.db-wal was removed while it was in use, .* Nothing was written"):
        insert(file)
    insert(file)
    assert count(file) == 2
    file.data_version()
    with closing(sqlite3.connect(file.path)) as other:
        assert other.execute("SELECT count(*) FROM fang_tasks").fetchall() == [(2,)]
        assert other.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@pytest.mark.parametrize("use", [count, File.data_version], ids=["read", "data_version"])
def test_whoever_reads_is_told_of_a_log_that_was_removed_and_connects_anew(file: File, use: Any) -> None:
    insert(file)
    file.path.with_name(f"{file.path.name}-wal").unlink()
    with pytest.raises(NotConnected, match="was removed while it was in use"):
        use(file)
    use(file)
    assert count(file) == 1  # it was in that log alone


def test_a_log_that_goes_in_the_middle_of_a_transaction_leaves_its_outcome_unknown(file: File) -> None:
    def write() -> None:
        with file.writing() as tx:
            insert_in(tx)
            file.path.with_name(f"{file.path.name}-wal").unlink()

    with pytest.raises(BackendUnavailable, match="What was written just now may be lost"):
        write()
    insert(file)


def test_what_a_child_commits_is_kept_when_its_parent_closes_the_file(file: File) -> None:
    insert(file)
    assert count(file) == 1  # so that there are connections of both kinds
    to_parent, in_parent = os.pipe(), os.pipe()

    def child() -> None:
        insert(file)
        os.write(to_parent[1], b"!")
        os.read(in_parent[0], 1)
        insert(file)
        assert count(file) == 3

    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            child()
            code = 0
        finally:
            os._exit(code)
    os.read(to_parent[0], 1)
    file.close()
    os.write(in_parent[1], b"!")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    file.open()
    assert count(file) == 3


def test_a_child_that_is_forked_while_others_write_is_told_so(file: File, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fang_sqlite.connections.forking.STILL_WITHIN", 0.01)

    def refused() -> None:
        with pytest.raises(NotConnected, match="forked while its parent was using"):
            count(file)

    with file.writing():
        assert in_child(refused) == 0


def test_a_fork_waits_for_the_end_of_a_transaction(file: File) -> None:
    begun, may_end = threading.Event(), threading.Event()

    def write() -> None:
        with file.writing():
            begun.set()
            may_end.wait(0.2)

    thread = threading.Thread(target=write)
    thread.start()
    assert begun.wait(PATIENT)
    assert in_child(lambda: insert(file)) == 0
    thread.join(PATIENT)
    assert count(file) == 1
