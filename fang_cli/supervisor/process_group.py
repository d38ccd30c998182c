"""Decides which processes run: which start, are replaced, and stop. Pure: the time, and what happened, are arguments.

Each place holds one process. A process is replaced by one that is ready: the new one starts, and when its pools have
started, the old one is asked to stop. This happens in one place at a time: there is one process too many at most.
"""

import random
import signal
from collections.abc import Callable, Iterator
from logging import INFO, WARNING
from math import inf
from typing import Final, NamedTuple

from fang_cli.exit_codes import UNAVAILABLE, WRONG_USAGE
from fang_cli.supervisor.answering import Asked
from fang_cli.supervisor.deaths import SOON, Deaths
from fang_cli.supervisor.process import Process
from fang_core.config import EXIT_RUNS_LEFT
from fang_core.logs import SafeLogger
from fang_core.retry import Retry
from fang_core.words.texts import counted

logger = SafeLogger("fang_cli")

EXIT_GAVE_UP: Final = 70
"""The exit code of a supervisor whose processes died too often (EX_SOFTWARE of sysexits)."""

STEADY: Final = 60.0
"""Seconds after which the death of a process counts as the first one at its place."""

READY_WITHIN: Final = 120.0
"""Seconds within which a process that is to replace another one must be ready, or it is killed: it may hang in the
import of the application. A process that replaces none may take longer: without it there is none."""

REPLACED_AGAIN_AFTER: Final = 30.0
"""Seconds after which a replacement is tried again if the new process has not become ready."""

BROKEN: Final = frozenset({1, WRONG_USAGE})
"""The exit codes of a process whose code cannot be imported, or has no such pool: only a change of the code helps."""

TASKS_SPREAD: Final = 0.1
"""The part of ``max_tasks`` that a process may run beyond it, by chance, so that not all are replaced at once."""


class Limits(NamedTuple):
    """Says when a process is replaced.

    Attributes:
        tasks: the number of tasks that it has run.
        memory: the bytes that it takes.
    """

    tasks: float = inf
    memory: float = inf


