"""A server that lets nobody in: it is no outage, and nothing waits for it, in both modes and by command."""

import re
from pathlib import Path

import pytest

from fang_cli.exit_codes import REFUSED
from fang_core.errors import AccessRefused
from fang_redis import AsyncRedisQueue, RedisQueue
from tests.cli.invoking import fang
from tests.cli.test_worker import Process
from tests.redisserver import RedisServer, of_a_cluster

POOLS = """
from fang_async import AsyncWorkerPool
from fang_redis import AsyncRedisQueue, RedisQueue
from fang_threaded import WorkerPool

threaded, asynchronous = WorkerPool(RedisQueue({url!r})), AsyncWorkerPool(AsyncRedisQueue({url!r}))
"""


@pytest.mark.parametrize(
    ("settings", "number"), [({"databases": "3"}, 3), (of_a_cluster(), 1)], ids=["beyond", "cluster"]
)
async def test_a_database_that_the_server_does_not_have(settings: dict[str, str], number: int, tmp_path: Path) -> None:
    says = f"has no database {number}: a node of a Cluster has number 0 alone, .* give the URL one of these"
    with RedisServer(settings, tcp=True) as server:
        url = server.url.removesuffix("0") + str(number)
        with pytest.raises(AccessRefused, match=says):
            RedisQueue(url).open()
        with pytest.raises(AccessRefused, match=says):
            await AsyncRedisQueue(url).open()
        status = fang("status", "--database-url", url)
        assert (status.returncode, len(status.stderr.splitlines())) == (REFUSED, 1)
        assert re.search(says, status.stderr)
        (tmp_path / "pools.py").write_text(POOLS.format(url=url))
        for pool in ("threaded", "asynchronous"):
            worker = Process(tmp_path, f"pools:{pool}")
            try:
                code, log = worker.end()
            finally:
                worker.close()
            assert (code, len(log.splitlines())) == (REFUSED, 1), log
            assert re.search(says, log)
