"""Reads what decides why a task is not running, all of it at one moment."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

from fang_core.backends.live_runs import told_of_run
from fang_core.backends.managed import NEVER
from fang_core.lifecycle import DUE_STATES
from fang_core.liveness import DECLARED_DEAD
from fang_core.monitoring.facts import (
    MOST_AHEAD,
    MOST_HOLDERS,
    Facts,
    PoolFacts,
    RunFacts,
    Signs,
    SlotHolder,
)
from fang_core.record import Task, TaskState
from fang_redis.connections.sending import Sending, read_of
from fang_redis.operations import Verb
from fang_redis.records import (
    Told,
    id_in,
    moment_or_none,
    object_in,
    pairs,
    record_in,
    seen_told,
    time_of,
    workers_in,
)
from fang_redis.tasks.flow import FoundType, managed_in


class Explaining:
    """The verb that explains."""

    def __init__(self, sending: Sending) -> None:
        self._sending = sending

    def explain(self, task_id: UUID, /) -> Verb[Facts]:
        """See ``Verbs.explain``. Which tasks run is looked up among those of a thousand that pools hold."""
        reply = yield from self._sending.script("explain", str(task_id), MOST_AHEAD, MOST_HOLDERS)
        now, read, hashes, stopping, listening, *waiting = reply
        pools = _Pools(now, hashes, stopping, listening)
        task = read_of(read).tasks.get(task_id)
        registered = sum(record["mode"] != "manual" for record in pools.records.values())
        facts = Facts(task_id=task_id, now=pools.now, task=task, registered=registered, needs_lane=False)
        if task is None:
            return facts
        if task.state is TaskState.IN_PROGRESS:
            return pools.held(task, facts)
        return pools.waiting(task, facts, *waiting) if task.state in DUE_STATES else facts


class _Pools:
    """The pools, as they were read together with a task."""

    def __init__(self, now: str, hashes: Sequence[Sequence[str]], stopping: Sequence[str], listening: Any) -> None:
        records, live, self._runs, self._beats, self._workers = map(pairs, hashes)
        self.now = time_of(now)
        read = {pool: record_in(text) for pool, text in records.items()}
        self.records = {pool: record for pool, record in read.items() if record is not None}
        told = {pool: seen_told(text) for pool, text in live.items()}
        self._live = {pool: each for pool, each in told.items() if each is not None}
        self._stopping = frozenset(stopping)
        self._listening = pairs(listening)

    def held(self, task: Task, facts: Facts) -> Facts:
        """Returns the facts on a task in progress."""
        pool = str(task.pool_id)
        if pool not in self.records:
            return facts
        return replace(facts, holder=self._facts(pool, task), run=self._run(pool, task))

    def waiting(self, task: Task, facts: Facts, of_type: Sequence[Any], running: Sequence[Any], ahead: int) -> Facts:
        """Returns the facts on a task that waits."""
        row, runs, key_runs, tat, key_tat, waits = of_type
        managed = managed_in(task.task_type, row)
        found = FoundType(task.task_type, row, managed, runs, waits)
        info = found.info(self.now)
        rate, key_rate = managed.settings.rate, managed.settings.key_rate
        serving = [pool for pool, record in self.records.items() if task.task_type in record["task_types"]]
        return replace(
            facts,
            pools=tuple(self._facts(pool, task) for pool in serving),
            type=info if info.is_managed else None,
            running=found.running,
            holders=self._holders(running),
            key_running=key_runs,
            key_holders=self._holders(each for each in running if each[4]),
            start_at=None if rate is None else rate.next_start(_time(tat), self.now),
            key_start_at=None if key_rate is None else key_rate.next_start(_time(key_tat), self.now),
            ahead=ahead,
        )

    def _facts(self, pool: str, task: Task) -> PoolFacts:
        record, told = self.records[pool], self._live.get(pool)
        return PoolFacts(
            UUID(pool),
            record["mode"],
            record["host"],
            record["pid"],
            workers_in(self._workers.get(pool), record["workers"]),
            pool in self._stopping,
            self._signs(pool, told),
            busy=None if told is None else told.live.busy,
            waiting=None if told is None else told.live.waiting,
            knows=task.kind in record["kinds"],
            isolates=task.kind in record["isolated_kinds"],
        )

    def _signs(self, pool: str, told: Told | None) -> Signs:
        """Returns the signs of life of a pool; of one that takes no lock it is not known who listens in its name."""
        listens = int(self._listening[pool]) > 0 if pool in self._listening else None
        ago = None if told is None else self.now - told.at
        return Signs(listens, None, ago, self._beats.get(pool) == str(DECLARED_DEAD))

    def _run(self, pool: str, task: Task) -> RunFacts:
        told, notable = self._live.get(pool), object_in(self._runs.get(pool)).get(str(task.id))
        runs, busy, at = ((), None, None) if told is None else (told.live.runs, told.live.busy, told.at)
        return told_of_run(task, self.now, notable, runs, busy=busy, told_at=at)

    def _holders(self, running: Iterable[Sequence[Any]]) -> tuple[SlotHolder, ...]:
        def place(pool: str) -> str | None:
            record = self.records.get(pool)
            return None if record is None else f"{record['host']}:{record['pid']}"

        return tuple(
            SlotHolder(UUID(task_id), kind, id_in(pool), place(pool), moment_or_none(since))
            for task_id, kind, pool, since, _ in list(running)[:MOST_HOLDERS]
        )


def _time(text: str) -> datetime:
    return time_of(text) if text else NEVER
