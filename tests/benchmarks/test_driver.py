from math import inf

import pytest

from benchmarks.driver import Driver, PeerFailed
from benchmarks.figures import waits


@pytest.mark.parametrize("peer", ["fang_async", pytest.param("fang_threaded", marks=pytest.mark.long)])
def test_a_peer_inserts_drains_and_is_woken(peer: str, url: str) -> None:
    with Driver(peer, url, setting={"workers": 2}) as driver:
        driver.ask("insert", tasks=300)
        drained = driver.ask("drain", tasks=300)
        assert drained["course"][-1][0] == 300
        assert 0 < drained["starting"] < drained["seconds"]
        assert len(driver.ask("latency", samples=3, seed=0)) == 3


@pytest.mark.parametrize("peer", [pytest.param("fang_async", marks=pytest.mark.long), "fang_threaded"])
def test_commits_of_a_producer_meet_the_runs_of_a_worker(peer: str, url: str) -> None:
    held = {"clients": 2, "transactions": 3, "rows": 5, "held": (0, 0.02), "gap": 0.01}
    autocommit = {"clients": 1, "transactions": 4, "rows": 1, "held": None, "gap": 0.01}
    with Driver(peer, url, setting={"workers": 2}) as worker, Driver("own_producer", url) as producer:
        committed = producer.ask("produce", traffic=[held, autocommit], seed=0)["committed"]
        assert [len(of_each) for of_each in committed] == [30, 4]
        started = worker.ask("record", quiet=2)
        assert sorted(number for number, _ in started) == list(range(34))
        assert all(0 < wait < inf for of_each in committed for wait in waits(of_each, started))


def test_an_error_is_told_in_its_own_words(database_url: str) -> None:
    with (
        Driver("fang_async", database_url, setting={"workers": 2}) as driver,
        pytest.raises(PeerFailed, match="fang migrate"),
    ):
        driver.ask("insert", tasks=1)


def test_the_last_words_of_a_process_are_told(database_url: str) -> None:
    with (
        Driver("fang_async", database_url, setting={"wrong": 1}) as driver,
        pytest.raises(PeerFailed, match=r"ended with code 1: TypeError: .*'wrong'"),
    ):
        driver.ask("version")


def test_one_that_is_late_is_ended(database_url: str) -> None:
    with Driver("own_async", database_url) as driver:
        driver.ask("install")
        with pytest.raises(PeerFailed, match="not done within 1 s"):
            driver.ask("idle", settling=3600, seconds=1, within=1)
