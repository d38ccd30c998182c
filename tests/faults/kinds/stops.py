"""Processes that are stopped: F04 to F07."""

import signal
import time
from contextlib import nullcontext
from functools import partial
from typing import Any, Final

from fang_core.pool.signals import COUNTS_AGAIN_AFTER
from tests.faults.fleet import Worker
from tests.faults.registry import BOUND, SHORT, fault
from tests.faults.trial import Trial
from tests.proxy import Mode, Proxy

GRACE: Final = 1.0
LAST_CALL: Final = 3.0
"""Seconds beyond the grace period within which a process that was told to end has ended, whatever hangs: two that are
promised, and one for a busy machine."""


LOCKS_ON_POOLS: Final = """SELECT 1 FROM pg_locks
    JOIN pg_database ON pg_database.oid = database AND datname = current_database()
    WHERE relation = 'fang.fang_pools'::regclass AND mode = 'RowExclusiveLock' AND granted"""

UNLOCKED_WITHIN: Final = 2.0


@fault(
    "F04",
    "SIGSTOP past the lease, another worker goes on, SIGCONT; also if the row was removed or inserted again",
    quick=True,
    also=("I8", "I10"),
    given=SHORT,
)
def stop_past_the_lease(trial: Trial) -> None:
    stop_and_continue(trial, BOUND, knows_late=True)


def stop_and_continue(trial: Trial, bound: float, *, knows_late: bool) -> None:
    """With one task that is taken over, one that is removed by hand, and a unique one that is removed and inserted
    anew. The former runs end while the new ones go on: what they write must find nothing.

    ``knows_late`` holds up every heart with a lock, so that the pool writes its outcomes before it hears that it was
    declared dead. Else it is chance which comes first.
    """
    stopped = trial.start()
    others = trial.insert(len(stopped), gate=trial.gate(), name="taken over")
    gone = trial.insert(len(stopped), gate=trial.gate(), name="removed")
    anew = trial.insert(len(stopped), gate=trial.gate(), name="unique", uniq=True)
    trial.until(lambda: trial.starts() == 3 * len(stopped))
    for worker in stopped:
        trial.strike(worker, partial(stop_between_statements, trial, worker), bound)
    trial.database.execute("DELETE FROM fang.fang_tasks WHERE id = ANY(%s)", [[*gone, *anew]])
    anew = trial.insert(len(stopped), gate=trial.gate("second"), name="unique", uniq=True)
    successors = trial.start()
    trial.until(lambda: all(trial.starts(each, attempt=2) for each in others), within=bound)
    trial.until(lambda: all(trial.starts(each) for each in anew))

    trial.open_gate("gate.1")
    with trial.database.transaction() if knows_late else nullcontext():
        if knows_late:
            trial.database.execute("LOCK TABLE fang.fang_pools IN SHARE ROW EXCLUSIVE MODE")
        for worker in stopped:
            worker.send(signal.SIGCONT)
            # I10: in its log, for each of the three where the outcome was refused.
            trial.until(lambda worker=worker: worker.said().count("lost") >= (3 if knows_late else 1), within=10)
    trial.open_gate("gate")
    trial.open_gate("second")
    trial.settle()
    for worker in successors:
        worker.kill()
    for worker in stopped:
        trial.assert_slots(worker)


def stop_between_statements(trial: Trial, worker: Worker) -> None:
    """Stops a process while it has no lock on the table of pools, which a trial waits for before the process goes on.

    asyncpg sends a statement that is new to a connection in two messages. A process that stops between them keeps the
    locks of a transaction, and no timeout of the server's ends that.
    """
    while True:
        worker.send(signal.SIGSTOP)
        # Locks of processes that go on come and go; those of one that has stopped stay.
        until = time.monotonic() + UNLOCKED_WITHIN
        while time.monotonic() < until:
            if not trial.rows(LOCKS_ON_POOLS):
                return
            time.sleep(0.02)
        worker.send(signal.SIGCONT)


@fault("F05", "SIGTERM with short tasks: exit 0, nothing runs twice", quick=True)
def terminate_with_short_tasks(trial: Trial) -> None:
    trial.start(2)
    count = 400
    trial.insert(count, seconds=0.02)
    trial.until(lambda: trial.starts() > count // 8)
    codes = trial.fleet.stop()
    assert set(codes) == {0}, codes
    assert trial.count("state = 'in_progress'") == 0, "a pool that ended in order left tasks held"
    assert trial.rows("SELECT count(*) FROM fang.fang_pools") == [(0,)], "a pool that ended in order left its record"
    trial.start()
    trial.settle()
    assert trial.starts() == count, "a task ran twice"


@fault(
    "F06",
    "SIGTERM with tasks longer than the grace period, deaf to cancellation; a SIGTERM a second later ends at once",
    given={**SHORT, "grace_period": GRACE},
)
def terminate_with_long_tasks(trial: Trial) -> None:
    first = trial.start()
    deaf = trial.insert(len(first), deed="be stubborn", gate=trial.gate())
    trial.insert(len(first), gate=trial.gate())
    trial.until(lambda: trial.starts() == 2 * len(first))
    for worker in first:
        trial.strike(worker, partial(worker.send, signal.SIGTERM), GRACE + LAST_CALL + BOUND)
    for worker in first:
        assert worker.ends(GRACE + LAST_CALL) == 75
    second = trial.start(grace_period=60)
    trial.until(lambda: all(trial.starts(each, attempt=2) for each in deaf))
    assert trial.count("crashes > 0") == 0, "a stopping pool's end was charged"
    for worker in second:
        worker.send(signal.SIGTERM)
        worker.send(signal.SIGTERM)  # as a process group and its supervisor do: it counts as one
        came = time.monotonic()
        trial.until(lambda worker=worker: _is_stopping(trial, worker))
        time.sleep(max(0.0, came + COUNTS_AGAIN_AFTER + 0.1 - time.monotonic()))
        assert worker.exit_code is None, "two signals at once ended it"
        started = time.monotonic()
        trial.strike(worker, partial(worker.send, signal.SIGTERM), BOUND)
        assert worker.ends(5) == -signal.SIGTERM
        assert time.monotonic() - started < 2
    trial.open_gate()
    trial.start()
    trial.settle()


def _is_stopping(trial: Trial, worker: Worker) -> bool:
    return trial.rows("SELECT stopping FROM fang.fang_pools WHERE pid = %s AND mode = %s", worker.pid, worker.mode) == [
        (True,)
    ]


@fault("F07", "SIGTERM while the database is down", given={**SHORT, "grace_period": GRACE})
def terminate_while_the_database_is_down(trial: Trial) -> None:
    with Proxy(trial.url) as proxy:
        workers: list[Any] = trial.start(url=proxy.url)
        trial.insert(8, gate=trial.gate())
        trial.until(lambda: trial.starts() >= 4)
        proxy.set(Mode.RESET)
        trial.open_gate()
        for worker in workers:
            trial.strike(worker, partial(worker.send, signal.SIGTERM), GRACE + LAST_CALL + BOUND)
        for worker in workers:
            assert worker.ends(GRACE + LAST_CALL) == 75
    trial.start()
    trial.settle()
