import pytest

from benchmarks.driver import Driver, PeerFailed


@pytest.mark.parametrize("peer", ["fang_async", "fang_threaded"])
def test_a_peer_inserts_drains_and_is_woken(peer: str, url: str) -> None:
    with Driver(peer, url, setting={"workers": 2}) as driver:
        driver.ask("insert", tasks=300)
        drained = driver.ask("drain", tasks=300)
        assert drained["course"][-1][0] == 300
        assert 0 < drained["starting"] < drained["seconds"]
        assert len(driver.ask("latency", samples=3, seed=0)) == 3


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
