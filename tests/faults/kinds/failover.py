"""A standby takes over: F22. All that was acknowledged is there, since a commit waits for the standby."""

from collections.abc import Callable
from typing import Final

from sqlalchemy import make_url

from tests.faults.aftermath import Before, assert_as_before, assert_each_ran_once, assert_nobody_died, warmed_up
from tests.faults.kinds.servers import BACK, KEPT, assert_flows_again
from tests.faults.ownserver import OwnServer
from tests.faults.producers import Producers, producing
from tests.faults.registry import fault
from tests.faults.trial import Trial
from tests.proxy import Mode, Proxy

GIVEN_UP: Final = 80.0
"""Seconds after which a statement was given up that a machine without a word has swallowed."""

SEVERAL_CONNECTS: Final = 20.0
"""Seconds more for a few connects, one after the other, each of which waits for the dead host first."""


@fault(
    "F22",
    "failover: the primary crashes, its standby is promoted; a URL of both hosts",
    also=("I8", "I9", "I10"),
    given=KEPT,
    own_server=True,
)
def fail_over(trial: Trial) -> None:
    primary, standby = _primary_and_standby(trial)
    with Proxy(primary.url) as first, Proxy(standby.url) as second:
        before = warmed_up(trial, trial.start(2, url=_url_of(first, second)))
        with producing(trial, _url_of(first, second)) as producers:

            def crash() -> None:
                """Applications are refused by the standby for a while."""
                told = producers.told["NotConnected"]
                primary.down("immediate")
                trial.until(lambda: producers.told["NotConnected"] > told)

            _take_over(trial, before, producers, crash, standby, BACK)
        _assert_all_is_well(trial, before)


@fault(
    "F22 in silence",
    "the same, and the primary's machine is gone without a word; the default lease",
    also=("I8", "I9", "I10"),
    given={"keep_all": True},
    own_server=True,
)
def fail_over_in_silence(trial: Trial) -> None:
    """Connections to it are half-open, and connects to it are not answered."""
    primary, standby = _primary_and_standby(trial)
    with Proxy(primary.url) as first, Proxy(standby.url) as second:
        before = warmed_up(trial, trial.start(2, url=_url_of(first, second)))
        with producing(trial, _url_of(first, second)) as producers:

            def crash() -> None:
                first.set(Mode.BLACKHOLE)
                primary.down("immediate")

            _take_over(trial, before, producers, crash, standby, GIVEN_UP + SEVERAL_CONNECTS)
            assert producers.told["OutcomeUnknown"]
        _assert_all_is_well(trial, before)


@fault(
    "F22 by address",
    "the server's address leads to a standby, which takes no writes, then back; then again, until it is promoted",
    also=("I8", "I9", "I10"),
    given=KEPT,
    own_server=True,
)
def move_the_address(trial: Trial) -> None:
    """A read-only server is an error that is survived, and its connections are not kept."""
    primary, standby = _primary_and_standby(trial)
    with Proxy(primary.url) as address:
        before = warmed_up(trial, trial.start(2, url=address.url))
        with producing(trial, address.url) as producers:
            held = trial.insert(2 * len(before.workers), gate=trial.gate("back"))
            trial.until(lambda: all(trial.starts(each) for each in held))
            _lead_to(address, standby)
            trial.until(lambda: producers.told["ReadOnlyServer"] > 10)
            for worker in before.workers:
                trial.until(lambda worker=worker: "takes writes" in worker.said())
            address.lead_to(primary.url)  # nobody ends the connections to the standby
            assert_flows_again(trial, held, lambda: trial.open_gate("back"))

            def crash() -> None:
                refused = producers.told["ReadOnlyServer"]
                _lead_to(address, standby)
                primary.down("immediate")
                trial.until(lambda: producers.told["ReadOnlyServer"] > refused + 10)

            _take_over(trial, before, producers, crash, standby, BACK)
        _assert_all_is_well(trial, before)


def _lead_to(address: Proxy, server: OwnServer) -> None:
    address.lead_to(server.url)
    address.set(Mode.RESET)
    address.set(Mode.PASS)


def _take_over(
    trial: Trial, before: Before, producers: Producers, crash: Callable[[], object], standby: OwnServer, within: float
) -> None:
    """The primary crashes under load, and the standby is promoted."""
    held = trial.insert(2 * len(before.workers), gate=trial.gate("over"))
    trial.until(lambda: all(trial.starts(each) for each in held))
    trial.insert(100, seconds=0.02)
    inserted = producers.inserted
    trial.until(lambda: producers.inserted > inserted + 10)
    crash()
    standby.execute("SELECT pg_promote()")
    trial.reconnect(standby.url)
    assert_flows_again(trial, held, lambda: trial.open_gate("over"), within)
    trial.until(lambda: producers.told, within)  # an insert was cut off, which may be told after work flows again


def _assert_all_is_well(trial: Trial, before: Before) -> None:
    trial.settle(within=60)
    assert_nobody_died(trial)
    assert_each_ran_once(trial)
    assert_as_before(trial, before)
    trial.fleet.close()


def _primary_and_standby(trial: Trial) -> tuple[OwnServer, OwnServer]:
    """A commit on the first waits until it is on the second."""
    primary = trial.server
    assert primary is not None
    standby = primary.make_standby("second", cluster_name="second")
    primary.execute("ALTER SYSTEM SET synchronous_standby_names = 'second'")
    primary.execute("SELECT pg_reload_conf()")
    trial.until(lambda: primary.execute("SELECT sync_state FROM pg_stat_replication") == [("sync",)])
    return primary, standby


def _url_of(*proxies: Proxy) -> str:
    urls = [make_url(proxy.url) for proxy in proxies]
    hosts = ",".join(f"{url.host}:{url.port}" for url in urls)
    return f"postgresql://{urls[0].username}@{hosts}/{urls[0].database}?target_session_attrs=read-write"
