"""The proxy does what it says: other tests build on it."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

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
