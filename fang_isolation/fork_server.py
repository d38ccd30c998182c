"""Forks children off a process that has imported the library, and nothing of the application.

So a child starts in milliseconds, where a new interpreter computes for half a second before it can import the
application. It is safe to fork, as it has one thread, no connection, and no object of the application's: it refuses to
serve if an import has started a thread. Each process with pools has one of its own, which ends with it.

Linux alone has what this needs: elsewhere, and where the server cannot be started, each child is a new interpreter.
"""

import atexit
import gc
import importlib
import os
import pickle
import resource
import select
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from multiprocessing import forkserver, process, resource_tracker, spawn, util
from pathlib import Path
from typing import Any, Final, NamedTuple

from fang_core.interpreter.forks import in_child
from fang_core.logs import SafeLogger

logger = SafeLogger("fang_isolation")

_PRELOADED: Final = frozenset(
    {
        *("fang_core", "fang_isolation", "fang_postgres", "fang_threaded", "fang_async", "fang_sqlite", "fang_redis"),
        *("pydantic", "pydantic_core", "sqlalchemy", "psycopg", "psycopg_binary", "asyncpg", "redis", "pebble"),
    }
)
"""The packages that it imports beforehand, if the process of the pool has: the library, and what that imports."""

_MOST_DESCRIPTORS: Final = 64
"""How many descriptors come with one request, at most."""

ANSWERS_WITHIN: Final = 30.0
"""Seconds that a server has to fork, with those in which it imports the library. One that hangs is replaced before the
run that waits for its child is given up."""


class Lifeline:
    """The writing end of a child's pipe: the child ends when no process has it open any more.

    A process that the application forks closes its copy, so that the child does not wait for that one's end, too.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        in_child(self, Lifeline.close)

    def close(self) -> None:
        """Lets the child go; does nothing the second time."""
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


class Forked(NamedTuple):
    """A child that was forked: its id, a descriptor that is readable once it has ended, and one that then has its exit
    code, unless the server has ended before it."""

    pid: int
    ended: int
    status: int


class ForkServer:
    """The pools' side. Starts the server with the first child, and again if it has ended."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._requests: socket.socket | None = None
        self._inherited: object = None  # what the process had from this one
        # The executable of a frozen application runs that, and not the program it is given.
        self.is_usable = hasattr(os, "pidfd_open") and _has_pidfds() and not getattr(sys, "frozen", False)
        """Whether it can be used here, as far as is known."""
        in_child(self, ForkServer._let_go)

    def start(self) -> None:
        """Starts it, so that it is ready sooner; does not wait for it."""
        if self.is_usable and self._lock.acquire(blocking=False):  # otherwise another thread does so already
            try:
                with suppress(OSError):
                    self._connect()
            finally:
                self._lock.release()

    @property
    def pid(self) -> int | None:
        """Its id; None if it was not started."""
        return None if self._process is None else self._process.pid

    def fork(self, data: bytes, descriptors: Sequence[int]) -> tuple[Forked, Lifeline]:
        """Forks a child off, which gets the data: the environment, and what multiprocessing sends. Returns it, and the
        writing end of its pipe, by which the child sees whether this process lives.

        Raises ``OSError`` if that fails. May wait until the server has imported the library.
        """
        with self._lock:
            for is_last in (False, True):
                try:
                    return self._fork(data, descriptors)
                except (OSError, EOFError) as error:  # the server was killed, or cannot start
                    self.end()
                    if is_last:
                        self.is_usable = False
                        logger.warning("child processes are new interpreters: the server that would fork them ends")
                        raise OSError("the server that forks child processes cannot be started") from error
        raise AssertionError

    def _fork(self, data: bytes, descriptors: Sequence[int]) -> tuple[Forked, Lifeline]:
        requests = self._connect()
        child_reads, child_lives = os.pipe()
        alive = Lifeline(child_lives)
        try:
            status, child_writes = os.pipe()
        except BaseException:  # no descriptor is left
            alive.close()
            os.close(child_reads)
            raise
        try:
            try:
                tracker: Any = resource_tracker.getfd()
                sent = [child_reads, child_writes, tracker, *descriptors]
                socket.send_fds(requests, [b"fork"], sent)
            finally:
                os.close(child_reads)
                os.close(child_writes)
            if not is_readable(status, ANSWERS_WITHIN):
                raise TimeoutError
            pid = forkserver.read_signed(status)
            ended = os.pidfd_open(pid)
        except BaseException:
            alive.close()
            os.close(status)
            raise
        with suppress(BrokenPipeError):  # it has died already, which is noticed as always
            _write_all(alive.descriptor, data)
        return Forked(pid, ended, status), alive

    def _connect(self) -> socket.socket:
        inherited = _inherited()
        if self._requests is not None and inherited != self._inherited:
            self.end()
        if self._requests is None:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            self._requests, self._inherited = ours, inherited  # first, so that a fork lets go of it
            try:
                with theirs:
                    self._process = subprocess.Popen(
                        [spawn.get_executable(), *_flags(), "-c", _program(theirs.fileno())],
                        pass_fds=[theirs.fileno()],
                        process_group=0,
                    )
            except BaseException:
                self._let_go()
                raise
        return self._requests

    def _let_go(self) -> None:
        """Closes the socket, which ends the server if no other process has it."""
        if self._requests is not None:
            self._requests.close()
            self._requests = None

    def end(self) -> None:
        """Ends the server; no child ends by that."""
        self._let_go()
        if self._process is not None:
            with suppress(PermissionError):  # this process is another user's by now; the server ends without its socket
                self._process.kill()
            self._process.wait()
            self._process = None


_OWN: ForkServer | None = None
_CHOOSING: Final = threading.Lock()


