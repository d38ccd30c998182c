"""Servers that one trial may crash, stop and start again."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal

import psycopg
from sqlalchemy import make_url

from fang_embedded import EmbeddedPostgres
from fang_embedded.postgres_supervisor import server_user
from fang_postgres import migrate
from tests import clusters

SETTINGS: Final = {"search_path": "public", "synchronous_commit": "on", "restart_after_crash": "on"}
"""Without the second a crash would forget what was acknowledged. Nothing need be flushed: no machine crashes."""

_SIGNALS: Final = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT}


class OwnServer:
    """One that listens on a unix socket. It ends with the process that started it."""

    def __init__(self, directory: Path | None = None, **settings: str) -> None:
        self._standbys: list[OwnServer] = []
        self._postgres = EmbeddedPostgres(
            bin_dir=clusters.bin_dir(),
            directory=directory,
            settings=SETTINGS | settings,
            durable=False,
        )

    def start(self) -> None:
        """Makes the cluster, where there is none."""
        self._postgres.start()
        self.url = self._postgres.url

    def stop(self) -> None:
        """With its standbys."""
        while self._standbys:
            self._standbys.pop().stop()
        self._postgres.stop()

    def restart(self) -> None:
        """As after a crash; returns when it is back."""
        self._postgres.restart("immediate")

    def down(self, mode: Literal["fast", "immediate"]) -> None:
        """Until ``up()``; returns when all its processes have heard of it."""
        pid = self._postgres.pid
        os.kill(pid, _SIGNALS[mode])
        deadline = time.monotonic() + 60
        while _runs(pid):
            assert time.monotonic() < deadline, "the server did not end"
            time.sleep(0.01)

    def up(self) -> None:
        """After ``down()``; returns when it is back."""
        self._postgres.restart()

    @property
    def _run_directory(self) -> Path:
        """Where the user of the server can go, and what is swept up if all of us are killed."""
        return Path(str(make_url(self.url).query["host"])).parent

    def execute(self, statement: str, *parameters: Any) -> list[Any]:
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(statement.encode(), parameters or None)
            return cursor.fetchall() if cursor.description else []

    def make_standby(self, name: str, **settings: str) -> "OwnServer":
        """Another one, which follows this one under this name. It has started, and ends with this one."""
        directory = self._run_directory / name
        directory.mkdir(0o711)
        data = directory / "data"
        origin = f"{self.url}&application_name={name}"
        subprocess.run(
            [clusters.bin_dir() / "pg_basebackup", "-d", origin, "-D", data, "-R", "-c", "fast"],
            check=True,
            capture_output=True,
        )
        user = server_user()
        if user:
            for path in (data, *data.rglob("*")):
                shutil.chown(path, user["user"], user["group"])
        standby = OwnServer(directory, **settings)
        self._standbys.append(standby)
        standby.start()
        return standby


@contextmanager
def own_server(**settings: str) -> Iterator[OwnServer]:
    """One with the tables."""
    server = OwnServer(**settings)
    try:
        server.start()
        migrate.upgrade(server.url)
        yield server
    finally:
        server.stop()


def _runs(pid: int) -> bool:
    """A zombie does not: its supervisor has not looked yet."""
    try:
        return Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
