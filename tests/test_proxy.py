"""The proxy does what it says: other tests build on it."""

import gc
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import psycopg
import pytest
from sqlalchemy import make_url

from tests.modes import eventually
from tests.patience import PATIENT
from tests.proxy import Mode, Proxy


@pytest.fixture
def proxy(url: str) -> Iterator[Proxy]:
    with Proxy(url) as proxy:
        yield proxy


@pytest.fixture
def connection(proxy: Proxy) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(proxy.url, autocommit=True) as connection:
        yield connection


def test_it_passes_everything_on(connection: psycopg.Connection[Any]) -> None:
    (text,) = connection.execute("SELECT repeat('x', 1000000)").fetchone() or ("",)
    assert text == "x" * 1_000_000


def test_it_closes_what_it_is_accepting_when_it_ends(url: str) -> None:
    for _ in range(20):
        with ExitStack() as clients, Proxy(url) as proxy:
            address = make_url(proxy.url)
            for _ in range(3):
                clients.enter_context(socket.create_connection((address.host, address.port)))
    gc.collect()  # warns of sockets that are still open, which is an error here


def test_a_black_hole_says_nothing_and_ends_nothing(proxy: Proxy, connection: psycopg.Connection[Any]) -> None:
    proxy.set(Mode.BLACKHOLE)
    with ThreadPoolExecutor(1) as caller:
        answer = caller.submit(connection.execute, "SELECT 1")
        with pytest.raises(TimeoutError):
            answer.result(0.2)
        proxy.set(Mode.RESET)
        assert isinstance(answer.exception(5), psycopg.OperationalError)
    proxy.set(Mode.BLACKHOLE)
    with pytest.raises(psycopg.OperationalError, match="timeout"):
        psycopg.connect(proxy.url, connect_timeout=2)


def test_a_reset_strikes_those_that_stand_and_a_refusal_those_to_come(
    proxy: Proxy, connection: psycopg.Connection[Any]
) -> None:
    proxy.set(Mode.REFUSE)
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(proxy.url)
    connection.execute("SELECT 1")
    proxy.set(Mode.RESET)
    with pytest.raises(psycopg.OperationalError):
        connection.execute("SELECT 1")


def test_a_rule_can_be_for_some_connections_alone(proxy: Proxy, connection: psycopg.Connection[Any]) -> None:
    with psycopg.connect(proxy.url) as other:
        other.execute("SELECT 'a mark'")
        assert proxy.set_where(Mode.RESET, rb"a m.rk") == 1
        with pytest.raises(psycopg.OperationalError):
            other.execute("SELECT 1")
    connection.execute("SELECT 1")
    assert proxy.accepted == 2


def test_what_was_held_comes_when_all_is_well_again(proxy: Proxy, connection: psycopg.Connection[Any]) -> None:
    proxy.set(Mode.HOLD)
    with ThreadPoolExecutor(2) as callers:
        answer = callers.submit(connection.execute, "SELECT 1")
        newcomer = callers.submit(psycopg.connect, proxy.url)
        for waiting in (answer, newcomer):
            with pytest.raises(TimeoutError):
                waiting.result(0.2)
        proxy.set(Mode.PASS)
        assert answer.result(PATIENT).fetchone() == (1,)
        newcomer.result(PATIENT).close()


def test_the_other_side_does_not_learn_of_an_end_that_is_held(proxy: Proxy, url: str) -> None:
    with psycopg.connect(url, autocommit=True) as watcher, psycopg.connect(proxy.url) as held:
        pid = held.info.backend_pid
        proxy.set(Mode.HOLD)
        held.close()
        there = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s"
        time.sleep(0.2)
        assert watcher.execute(there, [pid]).fetchone() == (1,)
        proxy.set(Mode.PASS)
        eventually(lambda: watcher.execute(there, [pid]).fetchone() == (0,))


def test_a_way_can_be_long_and_narrow(proxy: Proxy, connection: psycopg.Connection[Any]) -> None:
    proxy.slow_down(seconds=0.1)
    began = time.monotonic()
    connection.execute("SELECT 1")
    assert time.monotonic() - began >= 0.2, "there and back"
    proxy.slow_down(bytes_per_second=100_000)
    began = time.monotonic()
    (text,) = connection.execute("SELECT repeat('x', 30000)").fetchone() or ("",)
    assert time.monotonic() - began >= 0.3
    assert text == "x" * 30_000
