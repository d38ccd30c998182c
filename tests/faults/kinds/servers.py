"""A server that crashes, is away, or ends sessions of ours: F14 to F17."""

import os
import signal
import time
from collections.abc import Callable
from typing import Final
from uuid import UUID

from fang_core.liveness import lock_key
from tests.faults.aftermath import assert_as_before, assert_each_ran_once, assert_nobody_died, warmed_up
from tests.faults.kinds.defaults import PROMISED
from tests.faults.producers import producing
from tests.faults.registry import SHORT, fault
from tests.faults.trial import Trial

KEPT: Final = {**SHORT, "keep_all": True}

BACK: Final = 10.0
"""Seconds within which work flows again when a server is back: tries are 7.5 s apart at most, then comes a claim."""

SESSIONS: Final = "FROM pg_stat_activity WHERE application_name = 'fang' AND datname = current_database()"


@fault(
    "F14",
    "the server crashes again and again under load: immediate restarts, and SIGKILL of a backend",
    quick=True,
    also=("I8", "I9", "I10"),
    given=KEPT,
    own_server=True,
)
def crash_again_and_again(trial: Trial) -> None:
    server = trial.server
    assert server is not None

    before = warmed_up(trial, trial.start(2))
    with producing(trial) as producers:
        for number, crash in enumerate((server.restart, lambda: kill_a_backend(trial), server.restart)):
            held = trial.insert(2 * len(before.workers), gate=trial.gate(str(number)))
            trial.insert(100, seconds=0.02)
            trial.until(lambda held=held: all(trial.starts(each) for each in held))
            crash()
            trial.reconnect()
            assert_flows_again(trial, held, lambda number=number: trial.open_gate(str(number)))
    # Few are cut off between being sent and being answered; those that find their connection closed know that.
    assert producers.told["OutcomeUnknown"] + producers.told["NotConnected"], "no insert met a crash"
    trial.settle()
    assert_nobody_died(trial)
    assert_each_ran_once(trial)
    assert_as_before(trial, before)


def assert_flows_again(trial: Trial, held: list[UUID], let_go: Callable[[], None], within: float = BACK) -> None:
    """From now on: what comes in runs, and what was held through the fault ends, within so many seconds."""
    now = time.monotonic()
    trial.expect(trial.insert(4), now, within)
    let_go()
    trial.until(lambda: not trial.count("state = 'in_progress' AND id = ANY(%s)", held), within=within)


@fault(
    "F01 after F14",
    f"SIGKILL of a worker once it is back after a crash of the server, a lease of 60 s; {PROMISED:.0f} s at most",
    also=("I8",),
    given={"keep_all": True},
    own_server=True,
)
def kill_after_a_crash(trial: Trial) -> None:
    """Free locks are believed again as soon as the pools that are left have seen the dead one back."""
    server = trial.server
    assert server is not None
    trial.start(3)
    for number, crash in enumerate((server.restart, lambda: kill_a_backend(trial))):
        await_all_back(trial)
        crash()
        trial.reconnect()
        await_all_back(trial)
        held = trial.insert(4 * len(trial.fleet.alive), gate=trial.gate(str(number)))
        trial.until(lambda held=held: all(trial.starts(each) for each in held))
        victim = trial.fleet.alive[0]
        trial.strike(victim, victim.kill, PROMISED)
        trial.until(lambda victim=victim: not trial.held(victim))
        trial.open_gate(str(number))
        trial.settle()
        trial.replace_dead()
    assert len(trial.recoveries()) == 2, "a victim held nothing"


def kill_a_backend(trial: Trial) -> None:
    """Kills any of ours, and returns when the server has ended all sessions; its start stays as it was."""
    ((pid,),) = trial.rows(f"SELECT pid {SESSIONS} ORDER BY random() LIMIT 1")
    os.kill(pid, signal.SIGKILL)
    trial.until(trial.is_cut_off)


def await_all_back(trial: Trial) -> None:
    """Returns when each living pool holds its lock on this server and has beaten twice since, so that all saw it."""
    trial.until(lambda: len(beats_under_lock(trial)) == len(trial.fleet.alive))
    before = beats_under_lock(trial)
    trial.until(lambda: all(beats >= before[pool] + 2 for pool, beats in beats_under_lock(trial).items()))


def beats_under_lock(trial: Trial) -> dict[UUID, int]:
    """The counter of each pool whose lock is held."""
    locks = "SELECT (classid::bigint << 32) | objid::bigint FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1"
    held = {key for (key,) in trial.rows(locks)}
    pools = trial.rows("SELECT id, beats FROM fang.fang_pools")
    return {pool: beats for pool, beats in pools if lock_key(pool) in held}


