"""xdist's processes, forked from one that has collected the tests.

Each process of xdist's imports the product and all tests and collects them, which takes seven seconds of a processor.
Here one process does so for all. It runs the program that xdist sends to its processes, with a channel that keeps what
that program tells. When the program asks for tests to run, its process forks. Each fork gets a channel of execnet's,
tells what was kept, and goes on as a process of xdist's, which may crash and be replaced like any other.

For each process execnet starts a program. The program that it starts here asks for a fork, hands its own streams over
to it, and ends when the fork has ended.
"""

import atexit
import inspect
import json
import os
import queue
import select
import shlex
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, Final

import execnet
import pytest
from _pytest import tmpdir

from tests.forking import ROOT, open_streams

_ASK: Final = """
import os, socket, sys
with socket.socket(socket.AF_UNIX) as fork:
    fork.connect(sys.argv[1])
    socket.send_fds(fork, [b"fork"], [0, 1, 2])
    os.closerange(0, 2)
    fork.recv(1)  # until it has ended
"""

_COLLECT: Final = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from tests.collected import main
main()
"""

_HAND_OVER: Final = "from tests.collected import hand_over; hand_over(channel)"


class Forks:
    """A plugin that starts the process that collects, and has execnet get its processes from there."""

    def __init__(self, config: pytest.Config, specs: Sequence[execnet.XSpec]) -> None:
        from xdist import remote  # pytest complains in a process that has imported a plugin before it

        self._directory = tempfile.TemporaryDirectory()
        path = f"{self._directory.name}/forks"
        with socket.socket(socket.AF_UNIX) as requests:
            requests.bind(path)
            requests.listen()
            self._process = subprocess.Popen(
                [sys.executable, "-u", "-c", _COLLECT, str(requests.fileno())],
                pass_fds=[requests.fileno()],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                text=True,
            )
        workerinput = {"workerid": "none", "workercount": len(specs), "testrunuid": "none", "mainargv": sys.argv}
        arguments = [str(argument) for argument in config.invocation_params.args]
        given = {
            "program": inspect.getsource(remote),
            "file": remote.__file__,
            "received": [workerinput, arguments, {}, sys.path],
        }
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(given) + "\n")
        self._process.stdin.flush()
        for spec in specs:
            spec.python = shlex.join([sys.executable, "-IS", "-c", _ASK, path])

    @pytest.hookimpl
    def pytest_xdist_getremotemodule(self) -> str:
        return _HAND_OVER

    @pytest.hookimpl
    def pytest_unconfigure(self) -> None:
        """Ends the process that collects: it waits for requests or the end of its standard input."""
        self._process.communicate()
        self._directory.cleanup()


# The process that collects, and its forks -----------------------------------------------------------------------------

_handed_over: Final[queue.SimpleQueue[execnet.Channel]] = queue.SimpleQueue()
_finished: Final[queue.SimpleQueue[BaseException | None]] = queue.SimpleQueue()


def main() -> None:
    requests = socket.socket(fileno=int(sys.argv.pop()))
    given = json.loads(sys.stdin.readline())
    channel = Channel(requests, given["received"])
    program = compile(given["program"], given["file"], "exec", dont_inherit=True)
    error = None
    try:
        exec(program, {"channel": channel, "__name__": "__channelexec__"})
    except BaseException as raised:  # noqa: BLE001 - each fork raises it
        error = raised
    if not channel.forked:  # because of the error
        channel.fork()
    channel.finish(error)


class Channel:
    """What xdist's program takes for a channel of execnet's. It has one when this process has been forked."""

    def __init__(self, requests: socket.socket, received: Any) -> None:
        self.gateway = SimpleNamespace(execmodel=execnet.gateway_base.get_execmodel("main_thread_only"))
        self.forked = False
        self._requests = requests
        self._received = received
        self._kept: list[Any] = []
        self._real: execnet.Channel
        self._connection: socket.socket
        self._serving: threading.Thread

    def receive(self) -> Any:
        return self._received

    def send(self, event: Any) -> None:
        if self.forked:
            self._real.send(event)
        else:
            self._kept.append(event)

    def setcallback(self, callback: Callable[..., Any], endmarker: object) -> None:
        """Forks, since the program asks for tests to run: it has collected them. What is of one process alone comes
        after that: the files of captured output, the directory of temporary files, its name."""
        worker = callback.__self__
        capturing = worker.config.pluginmanager.getplugin("capturemanager")
        capturing.stop_global_capturing()
        options = self.fork()
        capturing.start_global_capturing()
        capturing.suspend_global_capture()
        worker.config.option.basetemp = options.get("basetemp")
        tmpdir.pytest_configure(worker.config)
        worker.workerid = worker.config.workerinput["workerid"]
        worker.testrunuid = worker.config.workerinput["testrunuid"]
        self._real.setcallback(callback, endmarker)

    def fork(self) -> dict[str, Any]:
        """Returns in each fork, with the options that xdist sends to it."""
        assert threading.active_count() == 1, f"the forks would be without a thread: {threading.enumerate()}"
        self._connection = _fork(self._requests)  # closed at the end of this process
        self.forked = True
        self._serving = threading.Thread(target=_serve)
        self._serving.start()
        self._real = _handed_over.get()
        workerinput, _, options, _ = self._real.receive()
        self._received[0].update(workerinput)
        os.environ["PYTEST_XDIST_TESTRUNUID"] = workerinput["testrunuid"]
        os.environ["PYTEST_XDIST_WORKER"] = workerinput["workerid"]
        for event in self._kept:
            self._real.send(event)
        return options  # type: ignore[no-any-return]

    def finish(self, error: BaseException | None) -> None:
        """Ends this process: all but what takes a third of a second of a processor, to free what was collected."""
        _finished.put(error)
        self._serving.join()
        atexit._run_exitfuncs()
        os._exit(0)


def _fork(requests: socket.socket) -> socket.socket:
    """Returns in each fork the connection of the program that has asked for it. The process that forks ends when the
    one that started it does, or says so."""
    while True:
        readable, _, _ = select.select([requests, sys.stdin], [], [])
        if sys.stdin in readable:
            os._exit(0)
        connection, _ = requests.accept()
        _, streams, _, _ = socket.recv_fds(connection, 4, 3)
        if os.fork() == 0:
            requests.close()
            for number, stream in enumerate(streams):
                os.dup2(stream, number)
                os.close(stream)
            open_streams()
            return connection
        connection.close()
        for stream in streams:
            os.close(stream)


def _serve() -> None:
    """Does what execnet expects of a Python that it has started."""
    exec(eval(sys.stdin.readline()), {})


def hand_over(channel: execnet.Channel) -> None:
    """Lets the main thread have a channel until that has finished; execnet tells the error that this raises."""
    _handed_over.put(channel)
    error = _finished.get()
    if error is not None:
        raise error
