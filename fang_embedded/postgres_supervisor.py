"""Runs between a caller and its embedded Postgres: starts the server, and ends it when the caller has gone.

``fang_embedded.launcher`` runs it as a script, with the standard library alone. It makes and removes everything on
disk, so that a caller killed with SIGKILL at any moment leaves nothing behind. Requests come in on stdin and replies go
out on stdout, one JSON object a line: first a ``Plan``, answered by ``Facts``; then ``{"restart": mode}``, answered the
same way. It answers a request that fails with ``{"error": line}``.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import pwd
import re
import secrets
import select
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypedDict

__all__ = ["Facts", "Plan", "new_run_dir"]

_START_SECONDS = 60.0
_START_ATTEMPTS = 20
# Each step of a stop, from a request to SIGKILL, has 5 s.
_STEP_SECONDS = 5.0
_SIGNALS = {
    "fast": (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL),
    "immediate": (signal.SIGQUIT, signal.SIGKILL),
}


class Plan(TypedDict):
    """The first request, which says what server the caller wants."""

    bin_dir: str
    run_dir: str  # made and removed by the supervisor; its name comes from new_run_dir()
    directory: str  # of the cluster; run_dir itself if it must be removed too
    settings: dict[str, str]
    tcp: bool
    sync: bool


class Facts(TypedDict):
    """The reply when Postgres is ready."""

    pid: int
    port: int
    version: int
    password: str
    socket_dir: str


class _StartFailed(Exception):
    """Raised when Postgres cannot be started; the message is one line for the user."""


class _PassingFailure(_StartFailed):
    """Raised when the port was taken meanwhile, or children of a killed postmaster still hold its shared memory."""


class _CallerGone(Exception):
    """Raised when the caller has died, or no longer wants a server."""


def supervise() -> None:
    """Starts Postgres, serves the caller's requests to restart it, and stops it when the caller has gone."""
    os.umask(0o022)
    caller = Caller(int(sys.argv[1]))
    try:
        plan: Plan = caller.next_request()
        sweep(Path(plan["run_dir"]).parent)
        with owned_run_dir(Path(plan["run_dir"])) as lock:
            serve(plan, caller, lock)
    except (_StartFailed, OSError) as error:
        caller.reply({"error": str(error)})
    except _CallerGone:
        pass


def serve(plan: Plan, caller: Caller, lock: int) -> None:
    """Runs one server for its whole life; raises _CallerGone at its regular end."""
    server = Server(plan, caller, lock)
    try:
        server.make_directories()
        server.create_cluster()
        server.start()
        caller.reply(server.facts())
        while True:
            mode = caller.next_request(meanwhile=server.reap)["restart"]
            caller.reply(server.restart(mode))
    finally:
        server.stop("fast")


# The caller -----------------------------------------------------------------------------------------------------------