class Place:
    """Holds one process, and the two of a replacement.

    Attributes:
        number: from 1 on.
        process: None while it waits for its next start.
        successor: a new process that is not ready yet.
        former: a process that has been replaced and has not ended yet.
        starts_at: when a process is started, if there is none.
        replaced_from: from when on the process may be replaced.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.process: Process | None = None
        self.successor: Process | None = None
        self.former: Process | None = None
        self.starts_at = 0.0
        self.replaced_from = 0.0
        self.retry = Retry()

    @property
    def all(self) -> list[Process]:
        """Returns its processes."""
        return [process for process in (self.process, self.successor, self.former) if process is not None]


class ProcessGroup:
    """The processes of a supervisor.

    Args:
        spawn: starts a process, given the number of its place, the generation and the time; it may raise ``OSError``.
        is_reloading: whether the code is being worked on: broken code then waits for its next change, and nothing is
            given up.

    Attributes:
        code: the exit code of the supervisor, as far as it is known.
    """

    def __init__(
        self,
        spawn: Callable[[int, int, float], Process],
        processes: int,
        limits: Limits,
        *,
        is_reloading: bool = False,
    ) -> None:
        self._spawn = spawn
        self._is_reloading = is_reloading
        self._why = ""  # the last reload
        self._limits = limits
        self._generation = 0
        self._places = [Place(number) for number in range(1, processes + 1)]
        self._all: dict[int, Process] = {}  # by pid
        self._ready: set[int] = set()  # pids that are known to be
        self._deaths = Deaths()
        self._has_been_ready = False
        self._is_stopping = False
        self.code = 0

    def __iter__(self) -> Iterator[Process]:
        """Iterates over all that have not been reaped."""
        return iter(tuple(self._all.values()))

    def asked(self) -> list[Asked]:
        """Returns the processes that can be asked about metrics and probes, and those that cannot yet."""
        placed = [Asked(str(place.number), _port(place.process), fills_place=True) for place in self._places]
        known = {process.pid for place in self._places for process in (place.process, place.successor) if process}
        ending = {f"{each.number} ending": _port(each) for each in self if each.pid not in known}
        return [*placed, *(Asked(name, port, fills_place=False) for name, port in ending.items() if port)]

    @property
    def has_ended(self) -> bool:
        """Returns whether it was told to stop, and no process is left."""
        return self._is_stopping and not self._all

    @property
    def has_settled(self) -> bool:
        """Returns whether each process of a place is ready; those that have ended count for nothing."""
        return all(place.process is None or place.process.is_ready for place in self._places)

    # What a person asks for ---------------------------------------------------------------------------------------

    def stop(self, now: float) -> None:
        """Stops all processes gracefully, for good."""
        self._is_stopping = True
        for process in self:
            process.stop(now)

    def kill(self) -> None:
        """Kills all processes."""
        for process in self:
            process.kill()

    def reload(self, now: float, why: str = "SIGHUP") -> None:
        """Replaces all processes, one after the other, and starts those that wait for a change of the code."""
        logger.info("%s: all processes are replaced, one after the other", why)
        self._generation += 1
        self._why = why
        for place in self._places:
            place.replaced_from = now
            if place.starts_at == inf:
                place.starts_at = now
            if place.successor is not None:  # it may have imported what has changed since
                place.successor.stop(now)
                place.successor = None

    def add(self) -> None:
        """Adds a place."""
        self._places.append(Place(len(self._places) + 1))
        logger.info("SIGTTIN: one process more, %d in all", len(self._places))

    def remove(self, now: float) -> None:
        """Removes the last place, unless it is the only one."""
        if len(self._places) == 1:
            logger.warning("SIGTTOU: there is only one process, which stays")
            return
        for process in self._places.pop().all:
            process.stop(now)
        logger.info("SIGTTOU: one process less, %d in all", len(self._places))

    # What happens -------------------------------------------------------------------------------------------------

    def look(self, now: float, watched: float) -> None:
        """Does what is due; ``watched`` is how many seconds have passed since the last look, as far as they count."""
        for process in self:
            process.silent += watched
            self._watch(process, now)
        if self._is_stopping:
            return
        for place in self._places:
            self._fill(place, now)
        if not self._is_stopping:  # it may have given up just now
            self._replace_one(now)

    def ended(self, pid: int, code: int, now: float) -> Process | None:
        """Notes that a process has been reaped, with this exit code; that of a signal is negative.

        Returns the process, or None if it was none of these.
        """
        process = self._all.pop(pid, None)
        if process is None:  # as process 1, a supervisor reaps what other processes leave behind
            return None
        self._ready.discard(pid)
        place = next((place for place in self._places if process in place.all), None)
        if place is not None and process is place.former:
            place.former = None
        if process.is_stopping or place is None:
            self._stopped(process, code)
        elif process is place.successor:
            place.successor = None
            self._not_replaced(place, process, code, now)
        else:
            place.process, place.successor = place.successor, None
            self._died(place, process, code, now)
        return process

    # Watching -----------------------------------------------------------------------------------------------------

    def _watch(self, process: Process, now: float) -> None:
        if process.is_killed:
            return
        if process.is_overdue(now):
            logger.error("%s does not end: killed", process)
            process.kill()
        elif process.is_hung():
            logger.error("%s has run no Python code for %.1f s, which is its lease: killed", process, process.silent)
            process.kill()
        elif not process.is_ready and self._is_late(process, now):
            logger.error("%s is not ready after %.0f s: killed", process, READY_WITHIN)
            process.kill()
        elif process.is_ready and process.pid not in self._ready:
            self._ready.add(process.pid)
            self._is_now_ready(process, now)

    def _is_late(self, process: Process, now: float) -> bool:
        """Returns whether it is to replace another one, and has taken too long to start."""
        return now - process.started_at >= READY_WITHIN and any(process is place.successor for place in self._places)

    def _is_now_ready(self, process: Process, now: float) -> None:
        logger.info("%s is ready", process)
        self._has_been_ready = True
        process.ready_at = now
        process.tasks_limit = self._limits.tasks * random.uniform(1, 1 + TASKS_SPREAD)
        process.memory_limit = self._limits.memory
        if self._limits.memory < inf and process.memory() > self._limits.memory:
            logger.error("%s is above --max-memory when it starts, with %s: no limit", process, _megabytes(process))
            process.memory_limit = inf
        for place in self._places:
            if process is place.successor and not self._is_stopping:
                place.former, place.process, place.successor = place.process, process, None
                if place.former is not None:
                    place.former.stop(now)

    # Starting, and starting again ---------------------------------------------------------------------------------

    def _fill(self, place: Place, now: float) -> None:
        if place.process is None and now >= place.starts_at and not self._is_stopping:
            place.process = self._start(place, now)
            if place.process is None:
                self._start_again(place, now, soon=False)

    def _start(self, place: Place, now: float) -> Process | None:
        try:
            process = self._spawn(place.number, self._generation, now)
        except OSError as error:  # such as too many open files
            logger.error("process %d cannot be started: %s", place.number, error)
            return None
        self._all[process.pid] = process
        return process

    def _died(self, place: Place, process: Process, code: int, now: float) -> None:
        """Handles an end that was not asked for."""
        if self._is_reloading and code in BROKEN and not process.is_ready:
            if place.process is None:
                logger.error("%s %s: waiting for the next change of the code", process, _as_text(code))
                place.starts_at = inf
        elif not self._has_been_ready and code > 0:  # such as an application that cannot be imported
            logger.error("%s %s before any process was ready: all stop", process, _as_text(code))
            self.code = code
            self.stop(now)
        else:
            logger.log(WARNING if code else INFO, "%s %s; another one takes its place", process, _as_text(code))
            if now - process.started_at >= STEADY:
                place.retry.succeeded()
            # One whose database did not come back in time is no sign that processes cannot work.
            self._start_again(place, now, soon=code != UNAVAILABLE and now - process.ready_at <= SOON)

    def _start_again(self, place: Place, now: float, *, soon: bool) -> None:
        """Counts a death, and decides when the place is filled again."""
        place.starts_at = now + place.retry.sleep()
        if self._deaths.are_too_many(now, len(self._places), soon=soon):
            if self._is_reloading:
                logger.error("processes died %s: waiting for the next change", self._deaths)
                place.starts_at = inf
                return
            logger.error("processes died %s: giving up, all stop", self._deaths)
            self.code = EXIT_GAVE_UP
            self.stop(now)

    def _stopped(self, process: Process, code: int) -> None:
        """Handles the end of a process that was told to stop."""
        is_clean = code == 0 or not process.is_ready  # a signal may end a process that has not begun to work
        logger.log(INFO if is_clean else WARNING, "%s %s", process, _as_text(code))
        if self._is_stopping and not is_clean and not self.code:
            self.code = EXIT_RUNS_LEFT

    # Replacing ----------------------------------------------------------------------------------------------------

    def _replace_one(self, now: float) -> None:
        # Who works on the code does not wait for the runs of the former code.
        if any(place.successor or (place.former and not self._is_reloading) for place in self._places):
            return
        for place in self._places:
            if place.process is None or place.process.is_killed or now < place.replaced_from:
                continue
            reason = self._reason(place.process)
            if reason is not None:
                logger.info("%s is replaced: %s", place.process, reason)
                place.successor = self._start(place, now)
                if place.successor is None:
                    place.replaced_from = now + REPLACED_AGAIN_AFTER
                return

    def _reason(self, process: Process) -> str | None:
        """Returns why a process is to be replaced, if it is."""
        if process.generation < self._generation:
            return self._why
        if process.report is not None and process.report.ended_runs >= process.tasks_limit:
            return f"it has run {counted(process.report.ended_runs, 'task')}"
        if process.memory_limit < inf and process.memory() > process.memory_limit:
            return f"it takes {_megabytes(process)}"
        return None

    def _not_replaced(self, place: Place, process: Process, code: int, now: float) -> None:
        """Handles the end of a process that was to replace another one, and was not ready yet."""
        logger.error("%s %s before it was ready; the process that it was to replace goes on", process, _as_text(code))
        place.replaced_from = now + REPLACED_AGAIN_AFTER
        old = [each.process for each in self._places if each.process and each.process.generation < self._generation]
        if old:
            logger.error("the reload is given up: processes with the former code go on: %d", len(old))
        for each in old:
            each.generation = self._generation


def _port(process: Process | None) -> int:
    return 0 if process is None or process.report is None else process.report.port


def _as_text(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:  # a real-time signal
        return f"was killed by signal {-code}"


def _megabytes(process: Process) -> str:
    return f"{process.memory() / 2**20:,.0f} MiB"
