"""Operations that whoever wakes a pool sends for it: each has its own reply, in both modes, and none is sent twice."""

import asyncio
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar

import pytest
import redis

from fang_core.driving import drive
from fang_core.errors import BackendUnavailable
from fang_redis.aio.driver import AsyncDriver
from fang_redis.connections.connecting import async_server_of, server_of
from fang_redis.connections.driver import Driver, ThreadDriver
from fang_redis.connections.ready import Ready
from fang_redis.connections.sending import Sending
from fang_redis.layout import Keys
from fang_redis.operations import Operation
from tests.redisserver import RedisServer

T = TypeVar("T")


class Mode:
    """A driver, and how its coroutines are run."""

    def __init__(self, name: str, url: str) -> None:
        self._runner = None if name == "threads" else asyncio.Runner()
        self.driver: Driver = ThreadDriver(server_of(url)) if name == "threads" else AsyncDriver(async_server_of(url))

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return drive(coroutine) if self._runner is None else self._runner.run(coroutine)

    def send(self, ready: Ready[Any]) -> bool:
        async def send() -> bool:
            return ready.send()

        return self.run(send())

    def echo(self, text: str) -> str:
        return self.run(self.driver.run(iter(echo(text))))

    def close(self) -> None:
        self.run(self.driver.close())
        if self._runner is not None:
            self._runner.close()


def echo(text: str) -> Operation[str]:
    return Operation("ECHO", (), (text,))


def ready(driver: Driver, operation: Operation[T]) -> Ready[T]:
    return driver.ready(lambda: iter(operation))


@pytest.fixture(params=["threads", "asyncio"])
def mode(request: pytest.FixtureRequest, redis_url: str) -> Iterator[Mode]:
    mode = Mode(request.param, redis_url)
    yield mode
    mode.close()


def test_it_is_not_sent_without_a_connection(mode: Mode) -> None:
    assert not mode.send(ready(mode.driver, echo("text")))
    assert mode.echo("text") == "text"
    assert mode.send(ready(mode.driver, echo("text")))


def test_it_has_its_own_reply_whatever_else_is_sent_before_that_is_read(mode: Mode) -> None:
    mode.echo("before")
    sent = ready(mode.driver, echo("ready"))
    assert mode.send(sent)
    assert mode.echo("meanwhile") == "meanwhile"
    assert mode.run(sent.answer()) == "ready"
    assert mode.echo("after") == "after"


def test_it_is_sent_with_its_text_if_the_server_has_forgotten_the_script(mode: Mode, redis_url: str) -> None:
    mode.echo("before")
    sent = ready(mode.driver, Sending(Keys("fang")).read(()))
    with redis.Redis.from_url(redis_url) as client:
        client.script_flush()
    assert mode.send(sent)
    assert mode.run(sent.answer()).tasks == {}


@pytest.mark.parametrize("name", ["threads", "asyncio"])
def test_it_fails_and_is_not_repeated_if_the_connection_breaks_before_the_reply(name: str) -> None:
    with RedisServer() as server:
        mode = Mode(name, server.url)
        mode.echo("before")
        blocked: Operation[Any] = Operation("BLPOP", ("none", "0"), ())
        sent = ready(mode.driver, blocked)
        assert mode.send(sent)
        server.kill()
        with pytest.raises(BackendUnavailable):
            mode.run(sent.answer())
        mode.close()


def test_another_event_loop_sends_nothing_on_the_connection_of_the_former_one(redis_url: str) -> None:
    driver = AsyncDriver(async_server_of(redis_url))
    asyncio.run(driver.run(iter(echo("text"))))

    async def send() -> bool:
        return ready(driver, echo("text")).send()

    assert not asyncio.run(send())