class Caller:
    """The process that wants the server, as the supervisor sees it."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._received = b""
        self._dismissed = False
        # A child that the caller forked may hold the pipe open after the caller has died: watch the caller too.
        self._watched = [0]
        with contextlib.suppress(OSError, AttributeError):  # Linux 5.3; elsewhere getppid() has to do
            self._watched.append(os.pidfd_open(pid))
        # A flag, since an exception from a handler could come between the fork of Postgres and the note of its pid.
        signal.signal(signal.SIGTERM, lambda *_: setattr(self, "_dismissed", True))
        signal.pthread_sigmask(signal.SIG_SETMASK, [])

    def next_request(self, meanwhile: Callable[[], object] = lambda: None) -> Any:
        while b"\n" not in self._received:
            self.watch(0.5)
            meanwhile()
        line, _, self._received = self._received.partition(b"\n")
        return json.loads(line)

    def watch(self, seconds: float) -> None:
        """Waits that long, or until the caller sends a request; raises _CallerGone if it has gone."""
        readable, _, _ = select.select(self._watched, [], [], seconds)
        received = os.read(0, 65536) if 0 in readable else b""
        if self._dismissed or os.getppid() != self._pid or (readable and not received):
            raise _CallerGone
        self._received += received

    def reply(self, message: object) -> None:
        with contextlib.suppress(BrokenPipeError):
            os.write(1, json.dumps(message).encode() + b"\n")


# The run directory: locked as long as the supervisor, Postgres or any of its children live ----------------------------


def new_run_dir(root: Path) -> Path:
    """Returns a new name for a run directory, by which the sweep recognises it."""
    return root / f"fang-pg-{secrets.token_hex(5)}"


def sweep(root: Path) -> None:
    """Removes run directories of this user that no process holds: a supervisor and its caller were killed."""
    for path in root.glob("fang-pg-*"):
        # If it is gone, a link, or in use, this is an OSError.
        with contextlib.suppress(OSError):
            lock = _opened(path)
            try:
                if os.fstat(lock).st_uid == os.geteuid():
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(lock)


@contextlib.contextmanager
def owned_run_dir(path: Path) -> Iterator[int]:
    """Makes the directory and removes it at the end; yields the descriptor that holds its lock."""
    lock = _made_and_locked(path)
    try:
        yield lock
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(lock)


def _made_and_locked(path: Path) -> int:
    while True:
        path.mkdir(0o711 if server_user() else 0o700)  # the server's user has to pass through root's directory
        with contextlib.suppress(FileNotFoundError):
            lock = _opened(path)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if path.exists():
                return lock
            os.close(lock)  # a sweep took the directory before it was locked


def _opened(directory: Path) -> int:
    return os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)


# The server -----------------------------------------------------------------------------------------------------------


class Server:
    """The postmaster, a child of the supervisor, and its directories."""

    def __init__(self, plan: Plan, caller: Caller, lock: int) -> None:
        self._plan = plan
        self._caller = caller
        self._user = server_user()
        self._child: dict[str, Any] = {**self._user, "pass_fds": (lock,), "preexec_fn": _tie_to_this_process()}
        self._port = 0 if plan["tcp"] else 5432
        self._process: subprocess.Popen[bytes] | None = None
        run_dir = Path(plan["run_dir"])
        self._bin_dir, self._version = usable_install(Path(plan["bin_dir"]), run_dir, self._user)
        self._socket_dir = run_dir / "socket"
        self._directory = Path(plan["directory"])
        self._data = self._directory / "data"
        self._password = self._directory / "password"

    def make_directories(self) -> None:
        self._directory.mkdir(0o711 if self._user else 0o700, parents=True, exist_ok=True)
        self._make_private(self._socket_dir)

    def create_cluster(self) -> None:
        """Makes the cluster with its database ``fang``, unless it exists; half a cluster never has its name."""
        if self._data.exists():
            return
        half_made = self._directory / "data.new"
        shutil.rmtree(half_made, ignore_errors=True)
        self._make_private(half_made)
        self._password.touch(0o600)
        self._password.write_text(secrets.token_hex(16))
        self._give_to_user(self._password)
        what = ["-E", "UTF8", "--locale=C", "-U", "fang", "--no-instructions", *([] if self._plan["sync"] else ["-N"])]
        who = ["--auth-local=trust", "--auth-host=scram-sha-256", f"--pwfile={self._password}"]
        _run([f"{self._bin_dir}/initdb", "-D", str(half_made), *what, *who], **self._child)
        # Single-user mode needs neither a socket nor a client. To rename the database that initdb has made takes 25 ms;
        # to create another one, with its 300 files, takes 120 ms to 350 ms.
        single = [f"{self._bin_dir}/postgres", "--single", "-D", str(half_made), "-c", "exit_on_error=on"]
        _run(
            [*single, *([] if self._plan["sync"] else ["-F"]), "template1"],
            "ALTER DATABASE postgres RENAME TO fang\n",
            **self._child,
        )
        half_made.rename(self._data)

    def start(self) -> None:
        """Starts Postgres, on the port it had before or on a free one."""
        for attempts_left in reversed(range(_START_ATTEMPTS)):
            port = self._port or _free_port()
            try:
                self._launch(port)
            except _PassingFailure:
                if not attempts_left:
                    raise
                self._caller.watch(0.1)
            else:
                self._port = port
                return

    def restart(self, mode: str) -> Facts | dict[str, str]:
        try:
            self.stop(mode)
            self.start()
        except _StartFailed as error:  # the cluster stays, for another try
            return {"error": str(error)}
        return self.facts()

    def stop(self, mode: str) -> None:
        for signal_number in _SIGNALS[mode]:
            if self._process is not None and self._process.poll() is None:
                self._process.send_signal(signal_number)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(_STEP_SECONDS)

    def reap(self) -> None:
        """Reaps a server that died by itself, so that it leaves the table of processes."""
        if self._process is not None:
            self._process.poll()

    def facts(self) -> Facts:
        assert self._process is not None
        password = self._password.read_text() if self._plan["tcp"] else ""
        return Facts(
            pid=self._process.pid,
            port=self._port,
            version=self._version,
            password=password,
            socket_dir=str(self._socket_dir),
        )

    def _launch(self, port: int) -> None:
        settings = {
            **self._plan["settings"],
            "listen_addresses": "127.0.0.1" if self._plan["tcp"] else "",
            "unix_socket_directories": str(self._socket_dir),
            "port": str(port),
        }
        command = [f"{self._bin_dir}/postgres", "-D", str(self._data), *(f"-c{k}={v}" for k, v in settings.items())]
        with (self._directory / "server.log").open("a+") as log:
            begin = log.tell()
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=_environment(),
                **self._child,
            )
            if not self._becomes_ready(self._process):
                self.stop("immediate")
                log.seek(begin)
                raise self._failure(log.read())

    def _becomes_ready(self, process: subprocess.Popen[bytes]) -> bool:
        deadline = time.monotonic() + _START_SECONDS
        while process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(FileNotFoundError):
                # The postmaster writes its state into the eighth line; pg_ctl waits for the same word.
                lines = (self._data / "postmaster.pid").read_text().split("\n")
                if lines[0] == str(process.pid) and lines[7:] and lines[7].strip() == "ready":
                    return True
            self._caller.watch(0.01)
        return False

    def _failure(self, log: str) -> _StartFailed:
        passing = "could not bind" in log or "shared memory block" in log
        return (_PassingFailure if passing else _StartFailed)(
            f"Postgres {self._version} did not start: {_telling_line(log)} (look at settings, directory, bin_dir)"
        )

    def _make_private(self, directory: Path) -> None:
        directory.mkdir(0o700)
        self._give_to_user(directory)

    def _give_to_user(self, path: Path) -> None:
        if self._user:
            os.chown(path, self._user["user"], self._user["group"])


# Its user, and its binaries -------------------------------------------------------------------------------------------


def server_user() -> dict[str, Any]:
    """Returns the user that Postgres runs as, as arguments of subprocess: our own, or another if we are root."""
    if os.geteuid() != 0:
        return {}
    try:
        user = pwd.getpwnam("postgres")
    except KeyError:
        user = pwd.getpwnam("nobody")
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def usable_install(bin_dir: Path, run_dir: Path, user: dict[str, Any]) -> tuple[Path, int]:
    """Returns binaries that the server's user can run, copied if need be, and their major version."""
    try:
        answer = _run([f"{bin_dir}/postgres", "--version"], **user)
    except FileNotFoundError:
        raise _StartFailed(f"no Postgres in {bin_dir}: pass bin_dir, a directory with postgres and initdb") from None
    except PermissionError:  # say, a virtual environment below /root
        if not user:
            raise
        bin_dir = _copy_for_everyone(bin_dir, run_dir)
        answer = _run([f"{bin_dir}/postgres", "--version"], **user)
    return bin_dir, int(re.findall(r"\d+", answer)[0])


