"""What a pool is told while its connections are lost, or it dies: F53, of messages."""

import signal
from collections import Counter
from typing import Final

from fang_core import PoolMessage, Resize, SetLogLevel, Stop
from fang_threaded import Queue
from tests.faults.aftermath import assert_all_slots, assert_nobody_died
from tests.faults.fleet import Worker
from tests.faults.kinds.network import LISTENS
from tests.faults.kinds.replies import BEAT
from tests.faults.pgproxy import ReplyDropper
from tests.faults.registry import BOUND, SHORT, fault
from tests.faults.trial import Trial
from tests.pgbouncer import pgbouncer
from tests.proxy import Mode, Proxy

BY_BEAT: Final = 3
"""Seconds within which it heeds that if only LISTEN is lost: 1.2, and as much again and more for a busy machine."""

HEEDED: Final = 6
"""Seconds within which a pool heeds what it is told, on two busy cores: a beat, a second if the connection or the reply
of that is lost, and a connect."""


class Sender:
    """Tells workers things, and counts in their logs how often each was heeded."""

    def __init__(self, trial: Trial) -> None:
        self._trial = trial
        self._sizes = iter(range(5, 100))
        self._told: dict[Worker, list[str]] = {}

    def tell(self, worker: Worker, message: PoolMessage) -> None:
        pool = "SELECT id FROM fang.fang_pools WHERE pid = %s AND mode = %s"
        ((pool_id,),) = self._trial.rows(pool, worker.pid, worker.mode)
        with Queue(self._trial.url) as queue:
            queue.control(pool_id, message)
        self._told.setdefault(worker, []).append(str(message))

    def resize(self, worker: Worker) -> None:
        """Tells it a number of workers that no other message has told."""
        self.tell(worker, Resize(workers=next(self._sizes)))

    def await_heeded(self, within: float = HEEDED) -> None:
        self._trial.until(lambda: all(len(_heeded(worker)) >= len(self._told[worker]) for worker in self._told), within)

    def assert_each_once(self) -> None:
        """Each message was heeded once, and those that change the same thing in the order in which they were sent."""
        self.await_heeded()
        self._trial.until(lambda: self._trial.rows("SELECT 1 FROM fang.fang_messages") == [], HEEDED)
        for worker, told in self._told.items():
            heeded = _heeded(worker)
            assert Counter(heeded) == Counter(told), f"told {told}, heeded {heeded}"
            assert [each for each in heeded if "Resize" in each] == [each for each in told if "Resize" in each]


def _heeded(worker: Worker) -> list[str]:
    return [line.rpartition(": ")[2] for line in worker.said().splitlines() if " told by " in line]


@fault(
    "F53 messages",
    "messages to pools whose hearts' sessions are killed, whose replies to beats are lost, and whose LISTEN is lost:"
    f" each takes effect once, within {HEEDED} s",
    also=("I8",),
)
def tell_through_faults(trial: Trial) -> None:
    with ReplyDropper(trial.url) as dropper, Proxy(dropper.url) as proxy:
        workers = trial.start(url=proxy.url)
        sender = Sender(trial)
        trial.insert(8, seconds=0.1)
        for listens in (True, False):
            if not listens:
                assert proxy.set_where(Mode.BLACKHOLE, LISTENS) == len(workers)
                for worker in workers:
                    sender.resize(worker)
                sender.await_heeded(BY_BEAT)
            dropper.drop(BEAT, times=3)
            for worker in workers:
                sender.resize(worker)
                sender.tell(worker, SetLogLevel("DEBUG"))
            sender.await_heeded()
            dropper.keep()
            for _ in range(2):
                for worker in workers:
                    sender.resize(worker)
                _kill_hearts(trial)
                for worker in workers:
                    sender.tell(worker, SetLogLevel("INFO"))
                sender.await_heeded()
        _tell_nonsense(trial)
        for worker in workers:
            sender.tell(worker, Resize(workers=4))
        sender.assert_each_once()
        assert dropper.dropped, "no reply was lost"
        assert_nobody_died(trial)
        assert_all_slots(trial, workers)
        for worker in workers:
            sender.tell(worker, Stop())
        _kill_hearts(trial)
        for worker in workers:
            assert worker.ends(HEEDED) == 0
        sender.assert_each_once()


@fault(
    "F53 messages behind a pooler",
    f"messages to pools behind PgBouncer, which is restarted: each takes effect once, within {HEEDED} s",
    also=("I8",),
    given={"behind_pooler": True, "poll": 0.2},
)
def tell_behind_pooler(trial: Trial) -> None:
    with pgbouncer(trial.url) as bouncer:
        workers = trial.start(url=bouncer.url)
        sender = Sender(trial)
        trial.insert(8, seconds=0.1)
        for _ in range(3):
            for worker in workers:
                sender.resize(worker)
            bouncer.stop(signal.SIGKILL)
            bouncer.start()
            for worker in workers:
                sender.tell(worker, SetLogLevel("DEBUG"))
            sender.await_heeded()
        _tell_nonsense(trial)
        for worker in workers:
            sender.tell(worker, Resize(workers=4))
        sender.assert_each_once()
        assert_all_slots(trial, workers)
        for worker in workers:
            sender.tell(worker, Stop())
            assert worker.ends(HEEDED) == 0
        sender.assert_each_once()


@fault(
    "F53 messages too late",
    "a pool is killed before it has heeded a message: the message ends with its record, and its successor goes on",
    given=SHORT,
)
def tell_the_dead(trial: Trial) -> None:
    workers = trial.start()
    sender = Sender(trial)
    trial.insert(4 * len(workers), seconds=1)
    trial.until(lambda: trial.starts() == 4 * len(workers))
    for worker in workers:
        worker.send(signal.SIGSTOP)
        sender.tell(worker, Stop())
    for worker in workers:
        trial.strike(worker, worker.kill, BOUND)
    successors = trial.start()
    trial.until(lambda: trial.rows("SELECT 1 FROM fang.fang_messages") == [], BOUND)
    trial.settle()
    assert not any(_heeded(worker) for worker in (*workers, *successors))
    assert_all_slots(trial, successors)


def _kill_hearts(trial: Trial) -> None:
    """Kills the sessions that hold the locks of pools."""
    killed = trial.rows(
        "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    assert killed


def _tell_nonsense(trial: Trial) -> None:
    """Tells all pools what a later version may say, and what none can."""
    for kind, body in (("dance", '{"to": "music"}'), ("resize", '{"workers": "many"}'), ("resize", "[]")):
        trial.database.execute(
            "INSERT INTO fang.fang_messages (pool_id, kind, body, sender)"
            " SELECT id, %s, %s, 'later:1' FROM fang.fang_pools",
            (kind, body),
        )
