"""Runs ``fang worker --processes N``: waits for signals, reports and ends of processes, and has the group decide."""

import os
import selectors
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from math import inf
from typing import Final

from fang_cli.ending import end_in_peace
from fang_cli.supervisor.answering import Answering, answering
from fang_cli.supervisor.process import Process
from fang_cli.supervisor.process_group import Limits, ProcessGroup, logger
from fang_cli.supervisor.reloading import Reloading
from fang_cli.supervisor.signals import SignalInbox
from fang_cli.supervisor.spawning import worker_command
from fang_cli.supervisor.standby import Standby
from fang_cli.worker.logs import applications_logging
from fang_cli.worker.serving import NO_PORTS, Ports
from fang_core.errors import UsageError
from fang_core.pool.signals import COUNTS_AGAIN_AFTER, end_now

LOOKS_EVERY: Final = 0.5
"""Seconds between two looks at processes of which nothing is heard."""

SETTLES_WITHIN: Final = 5.0
"""Seconds after which what waits for the first processes waits no longer."""

COUNTED: Final = 1.0
"""The most seconds of one wait that count as silence of a process: the supervisor may have been stopped too."""


def run_supervisor(
    arguments: Sequence[str],
    processes: int,
    limits: Limits,
    log_level: str | None,
    ports: Ports = NO_PORTS,
    *,
    reloading: Reloading | None = None,
    standby: Standby | None = None,
    on_settled: Callable[[], None] = lambda: None,
    on_reload: Callable[[], None] = lambda: None,
) -> int:
    """Runs ``fang worker`` with these arguments in several processes, until SIGTERM or SIGINT; returns the exit code.

    With ``reloading`` the processes are replaced when the code has changed, and ``on_reload`` is called then. The
    first process is the one of ``standby``, if it was started with the same arguments. ``on_settled`` is called once,
    when each of the first processes has become ready or has ended, or takes long. Raises ``UsageError`` if a limit or
    the code cannot be watched here, or a port cannot be listened on.
    """
    if limits.memory < inf and not os.path.exists("/proc/self/statm"):
        raise UsageError("--max-memory is not supported here: it needs /proc, as Linux has it")
    with applications_logging(log_level):
        pass  # there is no application in this process
    with answering(ports) as answers, reloading or nullcontext():
        all_arguments = [*arguments, *_of_processes(ports)]
        supervisor = Supervisor(
            all_arguments, processes, limits, answers, reloading=reloading, standby=standby, on_reload=on_reload
        )
        return supervisor.run(on_settled)


def _of_processes(ports: Ports) -> list[str]:
    """Returns the arguments that have a process answer its supervisor, at one free port of its own."""
    asked = [("--metrics-port", ports.metrics), ("--probe-port", ports.probes)]
    return [text for option, port in asked if port is not None for text in (option, "0")]


class Supervisor:
    """The loop of a supervisor, in the main thread.

    Args:
        arguments: of ``fang worker`` in each process.
        answers: is kept informed of the processes.
        reloading: tells of changes of the code, if it is given; ``on_reload`` is called when processes are replaced.
        standby: a process that was started ahead, if there is one.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        processes: int,
        limits: Limits,
        answers: Answering,
        *,
        reloading: Reloading | None = None,
        standby: Standby | None = None,
        on_reload: Callable[[], None] = lambda: None,
    ) -> None:
        self._answers = answers
        self._reloading = reloading
        self._on_reload = on_reload
        self._command = worker_command(arguments, is_reloading=reloading is not None)
        self._standby = standby
        self._processes = processes
        self._group = ProcessGroup(self._spawn, processes, limits, is_reloading=reloading is not None)
        self._selector = selectors.DefaultSelector()
        self._told_at: float | None = None  # when the first signal came that stops it

    def run(self, on_settled: Callable[[], None] = lambda: None) -> int:
        """Runs until all processes have ended; returns the exit code. See ``run_supervisor`` for ``on_settled``."""
        logger.info("supervisor, pid %d: processes: %d", os.getpid(), self._processes)
        with SignalInbox() as inbox, self._selector as selector:
            selector.register(inbox, selectors.EVENT_READ)
            if self._reloading is not None:
                selector.register(self._reloading, selectors.EVENT_READ)
            began = looked = time.monotonic()
            is_settled = False
            self._group.look(looked, 0.0)
            while not self._group.has_ended:
                events = selector.select(LOOKS_EVERY)
                now = time.monotonic()
                self._read(events, now)
                for number in inbox.take():
                    self._handle(number, now)
                self._reload(now)
                self._reap(now)
                self._group.look(now, min(now - looked, COUNTED))
                self._answers.told(self._group.asked(), is_stopping=self._told_at is not None, now=now)
                looked = now
                if not is_settled and (self._group.has_settled or now - began >= SETTLES_WITHIN):
                    is_settled = True
                    on_settled()
            logger.info("supervisor, pid %d: all processes have ended", os.getpid())
        end_in_peace()
        return self._group.code

    def _spawn(self, number: int, generation: int, now: float) -> Process:
        waiting = None if self._standby is None else self._standby.take(self._command, number)
        if waiting is None:
            process = Process.start(self._command, number, generation, now)
        else:
            process = Process(*waiting, number, generation, now)
        self._selector.register(process.channel, selectors.EVENT_READ, process)
        return process

    def _read(self, events: list[tuple[selectors.SelectorKey, int]], now: float) -> None:
        for key, _ in events:
            if isinstance(key.data, Process) and not key.data.read(now):
                self._forget(key.data)

    def _forget(self, process: Process) -> None:
        """Reads no more of what a process reports."""
        if process.channel.fileno() != -1:  # otherwise it was closed before
            self._selector.unregister(process.channel)
            process.channel.close()

    def _reap(self, now: float) -> None:
        """Reaps all that have ended, those too that processes have left behind to process 1."""
        with suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                process = self._group.ended(pid, os.waitstatus_to_exitcode(status), now)
                if process is not None:
                    self._forget(process)

    def _handle(self, number: int, now: float) -> None:
        match number:
            case signal.SIGTERM | signal.SIGINT:
                self._stop(number, now)
            case _ if self._told_at is not None:
                pass
            case signal.SIGHUP:
                self._group.reload(now)
            case signal.SIGTTIN:
                self._group.add()
            case signal.SIGTTOU:
                self._group.remove(now)

    def _reload(self, now: float) -> None:
        """Replaces the processes if the code has changed."""
        changed = None if self._reloading is None else self._reloading.take()
        if changed is not None and self._told_at is None:
            self._group.reload(now, changed)
            self._on_reload()

    def _stop(self, number: int, now: float) -> None:
        if self._told_at is None:
            self._told_at = now
            logger.info("stopping all processes: a second signal ends them at once")
            self._group.stop(now)
        elif now - self._told_at >= COUNTS_AGAIN_AFTER:
            self._group.kill()
            end_now(number)