def _copy_for_everyone(bin_dir: Path, run_dir: Path) -> Path:
    """Copies an install, once, next to run_dir, where all can read and only root can write it; returns its binaries."""
    with (bin_dir / "postgres").open("rb") as file:
        copy = run_dir.parent / f"fang-postgres-{hashlib.file_digest(file, 'sha256').hexdigest()[:16]}"
    # Three levels, since the binaries look for their libraries by a path relative to themselves.
    origin, copied_bin_dir = bin_dir.parents[:3][-1], copy / bin_dir.relative_to(bin_dir.parents[:3][-1])
    if not _is_trusted_copy(copy, origin, bin_dir):
        fresh = run_dir / "install"
        for part in _parts_of_install(bin_dir):
            shutil.copytree(part, fresh / part.relative_to(origin))
        for path in (fresh, *fresh.rglob("*")):
            path.chmod(0o755 if path.stat().st_mode & stat.S_IXUSR else 0o644)
        with contextlib.suppress(FileNotFoundError):
            copy.rename(run_dir / "old-install")  # planted by another user, or thinned out by a cleaner of /tmp
        with contextlib.suppress(OSError):  # another start was faster; after any other error, the next step fails
            fresh.rename(copy)
    return copied_bin_dir


def _parts_of_install(bin_dir: Path) -> list[Path]:
    install, package = bin_dir.parent, bin_dir.parent.parent
    # Wheels carry shared libraries next to their package (Linux) or inside it (macOS).
    parts = [bin_dir, install / "lib", install / "share", Path(f"{package}.libs"), package / ".dylibs"]
    return [part for part in parts if part.is_dir()]


