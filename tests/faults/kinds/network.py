"""What a network does to connections: F18, F19, F21."""

import time
from functools import partial
from typing import Final

from tests.faults.aftermath import assert_as_before, assert_each_ran_once, assert_nobody_died, warmed_up
from tests.faults.kinds.servers import KEPT, WOKEN, assert_woken
from tests.faults.producers import producing
from tests.faults.registry import BOUND, SHORT, fault
from tests.faults.trial import Trial
from tests.proxy import Mode, Proxy

LISTENS: Final = rb"(?<!UN)LISTEN "

PINGED: Final = 20.0
"""Seconds after which a silent LISTEN connection was replaced: a ping each ten, five for its answer, a connect."""

LONGEST_SLEEP: Final = 8.8 + WOKEN
"""Seconds after which a pool that sleeps for as long as it may has looked, and a run has begun."""


@fault("F18", "the LISTEN connections are half-open: tasks are found by polling", also=("I8", "I9", "I10"))
def half_open_listeners(trial: Trial) -> None:
    """Until a ping notices, tasks wait for the poll; then inserts wake again."""
    with Proxy(trial.url) as proxy:
        workers = trial.start(url=proxy.url, poll=8)
        before = warmed_up(trial, workers)
        assert_woken(trial)
        accepted = proxy.accepted
        assert proxy.set_where(Mode.BLACKHOLE, LISTENS) == len(workers)
        now = time.monotonic()
        trial.expect(trial.insert(len(workers)), now, LONGEST_SLEEP)
        for worker in workers:
            trial.until(lambda worker=worker: "pools are not woken" in worker.said(), within=PINGED)
        trial.until(lambda: proxy.accepted >= accepted + len(workers), within=PINGED)
        trial.settle()
        time.sleep(1)  # a connect and a LISTEN
        for _ in range(3):
            assert_woken(trial)
        assert_each_ran_once(trial)
        assert_as_before(trial, before, visible="pools are not woken until LISTEN works again")
        trial.fleet.close()


@fault(
    "F19",
    "a worker is partitioned beyond its lease, other workers take over, the network heals: what it sent arrives late",
    quick=True,
    also=("I8", "I9", "I10"),
    given=SHORT,
)
def partition_and_heal(trial: Trial) -> None:
    partition(trial, Mode.HOLD)


@fault(
    "F19 forgotten",
    "the same, and what stands between has forgotten its connections",
    also=("I8", "I9", "I10"),
    given=SHORT,
)
def partition_and_reset(trial: Trial) -> None:
    partition(trial, Mode.BLACKHOLE)


def partition(trial: Trial, mode: Mode) -> None:
    """Runs end within the partition, and after it, while the successors' runs go on: what is written of them must find
    nothing."""
    with Proxy(trial.url) as proxy:
        workers = trial.start(url=proxy.url)
        before = warmed_up(trial, workers)
        early = trial.insert(len(workers), gate=trial.gate("early"))
        late = trial.insert(len(workers), gate=trial.gate("late"))
        trial.until(lambda: all(trial.starts(each) for each in [*early, *late]))
        for worker in workers:
            trial.strike(worker, partial(proxy.set, mode), BOUND)
        trial.open_gate("early.1")
        successors = trial.start()
        trial.until(lambda: all(trial.starts(each, attempt=2) for each in [*early, *late]), within=BOUND)
        assert trial.ended(early) == len(early)
        if mode is Mode.BLACKHOLE:
            proxy.set(Mode.RESET)
        proxy.set(Mode.PASS)
        healed = time.monotonic()
        for worker in workers:
            trial.until(lambda worker=worker: "it goes on as" in worker.said(), within=BOUND)
        trial.open_gate("late.1")
        for worker in workers:
            # What was sent and never answered counts as done where its row is gone, or another's.
            told = 2 if mode is Mode.HOLD else 1
            trial.until(lambda worker=worker, told=told: worker.said().count("was lost") >= told, within=BOUND)
        trial.expect(trial.insert(4), healed, BOUND)
        assert trial.count("state = 'in_progress'") >= len(early) + len(late), "what was lost was completed"
        trial.open_gate("early")
        trial.open_gate("late")
        trial.settle()
        for worker in successors:
            worker.kill()
        trial.until(lambda: trial.rows("SELECT count(*) FROM fang.fang_pools") == [(len(workers),)])
        assert_as_before(trial, before, visible="it goes on as")
        trial.fleet.close()


@fault(
    "F21",
    "a slow network: 100 ms each way, then 250 ms, then 30 kB/s for all: nothing is lost, no pool taken for dead",
    also=("I8", "I9"),
    given=KEPT,
)
def slow(trial: Trial) -> None:
    with Proxy(trial.url) as proxy:
        before = warmed_up(trial, trial.start(2, url=proxy.url))
        with producing(trial, proxy.url) as producers:
            for seconds, speed in ((0.1, float("inf")), (0.25, float("inf")), (0.02, 30_000.0)):
                proxy.slow_down(seconds=seconds, bytes_per_second=speed)
                many = trial.insert(100, name="x" * 500)
                inserted = producers.inserted
                trial.until(lambda many=many: trial.ended(many) == len(many), within=90)
                trial.until(lambda inserted=inserted: producers.inserted > inserted + 2)
        proxy.slow_down()
        assert not producers.told, producers.told
        trial.settle()
        assert_nobody_died(trial)
        assert_each_ran_once(trial)
        assert_as_before(trial, before, visible=None)
        trial.fleet.close()
