"""F20: the reply to COMMIT is lost. What was done stands, and who asked for it does not know."""

import asyncio
from typing import Any, Final
from uuid import UUID, uuid4

import pytest

from fang_async import AsyncQueue
from fang_core.errors import OutcomeUnknown
from fang_core.tasks.registry import Mode
from fang_threaded import Queue
from tests.faults.pgproxy import ReplyDropper
from tests.faults.registry import SHORT, fault
from tests.faults.tasks import Blocking, Cooperative
from tests.faults.trial import MODES, Trial

INSERT: Final = rb"INSERT INTO fang\.fang_tasks"
CLAIM: Final = rb"^WITH due AS MATERIALIZED"
COMPLETION: Final = rb"^DELETE FROM fang\.fang_tasks AS t WHERE"
BEAT: Final = rb" beats=\("
TICK: Final = rb"^WITH moment AS"

MANY: Final = 1_000_000


@fault("F20 on insert", "the reply to COMMIT is lost: on insert", quick=True)
def on_insert(trial: Trial) -> None:
    """A typed error that names the id; a repeat with the same id, or of the same unique task, makes one row."""
    with ReplyDropper(trial.url) as dropper:
        for mode in MODES[trial.mix]:
            kind: Any = Blocking if mode == "threaded" else Cooperative
            for options in ({"id": uuid4()}, {"uniq": True}):
                task = kind(name=str(options))
                dropper.drop(INSERT, times=1)
                with pytest.raises(OutcomeUnknown) as unknown:
                    _insert(mode, dropper.url, task, options)
                (inserted,) = unknown.value.ids
                assert isinstance(inserted, UUID)
                trial.acknowledge(inserted, known=False)
                repeated = _insert(mode, dropper.url, task, options)
                assert (repeated.id, repeated.conflict) == (inserted, True)
                trial.acknowledge(inserted)
        assert dropper.dropped == trial.count("true") == 2 * len(MODES[trial.mix])
    trial.start()
    trial.settle()


def _insert(mode: Mode, url: str, task: Any, options: dict[str, Any]) -> Any:
    async def insert() -> Any:
        async with AsyncQueue(url) as queue:
            return await queue.insert_task(task, **options)

    if mode == "async":
        return asyncio.run(insert())
    with Queue(url) as queue:
        return queue.insert_task(task, **options)


@fault("F20 on claim", "the same on a claim, with the pool alive throughout: its rows run", quick=True, also=("I8",))
def on_claim(trial: Trial) -> None:
    with ReplyDropper(trial.url) as dropper:
        workers = trial.start(url=dropper.url)
        for _ in range(2):
            dropper.drop(CLAIM, MANY)
            trial.insert(6)
            for worker in workers:
                trial.until(lambda worker=worker: trial.held(worker))
            dropper.keep()
            for worker in workers:
                trial.strike(worker, lambda: None, bound=5)
            trial.settle()
        assert trial.attempts() > 1
        assert trial.rows("SELECT count(*) FROM audit.tasks WHERE new_retries + new_crashes > 0") == [(0,)]
        for worker in workers:
            trial.assert_slots(worker)
        trial.fleet.close()


@fault("F20 on completion", "the same on a completion: a repeat counts a missing row as done", quick=True)
def on_completion(trial: Trial) -> None:
    with ReplyDropper(trial.url) as dropper:
        workers = trial.start(url=dropper.url)
        for number in range(3):
            dropper.drop(COMPLETION, times=2)
            trial.insert(20, seconds=0.01)
            trial.settle()
            trial.until(lambda number=number: dropper.dropped >= 2 * number + 1)
        assert trial.attempts() == 1, "a task ran again"
        assert not any("lost" in worker.said() for worker in workers), "what was written was taken for lost"
        trial.fleet.close()


@fault("F20 on a beat", "the same on a heartbeat: no pool is taken for dead", quick=True, given=SHORT)
def on_beat(trial: Trial) -> None:
    with ReplyDropper(trial.url) as dropper:
        trial.start(2, url=dropper.url)
        trial.insert(4, gate=trial.gate())
        trial.until(lambda: trial.starts() == 4)
        dropper.drop(BEAT, times=12)
        trial.until(lambda: dropper.dropped == 12)
        trial.open_gate()
        trial.settle()
        assert trial.attempts() == 1, "a live run was taken away"
        trial.fleet.close()


@fault("F20 on a tick", "the same on a schedule's tick: one task for each", given={"ticks": True})
def on_tick(trial: Trial) -> None:
    with ReplyDropper(trial.url) as dropper:
        trial.start(2, url=dropper.url)
        ticks = "SELECT count(*), count(DISTINCT (kind, due)) FROM audit.tasks WHERE was IS NULL"
        for number in range(3):
            dropper.drop(TICK, times=1)
            trial.until(lambda number=number: dropper.dropped == number + 1)
            before = trial.rows(ticks)[0][0]
            trial.until(lambda before=before: trial.rows(ticks)[0][0] > before)
        trial.fleet.stop()
        inserted, different = trial.rows(ticks)[0]
        assert inserted == different, "a tick was inserted twice"