def _is_trusted_copy(copy: Path, origin: Path, bin_dir: Path) -> bool:
    if not copy.is_dir() or copy.is_symlink() or copy.stat().st_uid != 0 or copy.stat().st_mode & 0o022:
        return False
    files = (file for part in _parts_of_install(bin_dir) for file in part.rglob("*"))
    return all((copy / file.relative_to(origin)).exists() for file in files)


# Its processes --------------------------------------------------------------------------------------------------------


def _tie_to_this_process() -> Callable[[], None]:
    """Returns a function for a child, between fork and exec, that makes it die with this process, even by SIGKILL."""
    import ctypes

    parent = os.getpid()
    prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None

    def tie() -> None:
        # Runs after the change of user, which would clear it. SIGQUIT makes the postmaster end all its children. The
        # kernel watches the parent's thread, not its process: the supervisor has only one (so a preexec_fn is safe).
        if prctl is not None:
            prctl(1, signal.SIGQUIT)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:
            os._exit(1)

    return tie


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _run(command: list[str], given: str = "", **child: Any) -> str:
    done = subprocess.run(
        command, input=given, capture_output=True, text=True, errors="replace", env=_environment(), check=False, **child
    )
    if done.returncode != 0:
        who = f" as the user {pwd.getpwuid(child['user']).pw_name}" if "user" in child else ""
        why = _telling_line(done.stdout + done.stderr)
        raise _StartFailed(f"{Path(command[0]).name} failed{who}: {why}")
    output: str = done.stdout
    return output


def _environment() -> dict[str, str]:
    """Returns the environment without variables of Postgres (PGPORT, PGDATA, ...), and with English messages."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")} | {"LC_ALL": "C"}


def _telling_line(log: str) -> str:
    """Returns the last error of a log in one line, or its last line if it has none."""
    errors = re.findall(r"(?:FATAL|PANIC|ERROR|error|DETAIL|HINT): +(.*)", log)
    return "; ".join(errors[-2:]) or "".join(log.strip().splitlines()[-1:]) or "no word in its log"


if __name__ == "__main__":
    supervise()
