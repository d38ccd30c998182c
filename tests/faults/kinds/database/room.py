"""Faults inside the database: no room on its disk (F27)."""

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final
from uuid import uuid4

import psycopg

from fang_core.errors import BackendError
from fang_embedded import EmbeddedPostgres
from fang_postgres import migrate
from tests.faults.kinds.database.shared import hold, until_said
from tests.faults.registry import BOUND, SHORT, SHORT_LEASE, fault
from tests.faults.trial import Trial

_LONG: Final = os.urandom(900).hex()
"""Too long for many rows of a page, and too short to be put elsewhere."""

TABLES: Final = ("fang_tasks", "fang_pools", "fang_schedules")


@contextmanager
def _mounted(room: str) -> Iterator[str]:
    """A small file system of its own."""
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        os.chmod(directory, 0o711)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={room},mode=711", "tmpfs", directory], check=True)
        try:
            yield directory
        finally:
            subprocess.run(["umount", "-l", directory], check=True)


@contextmanager
def _small_disk(trial: Trial) -> Iterator[Path]:
    """The tables lie on a file system with little room; what fills it."""
    owner = Path(trial.rows("SHOW data_directory")[0][0]).stat()
    with _mounted("24m") as directory:
        there = Path(directory, "tables")
        there.mkdir(mode=0o700)
        os.chown(there, owner.st_uid, owner.st_gid)
        name = f"small_{uuid4().hex[:12]}"
        trial.database.execute(f"CREATE TABLESPACE {name} LOCATION '{there}'".encode())
        _move(trial, name)
        yield Path(directory, "filler")
        _move(trial, "pg_default")
        trial.database.execute(f"DROP TABLESPACE {name}".encode())


def _move(trial: Trial, tablespace: str) -> None:
    for table in TABLES:
        trial.database.execute(f"ALTER TABLE fang.{table} SET TABLESPACE {tablespace}".encode())
    indexes = trial.rows(
        "SELECT indexname FROM pg_indexes WHERE schemaname = 'fang' AND tablename = ANY(%s)", list(TABLES)
    )
    for (index,) in indexes:
        trial.database.execute(f"ALTER INDEX fang.{index} SET TABLESPACE {tablespace}".encode())


def _fill(filler: Path) -> None:
    with filler.open("ab", buffering=0) as file, suppress(OSError):
        for size in (1 << 20, 1 << 12):
            with suppress(OSError):
                while True:
                    file.write(bytes(size))


@fault("F27", "the disk of the tables is full, past the lease, then has room again", also=("I8", "I10"), given=SHORT)
def disk_full(trial: Trial) -> None:
    """Where this may not mount a small file system, a trigger says the same of every write to the tasks."""
    workers = trial.start()
    with ExitStack() as room:
        filler = room.enter_context(_small_disk(trial)) if os.geteuid() == 0 else None
        trial.insert(4 * len(workers), gate=trial.gate())
        trial.until(lambda: trial.starts() == 4 * len(workers))
        trial.insert(100, name=_LONG)  # their claims, which write them anew, need room
        if filler is not None:
            _fill(filler)
        else:
            trial.database.execute(_FULL.encode())
        trial.open_gate()
        refused = 0
        ended = time.monotonic() + 1.5 * SHORT_LEASE
        while time.monotonic() < ended or not refused:
            refused += _is_refused(trial)
        # Pages that are there already have some room, and more when rows go: perhaps that was enough for the claims.
        if trial.count("state IN ('new', 'retried')"):
            until_said(trial, "53100")
        if filler is not None:
            filler.unlink()
        else:
            trial.database.execute(b"DROP TRIGGER no_room ON fang.fang_tasks")
        freed = time.monotonic()
        trial.expect(trial.insert(len(workers)), freed, BOUND)
        trial.settle()
    for worker in workers:
        trial.assert_slots(worker)


def _is_refused(trial: Trial) -> bool:
    try:
        trial.insert(20, name=_LONG)
    except BackendError as error:
        if "53100" not in str(error) or "nothing was written" not in str(error):
            raise
        return True
    return False


_FULL: Final = """
    CREATE FUNCTION audit.no_room() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = '53100'; END $$;
    CREATE TRIGGER no_room BEFORE INSERT OR UPDATE OR DELETE ON fang.fang_tasks
        FOR EACH STATEMENT EXECUTE FUNCTION audit.no_room();
"""


@fault(
    "F27 of the WAL",
    "no room for the WAL: the server ends itself, until there is room again",
    also=("I8", "I10"),
    given=SHORT,
)
def no_room_for_wal(trial: Trial) -> None:
    """Where this may not mount a small file system, the server is killed instead."""
    filler = Path(trial.lasting.enter_context(_mounted("160m")), "filler") if os.geteuid() == 0 else None
    settings = {"search_path": "public", "max_wal_size": "48MB", "min_wal_size": "32MB"}
    there = None if filler is None else filler.with_name("cluster")
    server = trial.lasting.enter_context(EmbeddedPostgres(durable=False, directory=there, settings=settings))
    migrate.upgrade(server.url)
    trial.move(server.url)
    workers = trial.start()
    held = hold(trial)
    if filler is not None:
        _fill(filler)
        with suppress(psycopg.OperationalError):
            while True:  # without a table, whose growth would be refused first
                trial.database.execute("SELECT pg_logical_emit_message(false, 'faults', repeat('x', 1000000))")
    else:
        os.kill(server.pid, signal.SIGQUIT)
    trial.open_gate()
    until_said(trial, "the database does not answer")
    time.sleep(1.5 * SHORT_LEASE)
    if filler is not None:
        filler.unlink()
    server.restart("immediate")
    trial.look_again()
    up = time.monotonic()
    trial.expect(trial.insert(len(workers)), up, BOUND)
    trial.settle()
    assert all(trial.starts(task) == 1 for task in held), "a task ran again"
    for worker in workers:
        trial.assert_slots(worker)