@fault(
    "F15",
    "the server is down for 4 s while tasks run and end",
    also=("I8", "I9", "I10"),
    given=KEPT,
    own_server=True,
)
def down_for_a_while(trial: Trial) -> None:
    """Longer than the lease."""
    down(trial, 4.0)


@fault(
    "F15 for long",
    "the server is down for 60 s while tasks run and end",
    also=("I8", "I9", "I10"),
    given=KEPT,
    own_server=True,
)
def down_for_long(trial: Trial) -> None:
    down(trial, 60.0)


def down(trial: Trial, seconds: float) -> None:
    """What has ended meanwhile is completed when the server is back, and does not run again; nor does what runs on."""
    server = trial.server
    assert server is not None
    before = warmed_up(trial, trial.start(2))
    end = trial.insert(2 * len(before.workers), gate=trial.gate("first"))
    run_on = trial.insert(2 * len(before.workers), gate=trial.gate("second"))
    trial.until(lambda: all(trial.starts(each) for each in [*end, *run_on]))
    with producing(trial) as producers:
        trial.until(lambda: all(producer.inserted for producer in producers))
        server.down("fast")
        went = time.monotonic()
        trial.open_gate("first")
        trial.until(lambda: trial.ended(end) == len(end))
        trial.until(lambda: producers.told["NotConnected"])
        time.sleep(max(0.0, went + seconds - time.monotonic()))
        server.up()
        trial.reconnect()
        back = time.monotonic()
        trial.until(lambda: not trial.count("state = 'in_progress' AND id = ANY(%s)", end), within=BACK)
        trial.expect(trial.insert(len(before.workers)), back, BACK)
        trial.until(lambda: not trial.count("state = 'new'"), within=BACK)
        trial.open_gate("second")
    trial.settle()
    assert_nobody_died(trial)
    assert_each_ran_once(trial)
    assert_as_before(trial, before)


@fault(
    "F16", "pg_terminate_backend on random connections of ours, under load", also=("I8", "I9", "I10"),
    given=KEPT,
)  # fmt: skip
def terminate_at_random(trial: Trial) -> None:
    before = warmed_up(trial, trial.start(2))
    with producing(trial):
        for _ in range(20):
            trial.insert(20, seconds=0.02)
            time.sleep(0.1 * trial.chance.random())
            pids = trial.rows(f"SELECT pid {SESSIONS} ORDER BY pid")
            for (pid,) in trial.chance.sample(pids, min(2, len(pids))):
                trial.rows("SELECT pg_terminate_backend(%s)", pid)
        trial.rows(f"SELECT pg_terminate_backend(pid) {SESSIONS}")  # chance may have spared what a worker would tell of
        last = time.monotonic()
        trial.expect(trial.insert(4), last, BACK)
    trial.settle()
    assert_nobody_died(trial)
    assert_each_ran_once(trial)
    assert_as_before(trial, before)


WOKEN: Final = 3.0
"""Seconds within which a sleeping pool has been woken, on a busy machine; by itself it looks after seven or more."""


@fault("F17", "only the LISTEN connections are killed: wake-ups come back", quick=True, also=("I8", "I9", "I10"))
def kill_the_listeners(trial: Trial) -> None:
    before = warmed_up(trial, trial.start(poll=8))
    for _ in range(2):
        old = listeners(trial)
        assert len(old) == len(before.workers)
        for pid in old:
            trial.rows("SELECT pg_terminate_backend(%s)", pid)
        trial.until(lambda old=old: len(set(listeners(trial)) - set(old)) == len(before.workers))
        assert_woken(trial)
    assert_as_before(trial, before, visible="pools are not woken until LISTEN works again")


def assert_woken(trial: Trial) -> None:
    """A task that is inserted for each pool, while they sleep, runs at once."""
    trial.until(lambda: trial.rows("SELECT count(*) FROM fang.fang_pools WHERE NOT waiting") == [(0,)])
    time.sleep(1.5)  # they look again for a second, since transactions may not have seen that they wait
    now = time.monotonic()
    trial.expect(trial.insert(len(trial.fleet.alive)), now, WOKEN)
    trial.settle()


def listeners(trial: Trial) -> list[int]:
    """The processes of LISTEN connections that were not pinged yet."""
    return [pid for (pid,) in trial.rows(f"SELECT pid {SESSIONS} AND query ILIKE 'LISTEN%%'")]
