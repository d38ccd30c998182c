"""A PgBouncer before a server, in transaction mode, with few connections: its clients do share their sessions."""

import contextlib
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from unittest import SkipTest

import psycopg
from sqlalchemy import make_url

from fang_embedded.postgres_supervisor import server_user
from tests.patience import PATIENT
from tests.ports import free_port

BINARY: Final = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin")


class PgBouncer:
    """Started, stopped and told what to do; its clients stay on the same URL.

    Args:
        url: of a database on the server behind it.
        settings: as in ``pgbouncer.ini``, beside ours.
    """

    def __init__(self, url: str, **settings: object) -> None:
        self._server = make_url(url)
        self._settings = {"default_pool_size": 2, "server_login_retry": 1, **settings}
        self._directory = tempfile.TemporaryDirectory(prefix="fang-pgbouncer-")
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """As ``url``, but through it."""
        return f"postgresql://fang@127.0.0.1:{self._port}/{self._server.database}"

    def start(self) -> Self:
        assert BINARY is not None
        directory = Path(self._directory.name)
        directory.chmod(0o755)
        (directory / "pgbouncer.ini").write_text(self._configuration())
        with (directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [BINARY, str(directory / "pgbouncer.ini")], stdout=log, stderr=log, **server_user()
            )
        deadline = time.monotonic() + PATIENT
        while True:
            with contextlib.suppress(psycopg.OperationalError):
                self.tell("SHOW VERSION")
                return self
            assert self._process.poll() is None, self.said()
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.02)

    def _configuration(self) -> str:
        server = self._server.translate_connect_args(database="dbname")
        server |= {name: self._server.query[name] for name in ("host", "port") if name in self._server.query}
        del server["dbname"]
        if "username" in server:
            server["user"] = server.pop("username")
        parts = " ".join(f"{name}={value}" for name, value in server.items())
        settings = {
            "listen_addr": "127.0.0.1",
            "listen_port": self._port,
            "unix_socket_dir": "",
            "auth_type": "any",
            "admin_users": "fang",
            "pool_mode": "transaction",
            **self._settings,
        }
        lines = [f"{name} = {value}" for name, value in settings.items()]
        return "\n".join(["[databases]", f"* = {parts}", "[pgbouncer]", *lines, ""])

    def tell(self, command: str) -> list[Any]:
        """A command of its console, such as PAUSE; returns when that is done."""
        with psycopg.connect(
            make_url(self.url).set(database="pgbouncer").render_as_string(), autocommit=True
        ) as console:
            cursor = console.execute(command.encode())
            return cursor.fetchall() if cursor.description else []

    def stop(self, by: signal.Signals = signal.SIGTERM) -> None:
        """At once: its clients and servers are cut."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(by)
            process.wait(PATIENT)

    def said(self) -> str:
        return (Path(self._directory.name) / "log").read_text()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._directory.cleanup()


def pgbouncer(url: str, **settings: object) -> PgBouncer:
    """One that is not started yet. Where there is no such program the test is skipped."""
    if BINARY is None:
        raise SkipTest("there is no pgbouncer, which does not come from PyPI: apt-get install pgbouncer")
    return PgBouncer(url, **settings)
