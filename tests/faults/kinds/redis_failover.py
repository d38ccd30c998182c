"""A replica of Redis takes over, whose link to the primary was cut before: R11 and R14.

The link leads through a proxy that swallows what the primary sends, so that what is written then is on the primary
alone, and is lost with it. The pools are busy meanwhile: no task that is inserted runs before the failover.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple
from uuid import UUID

from sqlalchemy import make_url

from tests.faults.kinds.redis import BOTH, KEEP, fault, inserting
from tests.faults.redis_trial import DURABLE, RedisTrial
from tests.proxy import Mode, Proxy
from tests.redisserver import RedisServer, wait_for

UNCONFIRMED: Final = 50
"""Inserts while the link is cut, of a queue that waits for no replica."""

BEATS: Final = 3
"""So often each pool beats while its log is watched."""


class Pair(NamedTuple):
    """A primary and its replica; ``link`` is the way between them, ``address`` the one that workers and queues use."""

    primary: RedisServer
    replica: RedisServer
    link: Proxy
    address: Proxy

    def catch_up(self) -> None:
        """Waits until the replica has all that the primary has written so far."""
        with self.primary.client() as primary, self.replica.client() as replica:
            written = primary.info("replication")["master_repl_offset"]
            wait_for(lambda: replica.info("replication")["slave_repl_offset"] >= written, "the replica lags behind")

    def cut(self) -> None:
        """The replica gets nothing more, and neither side learns of it."""
        self.link.set(Mode.BLACKHOLE)

    def fail_over(self, trial: RedisTrial) -> None:
        """The primary is killed, the replica promoted, and the address leads to it."""
        self.primary.kill()
        with self.replica.client() as client:
            client.replicaof("NO", "ONE")
        trial.server = self.replica
        self.address.lead_to(self.replica.url)
        self.address.set(Mode.RESET)
        self.address.set(Mode.PASS)
        trial.look_again()


@fault("R11", "a replica whose link was cut takes over, with replicas=1", given=KEEP, modes=BOTH)
def fail_over(trial: RedisTrial) -> None:
    """An insert that has returned is there, be it a repeat; one that no replica has confirmed says so."""
    pair = _paired(trial)
    trial.replicas = 1
    _fill_slots(trial, "held")
    with inserting(trial) as inserts:
        trial.until(lambda: len(inserts.returned) > 20)
        pair.cut()
        before = len(inserts.returned)
        trial.until(lambda: inserts.doubts > 2 or len(inserts.returned) > before + UNCONFIRMED)
        pair.fail_over(trial)
        gone = _gone(trial, inserts.returned)
        assert not gone, f"{len(gone)} inserts had returned, and the failover has lost them"
        assert inserts.doubts > 2, "no insert met the cut"
        _replica_of(trial, pair.replica.url)  # without one, no insert would return
        returned = len(inserts.returned)
        trial.until(lambda: len(inserts.returned) > returned + 20)
    trial.open_gate("held")
    trial.settle(60)


@fault(
    "R14",
    "a replica whose link was cut takes over, without replicas=:"
    f" the {UNCONFIRMED} inserts made after the cut are lost, all else runs",
    given=KEEP,
    modes=BOTH,
)
def fail_over_unconfirmed(trial: RedisTrial) -> None:
    """What pools had claimed or ended meanwhile runs again, and holds nothing up."""
    pair = _paired(trial)
    ended = _fill_slots(trial, "ended")
    claimed = trial.insert(len(ended), gate=trial.gate("claimed"))
    pair.catch_up()
    pair.cut()
    unconfirmed = trial.insert(UNCONFIRMED)
    trial.excepted = frozenset([*ended, *claimed, *unconfirmed])
    trial.open_gate("ended")
    trial.until(lambda: all(trial.row(task)["s"] == "finished" for task in ended))
    trial.until(lambda: all(trial.starts(task) for task in claimed))
    pair.fail_over(trial)
    assert _gone(trial, [*ended, *claimed]) == [], "the failover has lost what the replica had"
    assert _gone(trial, unconfirmed) == unconfirmed, "the link was not cut"
    trial.insert(len(ended))
    trial.open_gate("claimed")
    trial.settle(60)
    assert all(trial.row(task)["s"] == "finished" for task in [*ended, *claimed])
    # Once, where a pool had claimed it ahead before the failover, and never again.
    assert all(trial.starts(task) <= 1 for task in unconfirmed)
    assert all(worker.exit_code is None for worker in trial.fleet.workers)
    _assert_quiet(trial)


def _paired(trial: RedisTrial) -> Pair:
    """Gives the trial's server a replica, and an address that can move to it."""
    link = trial.lasting.enter_context(Proxy(trial.server.url))
    address = trial.lasting.enter_context(Proxy(trial.server.url))
    trial.url = trial.fleet.given["url"] = address.url
    return Pair(trial.server, _replica_of(trial, link.url), link, address)


def _replica_of(trial: RedisTrial, url: str) -> RedisServer:
    """Another server, which has what the one at the URL has."""
    follows = {**DURABLE, "replicaof": f"127.0.0.1 {make_url(url).port}"}
    replica = trial.lasting.enter_context(RedisServer(follows, tcp=True))
    with replica.client() as client:
        wait_for(lambda: client.info("replication")["master_link_status"] == "up", "the replica has no data")
    return replica


def _fill_slots(trial: RedisTrial, gate: str) -> list[UUID]:
    """Starts workers, and a task in each of their slots that waits for the gate."""
    tasks = trial.insert(4 * len(trial.start(2)), gate=trial.gate(gate))
    trial.until(lambda: all(trial.starts(task) for task in tasks))
    return tasks


def _gone(trial: RedisTrial, tasks: Sequence[UUID]) -> list[UUID]:
    """Those that the server does not have."""
    return [task for task in tasks if not trial.row(task)]


def _assert_quiet(trial: RedisTrial) -> None:
    """No pool repeats an error: while all beat a few times, none is logged."""
    said = trial.said("ERROR")
    before = _beats(trial)
    trial.until(lambda: all(beats >= before.get(pool, 0) + BEATS for pool, beats in _beats(trial).items()))
    assert trial.said("ERROR") == said, "a pool repeats an error"


def _beats(trial: RedisTrial) -> dict[str, int]:
    """How often each pool has beaten."""
    return {pool: int(beats) for pool, beats in trial.database.hgetall("{fang}:beats").items()}
