"""Starts and drives a system's process (see ``peers/host.py``), and makes the interpreters that they run in."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Self

ROOT: Final = Path(__file__).parent.parent
HOST: Final = ROOT / "benchmarks" / "peers" / "host.py"
VENVS: Final = ROOT / ".benchmarks" / "venvs"


class PeerFailed(Exception):
    """Raised when a system fails; the message is one line of its own output."""


class Driver:
    """A system in a process of its own, for one database.

    Args:
        peer: the name of its file in ``benchmarks/peers``.
        url: a database of its own.
        python: its interpreter; the one that runs this if not given.
        tree: the directory to import Fang from; this checkout if not given.
        setting: the arguments of its ``Peer``.
    """

    def __init__(
        self,
        peer: str,
        url: str,
        *,
        python: Path | None = None,
        tree: Path = ROOT,
        setting: Mapping[str, Any] | None = None,
    ) -> None:
        self.peer = peer
        self.url = url
        self._setting = setting or {}
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed by close()
        self._is_late = False
        # -P: neither the directory of the script nor the working directory is searched for modules.
        command = [str(python or sys.executable), "-P", str(HOST), peer, url, json.dumps(self._setting)]
        environment = {**os.environ, "PYTHONPATH": str(tree) if python is None else ""}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True, env=environment
        )

    def ask(self, command: str, *, within: float = 180.0, **arguments: Any) -> Any:
        """Returns the result of one command; raises ``PeerFailed`` if there is none within this many seconds."""
        self.begin(command, **arguments)
        return self.result(within)

    def begin(self, command: str, **arguments: Any) -> None:
        """Starts a command; ``result`` waits for its end."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps([command, arguments]) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise PeerFailed(self._last_words()) from None

    def result(self, within: float = 180.0) -> Any:
        """Returns the result of the command that was started."""
        assert self._process.stdout is not None
        late = threading.Timer(within, self._kill_late)
        late.start()
        line = self._process.stdout.readline()
        late.cancel()
        if not line:
            raise PeerFailed(f"not done within {within:.0f} s" if self._is_late else self._last_words())
        answer = json.loads(line)
        if "error" in answer:
            raise PeerFailed(" ".join(answer["error"].split())[:300])
        return answer["result"]

    def twin(self) -> "Driver":
        """Starts another process of the same system, with the same setting, on the same database."""
        return Driver(self.peer, self.url, setting=self._setting)

    def kill(self) -> None:
        """Kills the process in the middle of its work."""
        self._process.kill()

    def close(self) -> None:
        """Ends the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._errors.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _kill_late(self) -> None:
        self._is_late = True
        self._process.kill()

    def _last_words(self) -> str:
        code = self._process.wait(5)
        self._errors.seek(0)
        lines = self._errors.read().strip().splitlines()
        return f"its process ended with code {code}: {lines[-1][:300] if lines else 'without a word'}"


def interpreter(requirements: str, python: str | None = None) -> Path:
    """Returns the interpreter of a virtual environment with only these requirements, which the first call makes.

    ``python`` is the command of another Python than the one that runs this. Raises ``PeerFailed``.
    """
    home = VENVS / re.sub(r"[^a-z0-9]+", "-", requirements).strip("-")
    inner = home / "bin" / "python"
    ready = home / ".ready"
    if not ready.exists():
        base = shutil.which(python) if python else sys.executable
        if base is None:
            raise PeerFailed(f"needs {python}, which is not installed")
        print(f"installing {requirements} into {home.relative_to(ROOT)}", file=sys.stderr)
        install = [str(inner), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements.split()]
        for command in ([base, "-m", "venv", "--clear", str(home)], install):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                words = done.stderr.strip().splitlines()
                raise PeerFailed(f"not installed: {words[-1][:300] if words else command}")
        ready.touch()
    return inner
