"""Queues that reach a real server by TLS: its certificate is checked, in both modes and for every connection."""

import asyncio
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fang_async import AsyncRunnable, AsyncWorkerPool
from fang_core.errors import NotConnected
from fang_redis import AsyncRedisQueue, RedisQueue
from fang_threaded import Runnable, WorkerPool
from tests.ports import free_port
from tests.redisserver import RedisServer, has_tls


class Sealed(Runnable):
    n: int = 0

    def run(self, queue: Any) -> None: ...


class SealedSoon(AsyncRunnable):
    n: int = 0

    async def run(self, queue: Any) -> None: ...


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that signs itself, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl, which makes the certificate")
    directory = tmp_path_factory.mktemp("tls")
    made, key = directory / "certificate.pem", directory / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    subprocess.run([*command, "-keyout", key, "-out", made], check=True, capture_output=True)
    return made, key


@pytest.fixture(scope="module")
def url(certificate: tuple[Path, Path]) -> Iterator[str]:
    made, key = certificate
    port = free_port()
    settings = {"tls-port": str(port), "tls-cert-file": str(made), "tls-key-file": str(key), "tls-auth-clients": "no"}
    if not has_tls():
        pytest.skip("this server was built without TLS")
    with RedisServer({**settings, "tls-ca-cert-file": str(made), "appendonly": "yes"}):
        yield f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={made}"


def test_a_queue_and_its_pool_work_by_tls(url: str) -> None:
    with RedisQueue(url) as queue:
        queue.insert_tasks([Sealed(n=n) for n in range(2_000)])  # more than one record of TLS
        held = queue.fetch_and_touch_task()
        assert held is not None
        queue.remove_task(held.id)
        assert WorkerPool(queue, number_of_workers=2).drain() == 1_999


async def test_so_do_those_of_asyncio(url: str) -> None:
    async with AsyncRedisQueue(url) as queue:
        await queue.insert_tasks([SealedSoon(n=n) for n in range(2_000)])
        await asyncio.gather(*(queue.insert_task(SealedSoon(n=n)) for n in range(50)))
        held = await queue.fetch_and_touch_task()
        assert held is not None
        await queue.remove_task(held.id)
        assert await AsyncWorkerPool(queue).drain() == 2_049


async def test_a_certificate_that_nobody_trusts_is_refused(url: str) -> None:
    untrusted = url.partition("?")[0]
    with pytest.raises(NotConnected, match="certificate verify failed"):
        RedisQueue(untrusted).open()
    with pytest.raises(NotConnected, match="certificate verify failed"):
        await AsyncRedisQueue(untrusted).open()
