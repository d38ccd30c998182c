"""Python programs as processes of their own, forked from one that has imported the product.

Importing it takes most of a second of CPU, and hundreds of tests start a process. What such a test sees is a real
process all the same: its own pid, signals, pipes, working directory, environment, exit code and end of the
interpreter. Tests of what comes before (the interpreter's start, missing packages) use ``subprocess``.

Run as a module this is the process that forks: it takes one message for each program, with the descriptors that the
program gets, and ends when the process that started it has ended or calls ``close``.
"""

import array
import atexit
import contextlib
import faulthandler
import functools
import gc
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import CodeType
from typing import IO, Any, Final

from tests.patience import PATIENT

ROOT: Final = Path(__file__).parents[1]
LONGEST: Final = 1 << 17
"""Bytes of one message: the arguments and the environment."""

IMPORTED: Final = (
    "asyncio.runners",
    "fang_async.queue",
    "fang_backends.queues",
    "fang_cli.commands",
    "fang_cli.migrating",
    "fang_cli.settings",
    "fang_cli.worker.command",
    "fang_cli.worker.running",
    "fang_threaded.queue",
)
"""What most programs need, of the modules that the product imports when they are used: with the drivers."""


class Forked:
    """Has the methods of ``subprocess.Popen`` that tests use; all its streams are pipes of text."""

    def __init__(
        self,
        *arguments: str,
        cwd: str | os.PathLike[str] | None = None,
        env: Mapping[str, str] | None = None,
        start_new_session: bool = False,
        imports: Sequence[str] = (),
    ) -> None:
        """Takes the arguments of ``python -P``: ``-m`` and a module or ``-c`` and a program, and what these get. With
        ``imports``, it is forked from a process of its own kind, which has imported these modules as well."""
        assert arguments[0] in {"-m", "-c"}
        message = {
            "arguments": arguments,
            "cwd": os.fspath(cwd or os.getcwd()),
            "env": dict(os.environ if env is None else env),
            "session": start_new_session,
        }
        self.args = arguments
        self.returncode: int | None = None
        pipes = [os.pipe() for _ in range(3)]
        (stdin, to_stdin), (from_stdout, stdout), (from_stderr, stderr) = pipes
        self._told, told = socket.socketpair()
        with told:
            _forker(tuple(imports)).send(message, [stdin, stdout, stderr, told.fileno()])
        for descriptor in (stdin, stdout, stderr):
            os.close(descriptor)
        self.stdin: IO[str] = os.fdopen(to_stdin, "w")
        self.stdout: IO[str] = os.fdopen(from_stdout)
        self.stderr: IO[str] = os.fdopen(from_stderr)
        self.pid = self._hear(PATIENT)

    def _hear(self, timeout: float | None) -> int:
        """The next number that the forking process tells: the pid, then the exit code."""
        if not select.select([self._told], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        number = array.array("i", self._told.recv(4))
        assert number, "the process that forks has ended"
        return number[0]

    def poll(self) -> int | None:
        if self.returncode is None and select.select([self._told], [], [], 0)[0]:
            self.wait()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            self.returncode = self._hear(timeout)
            self._told.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):  # it has ended since
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float = PATIENT) -> tuple[str, str]:
        """Closes its standard input; the rest of what it writes, as soon as it has ended."""
        deadline = time.monotonic() + timeout
        self.stdin.close()
        read = ["", ""]

        def read_all(number: int, stream: IO[str]) -> None:
            with stream:
                read[number] = stream.read()

        readers = [
            threading.Thread(target=read_all, args=each, daemon=True)
            for each in enumerate((self.stdout, self.stderr))
            if not each[1].closed
        ]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join(max(0.0, deadline - time.monotonic()))
            if reader.is_alive():
                raise subprocess.TimeoutExpired(self.args, timeout)
        self.wait(max(0.0, deadline - time.monotonic()))
        return read[0], read[1]

    def close(self) -> None:
        """Kills it if it still runs."""
        self.kill()
        self.communicate()


def run(*arguments: str, timeout: float = PATIENT, **options: Any) -> subprocess.CompletedProcess[str]:
    """As ``subprocess.run`` of a program that ends by itself."""
    process = Forked(*arguments, **options)
    try:
        out, err = process.communicate(timeout)
    except BaseException:
        process.kill()
        raise
    return subprocess.CompletedProcess(arguments, process.wait(), out, err)


class _Forker:
    """The process that forks, seen from the tests."""

    def __init__(self, imports: tuple[str, ...]) -> None:
        self._control, theirs = socket.socketpair(type=socket.SOCK_SEQPACKET)
        paths = [os.environ.get("PYTHONPATH"), str(ROOT)]  # the copy of a mutant comes first
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", __name__, str(theirs.fileno()), *imports],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,  # its buffer is that of a pipe
                start_new_session=True,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
            )
        self._owner = os.getpid()
        atexit.register(self.close)

    def send(self, message: Any, descriptors: list[int]) -> None:
        data = json.dumps(message).encode()
        assert len(data) <= LONGEST
        socket.send_fds(self._control, [data], descriptors)

    def close(self) -> None:
        if os.getpid() == self._owner:
            self._control.close()
            self._process.wait()


@functools.cache
def _only_forker(imports: tuple[str, ...]) -> _Forker:
    return _Forker(imports)


_starting: Final = threading.Lock()


def _forker(imports: tuple[str, ...]) -> _Forker:
    with _starting:
        return _only_forker(imports)


# The process that forks -----------------------------------------------------------------------------------------------


def main(control: int, *imports: str) -> None:
    for module in (*IMPORTED, *imports):
        import_module(module)
    gc.collect()
    gc.freeze()  # so that the ends of processes do not copy it all
    with socket.socket(fileno=control) as requests:
        _serve(requests)


def _serve(requests: socket.socket) -> None:
    children: dict[int, tuple[int, int]] = {}  # a descriptor that tells the end -> pid, and whom to tell
    while True:
        for descriptor in select.select([requests.fileno(), *children], [], [])[0]:
            if descriptor != requests.fileno():
                pid, told = children.pop(descriptor)
                os.close(descriptor)
                _tell(told, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
                os.close(told)
                continue
            data, given, _, _ = socket.recv_fds(requests, LONGEST, 4)
            if not data:
                return
            *streams, told = given
            pid = os.fork()
            if pid == 0:
                requests.detach()
                _become(json.loads(data), streams)
                return  # into an ordinary end of the interpreter
            for stream in streams:
                os.close(stream)
            children[os.pidfd_open(pid)] = pid, told
            _tell(told, pid)


def _tell(told: int, number: int) -> None:
    with contextlib.suppress(BrokenPipeError):  # the test has ended
        os.write(told, array.array("i", [number]))


def _become(message: dict[str, Any], streams: list[int]) -> None:
    """Runs the program in this new process."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    open_streams()
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    if message["session"]:
        os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job has it ignored
    os.chdir(message["cwd"])
    os.environ.clear()
    os.environ.update(message["env"])
    tempfile.tempdir = None  # as TMPDIR says
    if "PYTHONFAULTHANDLER" in os.environ:
        faulthandler.enable()
    kind, program, *arguments = message["arguments"]
    sys.argv = [program if kind == "-m" else "-c", *arguments]
    if kind == "-m":
        runpy.run_module(program, run_name="__main__", alter_sys=True)
    else:
        exec(_compiled(program), {"__name__": "__main__"})


def open_streams() -> None:
    """Makes the standard streams again: those of the parent believe that they can seek, as its /dev/null can."""
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - they stay open
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115


def _compiled(program: str) -> CodeType:
    return compile(program, "<string>", "exec", dont_inherit=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