def own_server() -> ForkServer:
    """Returns that of this process, and never one that a fork of the application's has inherited."""
    global _OWN  # noqa: PLW0603 - one for the process
    with _CHOOSING:
        if _OWN is None or _OWN.owner != os.getpid():
            _OWN = ForkServer()
        return _OWN


@atexit.register
def _end_with_process() -> None:
    if _OWN is not None and _OWN.owner == os.getpid():
        _OWN.end()


def _has_pidfds() -> bool:
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError:  # an older kernel
        return False
    return True


def _inherited() -> object:
    """Returns what a process has from the one that starts it, but for its environment and its directory: children are
    to have it as it is, and not as it was when their server started."""
    status = Path("/proc/self/status").read_text().partition("Umask:")[2].split(maxsplit=1)
    limits = [resource.getrlimit(getattr(resource, name)) for name in dir(resource) if name.startswith("RLIMIT_")]
    return os.getresuid(), os.getresgid(), os.getgroups(), status[:1], limits, [_file_of(each) for each in range(3)]


def _file_of(descriptor: int) -> tuple[int, int] | None:
    try:
        found = os.fstat(descriptor)
    except OSError:  # closed
        return None
    return found.st_dev, found.st_ino


def _flags() -> Sequence[str]:
    flags: list[str] = util._args_from_interpreter_flags()  # type: ignore[attr-defined]
    return [*flags, "-P"]  # the path is this process' own


def _program(descriptor: int) -> str:
    loaded = [name for name in tuple(sys.modules) if name.partition(".")[0] in _PRELOADED and "__main__" not in name]
    path = [each or os.getcwd() for each in sys.path if isinstance(each, str)]  # imports ignore what is none
    return (
        f"import sys; sys.path[:] = {path!r}; "
        f"from fang_isolation.fork_server import main; main({descriptor}, {loaded!r})"
    )


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def is_readable(descriptor: int, seconds: float | None) -> bool:
    """Waits until there is something to read, or the end, for this many seconds at most; returns whether there is."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(None if seconds is None else 1_000 * seconds))


# The server -----------------------------------------------------------------------------------------------------------


def main(descriptor: int, modules: Sequence[str]) -> None:
    """Is the life of the server: it imports the modules, and forks until the process of the pool has ended."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    for name in modules:
        with suppress(Exception):  # a child imports it again, and fails with a reason if it needs it
            importlib.import_module(name)
    if len(list(Path("/proc/self/task").iterdir())) > 1:
        return  # to fork would copy the locks that another thread holds
    gc.collect()
    gc.freeze()  # so that children do not copy these pages
    with socket.socket(fileno=descriptor) as requests, selectors.DefaultSelector() as selector:
        _Server(requests, selector).serve()


SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What all processes of a service may be sent: the pool decides when its children end."""


class _Server:
    def __init__(self, requests: socket.socket, selector: selectors.BaseSelector) -> None:
        self._requests = requests
        self._selector = selector
        self._children: dict[int, tuple[int, int]] = {}  # by its pidfd: its id, and where its exit code goes
        selector.register(requests, selectors.EVENT_READ)

    def serve(self) -> None:
        """Forks and reaps, until the pool's process has ended and all children with it."""
        while self._selector.get_map():
            for key, _ in self._selector.select():
                if key.fileobj is not self._requests:
                    self._reap(key.fd)
                elif not self._fork():
                    self._selector.unregister(self._requests)

    def _fork(self) -> bool:
        """Serves one request; returns whether there may be more."""
        message, descriptors, _, _ = socket.recv_fds(self._requests, 16, _MOST_DESCRIPTORS)
        if not message:
            return False
        child_reads, child_writes, tracker, *inherited = descriptors
        pid = os.fork()
        if pid == 0:
            _exit_with(lambda: self._become(child_reads, child_writes, tracker, inherited))
        with suppress(BrokenPipeError):
            forkserver.write_signed(child_writes, pid)
        for each in (child_reads, tracker, *inherited):
            os.close(each)
        ended = os.pidfd_open(pid)
        self._children[ended] = pid, child_writes
        self._selector.register(ended, selectors.EVENT_READ)
        return True

    def _reap(self, ended: int) -> None:
        pid, status = self._children.pop(ended)
        self._selector.unregister(ended)
        os.close(ended)
        # Programs that its run has started must not go on while the task's next run begins. Before the child is reaped,
        # since no other process can have its id until then. It may have died before it had a group.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        with suppress(BrokenPipeError):
            forkserver.write_signed(status, code)
        os.close(status)

    def _become(self, reads: int, writes: int, tracker: int, inherited: list[int]) -> int:
        """Is the life of a child; returns its exit code."""
        self._selector.close()
        self._requests.close()
        for each in (writes, *self._children, *(status for _, status in self._children.values())):
            os.close(each)
        vars(forkserver)["_forkserver"]._inherited_fds = inherited
        vars(resource_tracker)["_resource_tracker"]._fd = tracker
        sentinel = os.dup(reads)
        with os.fdopen(reads, "rb") as sent:
            _take_environment(pickle.load(sent))  # first: the main module may read it
            current: Any = process.current_process()
            current._inheriting = True
            try:
                spawn.prepare(pickle.load(sent))
                child = pickle.load(sent)
            finally:
                del current._inheriting
        code: int = child._bootstrap(sentinel)
        return code


def _take_environment(environment: Mapping[str, str]) -> None:
    if environment != dict(os.environ):
        os.environ.clear()
        os.environ.update(environment)
        time.tzset()


def _exit_with(live: Any) -> None:
    code = 1
    try:
        code = live()
    except Exception:  # noqa: BLE001 - it is reported as a child of multiprocessing reports it
        sys.excepthook(*sys.exc_info())
        sys.stderr.flush()
    finally:
        os._exit(code)
