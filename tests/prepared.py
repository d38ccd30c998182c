"""Forks the processes of xdist's from one that has imported all tests, so that each of them need not import them anew.

The first process of pytest's starts that one, asks it for each process, and waits until there is one::

    pytest --socket, requests: a stdin and a stdout--> the prepared process --fork--> a process of xdist's
           <--its pid--

What is forked goes on like a Python that xdist has started itself: it reads its program from its stdin.
"""

import gc
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, Final

import pytest
from execnet import gateway_io
from execnet.gateway_base import ExecModel, Popen2IO
from execnet.xspec import XSpec

_NO_TESTS: Final = ("-n", "0", "--dist", "no", "--collect-only", "-qqq")

# As `python -c` it has no file of its own, which the processes that tests spawn would import.
_PROGRAM: Final = "import sys; from tests.prepared import serve; serve(); exec(eval(sys.stdin.readline()))"


class Prepared:
    """The process that has imported the tests; ends when it is closed, or when this process has ended."""

    def __init__(self, arguments: Iterable[str]) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-u", "-c", _PROGRAM, str(theirs.fileno()), *arguments],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
        self._socket = ours

    def fork(self, execmodel: ExecModel) -> "Forked":
        """Makes a process for xdist; raises EOFError if the prepared one has ended."""
        stdin, our_end = os.pipe()
        ours, stdout = os.pipe()
        try:
            socket.send_fds(self._socket, [b"f"], [stdin, stdout])
        finally:
            os.close(stdin)
            os.close(stdout)
        pid = self._socket.recv(20)
        if not pid:
            raise EOFError("the process that imports the tests has ended")
        return Forked(int(pid), our_end, ours, execmodel)

    def close(self) -> None:
        self._socket.close()
        self._process.wait()


class Forked(Popen2IO):
    """One of them, as execnet sees a process that it talks to."""

    def __init__(self, pid: int, stdin: int, stdout: int, execmodel: ExecModel) -> None:
        super().__init__(os.fdopen(stdin, "wb"), os.fdopen(stdout, "rb"), execmodel)
        self._process: int | None = None
        with suppress(ProcessLookupError):  # it has ended already, and was reaped
            self._process = os.pidfd_open(pid)

    def wait(self) -> None:
        if self._process is not None:
            select.select([self._process], [], [])

    def kill(self) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._process, signal.SIGKILL)


def use(prepared: Prepared) -> None:
    """Has execnet take its processes on this machine from there."""

    def create_io(spec: XSpec, execmodel: ExecModel) -> Any:
        return prepared.fork(execmodel) if spec.popen and not spec.python else started(spec, execmodel)

    started = gateway_io.create_io
    gateway_io.create_io = create_io  # type: ignore[assignment]


# In the prepared process ----------------------------------------------------------------------------------------------


def serve() -> None:
    """Imports the tests that the arguments name, then forks; returns in each process that was forked off."""
    requests = socket.socket(fileno=int(sys.argv[1]))
    import_tests(sys.argv[2:])
    sys.argv = ["-c"]
    interrupted = signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C: those that run tests end, then this one
    gc.collect()
    gc.freeze()
    children: dict[int, int] = {}  # by the descriptor that tells its end
    while True:
        for ready in select.select([requests, *children], [], [])[0]:
            if ready in children:
                os.close(ready)
                os.waitpid(children.pop(ready), 0)
                continue
            _, given, _, _ = socket.recv_fds(requests, 1, 2)
            if not given:
                os._exit(0)
            pid = os.fork()
            if pid == 0:
                for end, standard in zip(given, (0, 1), strict=True):
                    os.dup2(end, standard)
                    os.close(end)
                for other in (requests.detach(), *children):
                    os.close(other)
                signal.signal(signal.SIGINT, interrupted)
                return
            for end in given:
                os.close(end)
            children[os.pidfd_open(pid)] = pid
            requests.send(str(pid).encode())


def import_tests(arguments: Sequence[str]) -> None:
    """Imports the modules, and makes no tests of them. What fails fails again, and is told, in each process."""
    pytest.main([*arguments, *_NO_TESTS], plugins=[_Importing()])


class _Importing:
    @pytest.hookimpl(tryfirst=True)
    def pytest_pycollect_makemodule(self, module_path: Any, parent: pytest.Collector) -> pytest.Module:
        module: pytest.Module = _Imported.from_parent(parent, path=module_path)
        return module


class _Imported(pytest.Module):
    def collect(self) -> list[pytest.Item | pytest.Collector]:
        assert self.obj  # which imports it
        return []
