"""Starts Debian's Redis for systems that need one: with an append-only file, on a unix socket."""

import itertools
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Self

from benchmarks.driver import PeerFailed


class Redis:
    """A server that starts with the first call of ``database``, and lives as long as its context.

    It appends each change to a file, and calls fsync each second: what a machine loses that crashes is a second or two.
    With its defaults it would write nothing but snapshots, and lose minutes.
    """

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory()
        self._server: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.terminate()
            self._server.wait()
        self._directory.cleanup()

    def database(self) -> str:
        """Returns the URL of an empty database; raises ``PeerFailed`` if there is no Redis."""
        socket = Path(self._directory.name, "socket")
        if self._server is None:
            self._server = self._start(socket)
        return f"unix://{socket}?db={next(self._numbers)}"

    def _start(self, socket: Path) -> subprocess.Popen[bytes]:
        program = shutil.which("redis-server")
        if program is None:
            raise PeerFailed("needs Redis: apt-get install redis-server")
        command = [program, "--port", "0", "--unixsocket", str(socket), "--dir", self._directory.name]
        command += ["--appendonly", "yes", "--appendfsync", "everysec", "--save", ""]
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while not socket.exists():
            if server.poll() is not None or time.monotonic() > deadline:
                raise PeerFailed("Redis did not start")
            time.sleep(0.01)
        return server
