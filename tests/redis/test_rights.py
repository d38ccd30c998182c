"""The users of the page: their rights suffice, on a real server and in both modes; one that lacks is said in a line."""

import logging
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
import redis

from fang_core.conformance import Backend
from fang_core.driving import drive
from fang_core.errors import AccessRefused
from fang_core.liveness import BeatRequest
from fang_core.record import TaskState
from fang_core.tasks.selecting.filter import TaskFilter
from fang_core.tasks.uniqueness import Unique
from fang_redis import AsyncRedisQueue, RedisQueue
from fang_redis.connections.connecting import server_of
from fang_redis.connections.own import ThreadedConnection
from fang_redis.layout import MOST_ROWS, Keys
from fang_redis.pools.heart import RedisHeart
from tests.backends import async_on_redis, threaded_on_redis
from tests.cli.invoking import fang
from tests.redisserver import ALWAYS, RedisServer

PAGE = (Path(__file__).parents[2] / "docs" / "redis.md").read_text("utf-8")
RIGHTS = {name: rights.split() for name, rights in re.findall(r"ACL SETUSER (\w+) on >PASSWORD ((?:.+\n)+)", PAGE)}
MODES = {"threaded": threaded_on_redis, "async": async_on_redis}
DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer(ALWAYS, tcp=True) as server:
        yield server


@pytest.fixture
def admin(server: RedisServer) -> Iterator[redis.Redis]:
    with server.client() as client:
        client.flushall()
        yield client


def login(admin: redis.Redis, server: RedisServer, name: str, *others: str) -> str:
    """Makes the user that the page names, with other rights too; returns the URL with which it connects."""
    admin.execute_command("ACL", "SETUSER", name, "reset", "on", ">pass", *RIGHTS[name], *others)
    return server.url.replace("//", f"//{name}:pass@")


@pytest.mark.parametrize("mode", MODES)
def test_the_user_of_the_page_can_do_all_that_a_queue_and_a_pool_do(
    server: RedisServer, admin: redis.Redis, mode: str
) -> None:
    admin.execute_command("ACL", "LOG", "RESET")
    backend = MODES[mode](login(admin, server, "fang"))
    try:
        work(backend)
    finally:
        backend.close()
    denied = admin.execute_command("ACL", "LOG")  # also where a script goes on
    assert [each for each in denied if each["object"] != "client"] == []  # with which redis-py tells its version


def work(backend: Backend) -> None:
    queue, call = backend.queue, backend.call
    backend.insert_many([backend.note(n=n) for n in range(MOST_ROWS + 1)])
    backend.insert_many([backend.limited_note(n=n) for n in range(3)])
    for conflict in ("return", "replace", "postpone"):
        for _ in range(2):
            backend.insert(backend.note(n=-1), uniq=Unique(by="n", within=DAY, on_conflict=conflict), delay=DAY)
    call(queue.schedules.put, "nightly", backend.note(n=1), cron="0 3 * * *")
    call(queue.schedules.run_now, "nightly")
    held = backend.fetch()
    assert held is not None
    call(queue.fail_task, held, "no reason")
    call(queue.retry_tasks, TaskFilter(states=TaskState.FAILED))
    call(queue.pause, "common")
    call(queue.resume, "common")
    backend.drain(task_type="conformance.limited")
    client = backend.client()
    task, *_ = client.claim(3)
    client.end(task, TaskState.RETRIED)
    client.reconcile()
    client.beat()
    client.prune("common")
    client.close()
    for look in (queue.list_tasks, queue.stats, queue.pools, queue.count_tasks):
        call(look)
    call(queue.cancel_tasks, TaskFilter(states=TaskState.NEW))
    call(queue.remove_all_tasks)


@pytest.mark.parametrize(
    "command", ["FLUSHALL", "FLUSHDB", "KEYS *", "SWAPDB 0 1", "CONFIG SET appendonly no", "SET other 1", "GET other"]
)
@pytest.mark.parametrize("name", RIGHTS)
def test_neither_user_can_do_harm_beside_its_queue(
    server: RedisServer, admin: redis.Redis, name: str, command: str
) -> None:
    url = login(admin, server, name)
    with redis.Redis.from_url(url) as client, pytest.raises(redis.exceptions.NoPermissionError):
        client.execute_command(*command.split())


async def test_a_user_that_only_reads_sees_all_and_changes_nothing(server: RedisServer, admin: redis.Redis) -> None:
    with RedisQueue(login(admin, server, "fang")) as queue:
        task = queue.insert_task(threaded_on_redis(server.url).note(n=1))
    url = login(admin, server, "fangreader")
    status = fang("status", "--database-url", url)
    assert (status.returncode, status.stderr) == (0, "")
    with RedisQueue(url) as reader:
        assert reader.find_task_by_id(task.id) == task
        assert [each.id for each in reader.list_tasks().tasks] == [task.id]
        assert reader.count_tasks().count == 1
        assert reader.explain(task.id) is not None
        reader.stats()
        reader.pools()
        reader.schedules.list()
        reader.limits.list()
        for change in (lambda: reader.remove_task(task.id), reader.fetch_and_touch_task, reader.remove_all_tasks):
            with pytest.raises(AccessRefused, match="lacks a right"):
                change()
        assert reader.find_task_by_id(task.id) == task
    async with AsyncRedisQueue(url) as reader_:
        assert await reader_.find_task_by_id(task.id) == task


LACKS = ("-info", "-time", "-evalsha -eval", "-select -@connection", "resetkeys ~other:*", "resetchannels")


@pytest.mark.parametrize("lack", LACKS)
async def test_a_right_that_lacks_is_said_in_one_line(server: RedisServer, admin: redis.Redis, lack: str) -> None:
    url = login(admin, server, "fang", *lack.split()).replace("/0", "/1")
    said = []
    with pytest.raises(AccessRefused) as refused:
        beat_on(url)
    said.append(str(refused.value))
    if lack != "resetchannels":  # which only a pool needs, or one that is to be woken
        with pytest.raises(AccessRefused) as refused:
            RedisQueue(url).open()
        said.append(str(refused.value))
        with pytest.raises(AccessRefused) as refused:
            await AsyncRedisQueue(url).open()
        said.append(str(refused.value))
    for text in said:
        assert re.search(r"lacks a right that a queue needs; docs/redis.md lists them", text), text
        assert "\n" not in text
        assert "pass@" not in text


def beat_on(url: str) -> None:
    server = server_of(url)
    heart = RedisHeart(Keys("fang"), lambda: ThreadedConnection.connected(server, 5), locks=True)
    try:
        drive(heart.beat(BeatRequest(uuid4())))
    finally:
        drive(heart.close())


def test_without_a_look_at_the_settings_a_queue_says_what_it_does_not_know(
    server: RedisServer, admin: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "fang_redis")
    with RedisQueue(login(admin, server, "fang", "-config")):
        assert "this user may not see how often" in caplog.text
