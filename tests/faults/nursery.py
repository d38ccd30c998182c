"""A process that has imported everything and forks workers off, so that one starts in milliseconds and not in a second.

Run as a module it is that process: it reads a line of JSON for each worker to start, and says on its standard output
which have started and ended; a worker says there itself that it is ready. Workers die with it, and it dies with whoever
started it: by the kernel's hand (PR_SET_PDEATHSIG), so also where that one is killed.
"""

import ctypes
import gc
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Self

import fang_core

PR_SET_PDEATHSIG: Final = 1
_ROOT: Final = Path(__file__).parents[2]


class Nursery:
    """What starts and reaps the workers of one fleet after the other. To be used from one thread, which must live as
    long: the kernel takes the end of a thread for the end of the parent.

    Args:
        environment: what it and its workers have beside that of this process.
    """

    def __init__(self, environment: Mapping[str, str] = MappingProxyType({})) -> None:
        # The packages that are imported here are the ones that workers import, be they a changed copy.
        path = [str(Path(fang_core.__file__).parents[1]), str(_ROOT)]
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", __name__, str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the one who drives the fault
            env={**os.environ, **environment, "PYTHONPATH": os.pathsep.join(path)},
        )
        self._unread = b""
        self._started: list[int] = []
        self.ready: set[int] = set()
        self.ended: dict[int, int] = {}
        """pid -> exit code; that of a signal is negative."""

    def start(self, given: dict[str, Any]) -> int:
        """The pid of a new worker, which is not ready yet."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(given).encode() + b"\n")
        self._process.stdin.flush()
        deadline = time.monotonic() + 60
        while not self._started:
            assert self.hear(deadline - time.monotonic()), "the nursery does not answer"
        return self._started.pop()

    def hear(self, seconds: float) -> bool:
        """Waits until something happens to some worker; False if nothing has in time."""
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], max(0.0, seconds))[0]:
            return False
        heard = os.read(self._process.stdout.fileno(), 65_536)
        assert heard, "the nursery has ended"
        *lines, self._unread = (self._unread + heard).split(b"\n")
        for line in lines:
            event, pid, *rest = json.loads(line)
            if event == "started":
                self._started.append(pid)
                self.ready.discard(pid)  # of a former process, where the kernel gives a pid again
                self.ended.pop(pid, None)
            elif event == "ready":
                self.ready.add(pid)
            else:
                self.ended[pid] = rest[0]
        return True

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def main() -> None:
    """The process itself."""
    die_with(int(sys.argv[1]))
    from tests.faults import worker

    gc.collect()
    gc.freeze()  # so that the ends of workers do not copy it all
    children: dict[int, int] = {}  # a descriptor that becomes readable at the end -> pid
    while True:
        for descriptor in select.select([0, *children], [], [])[0]:
            if descriptor in children:
                pid = children.pop(descriptor)
                os.close(descriptor)
                tell("ended", pid, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
                continue
            request = _line()
            if not request:
                return
            parent, pid = os.getpid(), os.fork()
            if pid == 0:
                die_with(parent)
                for each in children:
                    os.close(each)
                worker.main(json.loads(request))
                return  # into an ordinary end of the interpreter
            children[os.pidfd_open(pid)] = pid
            tell("started", pid)


def _line() -> bytes:
    """Unbuffered: a buffer would be shared with the children, and hide from ``select`` what it holds."""
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            return b""
        line += byte
    return line


def tell(*event: Any) -> None:
    """One write, short enough to be atomic on a pipe that all workers share."""
    os.write(1, json.dumps(event).encode() + b"\n")


def die_with(parent: int) -> None:
    """Has the kernel kill this process once its parent has died; at once, where it has already."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


if __name__ == "__main__":
    main()
