"""One trial of one fault: a database with the audit, a fleet, a producer, and the verdict at the end."""

import asyncio
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple
from uuid import UUID

import psycopg

from fang_async import AsyncQueue
from fang_core.tasks.registry import Mode
from fang_threaded import Queue
from tests.faults import audit
from tests.faults.audit import Change, PoolChange
from tests.faults.checker import Flow, Record, Strike, Violation, check, recovery, wait
from tests.faults.fleet import Fleet, Worker
from tests.faults.ledger import Acknowledgements, read_acknowledgements, read_ledger
from tests.faults.nursery import Nursery
from tests.faults.ownserver import OwnServer
from tests.faults.tasks import Blocking, Cooperative

Mix = Literal["threaded", "async", "mixed"]
"""``mixed``: workers of both modes, and each mode's producer inserts for the other."""

MODES: Final[dict[Mix, tuple[Mode, ...]]] = {
    "threaded": ("threaded",),
    "async": ("async",),
    "mixed": ("threaded", "async"),
}


COMMON: Final[Mapping[Mode, Any]] = {"threaded": Blocking, "async": Cooperative}


class Verdict(NamedTuple):
    """How a trial ended: what was violated, how many runs there were, the seconds of each recovery, and the most that
    was allowed; and the seconds of each wait that was measured."""

    violations: list[Violation]
    runs: int
    recoveries: list[float]
    bound: float | None
    waits: list[float]


