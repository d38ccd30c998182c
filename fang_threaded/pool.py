"""Defines the pool of worker threads, with a thread that claims for them and one that writes their outcomes."""

import threading
from contextvars import Context
from typing import ClassVar, Self

from fang_core.backends.store import Backend, Store
from fang_core.driving import drive
from fang_core.pool.base import PoolBase
from fang_core.pool.threads import ThreadLock, ThreadRuntime
from fang_core.pool.workers import MakeWorkers
from fang_core.runs.isolation import Isolation
from fang_core.tasks.arguments import check_queue
from fang_core.words.naming import names_arguments
from fang_threaded.signals import Signals
from fang_threaded.workers import ThreadWorkers


@names_arguments
class WorkerPool(PoolBase[Backend]):
    """Runs tasks of some task types in threads.

    Args:
        queue: a ``Queue``, or a ``MemoryQueue``; if it is closed, the pool opens it, and closes it again.
        number_of_workers: how many threads, and so how many tasks at once.
        task_type: one or several; several take turns at being first in a claim.
        retention_mode: whether rows of ended tasks stay.
        sleep_params: how an idle pool polls; more than 8 s only with ``listen=False``.
        grace_period: how long ``stop()`` waits for runs.
        keep_finished, keep_failed: the age from which kept rows of these task types are pruned; None keeps them.
        listen: whether inserts wake the pool by NOTIFY; never if the queue is behind a pooler.
        lease: how long a pool may show no sign of life before other pools take it for dead and run its tasks; longer
            than the longest call of C code that holds the GIL.
        max_crashes: how often the process may die under a task before that is failed as crashed; 1 and 2 fail innocent
            tasks with it.
        stuck_after: how long after its interruption a run that has not ended counts as stuck: its outcome is written,
            and another worker takes its place.
        max_stuck: with more stuck runs than this, ``run()`` ends the process with exit code 71; None allows as many as
            there are workers.
        warn_after: how long a run may take before a warning says where it stands; None turns warnings off.
        log_tracebacks: whether the line of a failed run has its traceback, whose text may quote payloads.
        middleware: functions from a run to a context manager that goes around it, the first one outermost.
        lifespan: makes the context manager of resources that runs share, without arguments or from the pool; entered
            before the first run, left after the last. Runs get its value as ``current_run().state``.
        max_tasks_per_child: after how many runs the child process of isolated runs is replaced; None for never.
        isolate_suspects: whether tasks under which pools have died twice run in child processes, if they can.
        retries_first: whether due tasks that have failed, or crashed, run before others of the same type and priority;
            without effect on task types with limits, rates or fairness.
        stats: whether the pool counts its runs for the history, which ``queue.stats()`` reads, and prunes that.
        keep_stats: how long the hours of the history are kept, 90 days by default; None keeps them. The shortest of all
            pools counts.
        events: hooks that are called when something happens.
    """

    _make_workers: ClassVar[MakeWorkers] = ThreadWorkers

    def start(self) -> None:
        """Registers the pool and starts its threads; returns when they run.

        Raises ``SchemaError``, ``AccessRefused`` or ``BackendUnavailable`` in one line that says what to do.
        """
        drive(self._start())

    def stop(self) -> int:
        """Stops gracefully; returns how many runs have not ended in time. They go on and stay held until they end.

        Claims no more, gives back what was not started, waits for runs up to the grace period, writes what has ended.
        A run of the pool that calls it counts as one that has not ended. If a hook of ``Events`` calls it, it returns 0
        at once, and the pool stops on another thread.
        """
        if self._events.is_caller:
            # A hook calls this on a thread that it would wait for. Threads of free-threaded Python inherit the context,
            # which says that a hook calls.
            threading.Thread(target=Context().run, args=(self.stop,), name="fang-stop", daemon=True).start()
            return 0
        return drive(self._stop())

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def run(self) -> int:
        """Starts, and stops gracefully at SIGTERM or SIGINT, or when ``stop()`` is called; returns the exit code.

        It is for a process whose only work is the pool. Inside an application, such as a web server, use ``with
        pool:``, or ``start()`` and ``stop()``, which leave signals alone.

        A second signal, a second or more after the first, ends the process at once. Signals are handled only if this is
        called in the main thread, and given back. If the application has its own handler, that is called too, and
        decides whether the process ends.

        Returns:
            0 if every run has ended by the end of the grace period, and all is written; else 75. After a signal that
            the application does not handle it does not return 75: it ends the process with that code, by
            ``SystemExit`` if no run goes on, else at once. In all other cases the process goes on, except one: with
            more stuck runs than ``max_stuck`` allows the pool stops, and the process ends with code 71.
        """
        return drive(self._run())

    def runs_go_on(self) -> bool:
        """Returns whether runs of the last life go on, past the end of its grace period.

        If a run of the pool has stopped it, this waits for that run until the end of the grace period.
        """
        return drive(self._runs_go_on())

    def drain(self) -> int:
        """Runs until no due task of its types and kinds is left and its own runs have ended; returns how many ran.

        Starts the pool if it was not running, and stops it again.

        Raises ``UsageError`` in a run of the pool, its middleware or its lifespan, for which it would wait.
        """
        return drive(self._drain())

    # What ``PoolBase`` asks of a mode ---------------------------------------------------------------------------------

    def _set_up(self, queue: Backend) -> None:
        check_queue(queue, "threaded")

    def _make_lock(self) -> ThreadLock:
        return ThreadLock()

    def _make_runtime(self) -> ThreadRuntime:
        return ThreadRuntime()

    def _make_isolation(self) -> Isolation:
        import fang_isolation

        return fang_isolation.Isolation("threaded", self.queue, self.options)

    def _make_signals(self) -> Signals:
        return Signals(self.begin_last_call)

    async def _call_start(self) -> None:
        self.start()

    async def _call_stop(self) -> int:
        return self.stop()

    async def _open_store(self) -> Store:
        return self.queue.store()