class Trial:
    """What a fault has in its hands.

    Args:
        slack: seconds by which everything may take longer than it is allowed. With any, no share of the slots is asked
            for: that is a matter of time, too.
        given: orders for every worker, see ``worker.Given``.
    """

    def __init__(
        self, url: str, mix: Mix, directory: Path, nursery: Nursery, seed: int, slack: float = 0.0, **given: Any
    ) -> None:
        self.url = url
        self.mix = mix
        self.directory = directory
        self.chance = random.Random(seed)
        self.lasting = ExitStack()
        """What must outlive the fault, and ends with the trial."""
        self.fleet = Fleet(nursery, directory, {"url": url, **given}, slack)
        self._slack = slack
        self.database: Any = self.connect()
        """For looking, and for what a person does by hand."""
        self.server: OwnServer | None = None
        """Where it has one of its own."""
        self._acknowledgements = Acknowledgements(directory / "acknowledgements")
        self._strikes: list[Strike] = []
        self._flows: list[Flow] = []
        self._waits: list[float] = []
        self._replaced: list[Worker] = []

    # What is of one backend; here it is Postgres --------------------------------------------------------------------

    def connect(self) -> Any:
        """A connection to the database, which records what changes from now on."""
        audit.install(self.url)
        return psycopg.connect(self.url, autocommit=True, application_name=audit.BY_HAND)

    def make_queue(self) -> Any:
        return Queue(self.url)

    def make_async_queue(self) -> Any:
        return AsyncQueue(self.url)

    def changes(self) -> tuple[list[Change], list[PoolChange]]:
        """What was recorded of the rows."""
        return audit.read(self.url)

    # Workers ----------------------------------------------------------------------------------------------------------

    def start(self, count: int = 1, **given: Any) -> list[Worker]:
        """So many more workers of each mode of the mix; ready."""
        started = [self.fleet.start(mode, **given) for _ in range(count) for mode in MODES[self.mix]]
        return [worker.await_ready() for worker in started]

    def replace_dead(self, bound: float | None = None) -> None:
        """Starts another one like it for each worker that has died since, not ready yet; ``bound`` as in ``strike``."""
        for worker in tuple(self.fleet.workers):
            if worker.exit_code is not None and worker not in self._replaced:
                self._replaced.append(worker)
                if bound is not None:
                    self.strike(worker, lambda: None, bound)
                self.fleet.start(worker.mode, **worker.given)

    def strike(self, worker: Worker, action: Callable[[], Any], bound: float) -> None:
        """Does something to a worker after which all that it holds must run again, or end, within so many seconds."""
        at = time.monotonic()
        action()
        held = self.held(worker)
        if held:
            self._strikes.append(Strike(at, bound + self._slack, held))

    def expect(self, tasks: list[UUID], since: float, bound: float) -> None:
        """These must have run for the first time within so many seconds of a moment."""
        self._strikes.append(Strike(since, bound + self._slack, [(task, 0) for task in tasks]))

    def expect_flow(self, since: float, until: float, share: float, slots: list[tuple[float, int]]) -> None:
        """In this time runs must have taken that share of the slots; see ``checker.Flow``."""
        if not self._slack:
            self._flows.append(Flow(since, until, share, slots))

    def measure_waits(self, tasks: list[UUID]) -> list[float]:
        """Seconds from the insert of each, due at once, until its life had ended; kept for the report."""
        record = self.record()
        self._waits = [wait(record, task) for task in tasks]
        return self._waits

    def held(self, worker: Worker) -> list[tuple[UUID, int]]:
        """(task, attempt) that the pools of a process hold, as the table says."""
        return self.rows(
            "SELECT t.id, t.attempt FROM fang.fang_tasks t JOIN fang.fang_pools p ON p.id = t.pool_id"
            " WHERE t.state = 'in_progress' AND p.pid = %s AND p.mode = %s",
            worker.given.get("pid", worker.pid),
            worker.mode,
        )

    def assert_slots(self, worker: Worker, slots: int = 4) -> None:
        """I8: the process is the same, and all its slots work at once. No other worker of its mode may be alive."""
        assert worker.exit_code is None, worker.said()
        name = f"slots-{len(self._strikes)}-{self.starts()}"
        kind: Any = Blocking if worker.mode == "threaded" else Cooperative
        with self.make_queue() as queue:
            together = queue.insert_tasks([kind(gate=self.gate(name)) for _ in range(slots)])
        for task in together:
            self.acknowledge(task.id)
        ids = [task.id for task in together]
        self.until(lambda: all(self.starts(each) for each in ids))
        self.open_gate(name)
        self.settle()

    # Tasks ------------------------------------------------------------------------------------------------------------

    def insert(
        self,
        count: int = 1,
        *,
        max_retries: int | None = None,
        uniq: bool = False,
        timeout: float | None = None,
        of: Mapping[Mode, Any] = COMMON,
        **fields: Any,
    ) -> list[UUID]:
        """So many tasks of these classes, by turns for each mode of the mix."""
        classes = [of[mode] for mode in MODES[self.mix]]
        made = [make(**fields) for make in islice(cycle(classes), count)]
        options: dict[str, Any] = {"max_retries": max_retries, "uniq": uniq}
        if timeout is not None:
            options["timeout"] = timedelta(seconds=timeout)
        return self.insert_made(made, **options)

    def insert_made(self, made: list[Any], **options: Any) -> list[UUID]:
        """These tasks; in a mix each mode's queue inserts those of the other one."""
        by_threads = [task for task in made if isinstance(task, Blocking) is (self.mix != "mixed")]
        by_asyncio = [task for task in made if isinstance(task, Blocking) is (self.mix == "mixed")]
        inserted: list[UUID] = []
        if by_threads:
            with self.make_queue() as queue:
                inserted += self._acknowledged(queue.insert_tasks(by_threads, **options))
        if by_asyncio:
            inserted += self._acknowledged(asyncio.run(self._insert_async(by_asyncio, options)))
        return inserted

    def acknowledge(self, task: UUID, *, known: bool = True) -> None:
        """An insert that a fault made itself."""
        self._acknowledgements.write(task, known=known)

    def _acknowledged(self, tasks: list[Any]) -> list[UUID]:
        for task in tasks:
            self.acknowledge(task.id)
        return [task.id for task in tasks]

    async def _insert_async(self, made: list[Any], options: dict[str, Any]) -> list[Any]:
        async with self.make_async_queue() as queue:
            inserted: list[Any] = await queue.insert_tasks(made, **options)
            return inserted

    # Looking, and waiting ---------------------------------------------------------------------------------------------

    def reconnect(self, url: str | None = None) -> None:
        """After the server was away; to another one, where that took over."""
        self.url = url or self.url
        self.database.close()
        self.until(self._connects)

    def is_cut_off(self) -> bool:
        """Whether the server has ended the session of the trial."""
        try:
            self.database.execute("SELECT 1")
        except psycopg.OperationalError:
            return True
        return False

    def _connects(self) -> bool:
        try:
            self.database = psycopg.connect(self.url, autocommit=True, application_name=audit.BY_HAND)
        except psycopg.OperationalError:
            return False
        return True

    def rows(self, query: str, *parameters: Any) -> list[Any]:
        return self.database.execute(query.encode(), parameters or None).fetchall()

    def count(self, condition: str, *parameters: Any) -> int:
        """Rows of tasks."""
        number: int = self.rows(f"SELECT count(*) FROM fang.fang_tasks WHERE {condition}", *parameters)[0][0]
        return number

    def starts(self, task: UUID | None = None, attempt: int = 1) -> int:
        """Runs that have started: all, or those of a task, from this attempt on."""
        starts = [each for each in read_ledger(self.directory / "ledger") if each.event == "start"]
        return sum(task in {None, each.task} and each.attempt >= attempt for each in starts)

    def ended(self, tasks: list[UUID]) -> int:
        """How many of these have had a run that went well."""
        return len({each.task for each in read_ledger(self.directory / "ledger") if each.event == "ok"} & {*tasks})

    def attempts(self) -> int:
        """The most that any task has had."""
        return max((each.attempt for each in read_ledger(self.directory / "ledger")), default=0)

    def until(self, holds: Callable[[], Any], within: float = 20) -> None:
        """Asks every 20 ms: what is waited for happens in other processes, and tells nobody."""
        deadline = time.monotonic() + within + self._slack
        while not holds():
            if time.monotonic() > deadline:
                said = "\n".join(worker.said()[-800:] for worker in self.fleet.workers[-4:])
                raise AssertionError(f"it did not come true within {within} s; workers said:\n{said}")
            time.sleep(0.02)

    def settle(self, within: float = 30) -> None:
        """Until every task's life has ended."""
        self.until(lambda: not self.count("state IN ('new', 'retried', 'in_progress')"), within)

    def gate(self, name: str = "gate") -> str:
        """A file that tasks can be told to wait for."""
        return str(self.directory / name)

    def open_gate(self, name: str = "gate") -> None:
        (self.directory / name).touch()

    def server_up(self) -> float:
        """Seconds since the server started."""
        age = "SELECT extract(epoch FROM clock_timestamp() - pg_postmaster_start_time())::float8"
        seconds: float = self.rows(age)[0][0]
        return seconds

    # The verdict ------------------------------------------------------------------------------------------------------

    def record(self) -> Record:
        changes, pools = self.changes()
        return Record(
            read_ledger(self.directory / "ledger"),
            changes,
            pools,
            read_acknowledgements(self.directory / "acknowledgements"),
            self._strikes,
            flows=self._flows,
        )

    def recoveries(self) -> list[float]:
        """Seconds from each strike until the last task that it hit ran again, or had ended."""
        record = self.record()
        return [recovery(record, strike) for strike in self._strikes]

    def verdict(self) -> "Verdict":
        """What the checker says of all that was recorded."""
        record = self.record()
        assert record.entries, "nothing ran: this trial shows nothing"
        return Verdict(
            check(record),
            sum(map(len, record.runs.values())),
            self.recoveries(),
            max((strike.bound for strike in self._strikes), default=None),
            self._waits,
        )

    def move(self, url: str) -> None:
        """To another database, before anything was started or inserted."""
        self.url = url
        self.fleet.given["url"] = url
        self.database.close()
        self.database = self.connect()

    def look_again(self) -> None:
        """On a new connection."""
        self.database.close()
        self.database = psycopg.connect(self.url, autocommit=True, application_name=audit.BY_HAND)

    def close(self) -> None:
        self.fleet.close()
        self.database.close()
        self._acknowledgements.close()
        self.lasting.close()


@contextmanager
def trial(
    url: str,
    mix: Mix,
    directory: Path,
    nursery: Nursery,
    seed: int,
    slack: float = 0.0,
    of: type[Trial] = Trial,
    **given: Any,
) -> Iterator[Trial]:
    """A trial whose processes and connections end with it; ``of`` is its backend's kind."""
    made = of(url, mix, directory, nursery, seed, slack, **given)
    try:
        yield made
    finally:
        made.close()
