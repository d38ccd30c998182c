"""Queues that reach a real server by TLS: both certificates are checked, in both modes and for every connection."""

import asyncio
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

import pytest

from fang_async import AsyncRunnable, AsyncWorkerPool
from fang_core.errors import FangError, UsageError
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


class Certificates(NamedTuple):
    """A directory with ``NAME.pem`` and ``NAME.key`` of each."""

    directory: Path

    def make(self, name: str, *, by: str = "", address: str = "127.0.0.1") -> None:
        """Makes a key, and a certificate that signs itself, or that ``by`` signs."""
        command = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
        command += ["-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.pem"]
        if by:
            command += ["-CA", f"{by}.pem", "-CAkey", f"{by}.key", "-addext", "basicConstraints=critical,CA:FALSE"]
        self.openssl(*command, "-addext", f"subjectAltName=IP:{address}")

    def openssl(self, *command: str) -> None:
        subprocess.run(["openssl", *command], cwd=self.directory, check=True, capture_output=True)

    def url(self, port: int, **settings: str) -> str:
        """A URL with these settings of TLS; files are named without their directory."""
        said = {f"ssl_{name}": self._path(name, value) for name, value in settings.items()}
        return f"rediss://127.0.0.1:{port}/0?{urlencode(said)}"

    def _path(self, name: str, value: str) -> str:
        return str(self.directory / value) if name in ("ca_certs", "ca_path", "certfile", "keyfile") else value


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Authorities ``ours`` and ``other``; a server and a client of the first, a stranger of the second."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl, which makes certificates")
    made = Certificates(tmp_path_factory.mktemp("tls"))
    for authority in ("ours", "other"):
        made.make(authority)
    for name, by in {"server": "ours", "client": "ours", "stranger": "other"}.items():
        made.make(name, by=by)
    made.openssl("ec", "-in", "client.key", "-aes128", "-passout", "pass:secret", "-out", "locked.key")
    (made.directory / "junk.pem").write_text("junk")
    return made


@contextmanager
def served(made: Certificates, clients: str) -> Iterator[int]:
    """The port of a server that asks its clients for a certificate or not: ``yes`` or ``no``."""
    if not has_tls():
        pytest.skip("this server was built without TLS")
    port = free_port()
    files = {"cert": "server.pem", "key": "server.key", "ca-cert": "ours.pem"}
    settings = {f"tls-{name}-file": str(made.directory / file) for name, file in files.items()}
    with RedisServer({**settings, "tls-port": str(port), "tls-auth-clients": clients, "appendonly": "yes"}):
        yield port


@pytest.fixture(scope="module")
def url(made: Certificates) -> Iterator[str]:
    with served(made, "no") as port:
        yield made.url(port, ca_certs="ours.pem")


@pytest.fixture(scope="module")
def port(made: Certificates) -> Iterator[int]:
    """That of a server that wants certificates of its clients."""
    with served(made, "yes") as port:
        yield port


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


OURS = {"ca_certs": "ours.pem", "certfile": "client.pem", "keyfile": "client.key"}
"""With these a client is let in."""

WRONG: dict[str, tuple[dict[str, str], str]] = {
    "another authority": ({"ca_certs": "other.pem"}, "certificate verify failed.*ssl_ca_certs"),
    "no authority": ({"ca_certs": "none.pem"}, "ssl_ca_certs names what cannot be read: .*none.pem"),
    "no directory": ({"ca_path": "none"}, "ssl_ca_path names what cannot be read: .*none"),
    "no authority in the file": ({"ca_certs": "junk.pem"}, "ssl_ca_certs"),
    "no certificate": ({"certfile": "none.pem"}, "ssl_certfile names what cannot be read: .*none.pem"),
    "no key": ({"keyfile": "none.key"}, "ssl_keyfile names what cannot be read: .*none.key"),
    "no key in the file": ({"keyfile": "junk.pem"}, "ssl_keyfile"),
    "another key": ({"keyfile": "other.key"}, "mismatch.*ssl_keyfile"),
    "another password": ({"keyfile": "locked.key", "password": "wrong"}, "ssl_keyfile and ssl_password"),
    "no such cipher": ({"ciphers": "rot13"}, "ssl_ciphers"),
}


async def opened(url: str) -> AsyncRedisQueue:
    queue = AsyncRedisQueue(url)
    await queue.open()
    return queue


async def raised_by_both(url: str) -> list[str]:
    """The errors of the two modes, with the names of their classes."""
    said = []
    with pytest.raises(FangError) as in_threads:
        RedisQueue(url).open()
    with pytest.raises(FangError) as in_asyncio:
        await opened(url)
    for error in (in_threads.value, in_asyncio.value):
        said.append(f"{type(error).__name__}: {error}")
        assert "\n" not in str(error)
        assert "wrong" not in str(error)
    return said


async def test_a_client_with_a_certificate_is_let_in(made: Certificates, port: int) -> None:
    for more in ({}, {"keyfile": "locked.key", "password": "secret"}, {"ca_certs": "other.pem", "cert_reqs": "none"}):
        url = made.url(port, **(OURS | more))
        with RedisQueue(url) as queue:
            queue.insert_task(Sealed())
        await (await opened(url)).close()


@pytest.mark.parametrize("wrong", WRONG)
async def test_a_wrong_setting_is_refused_by_name(made: Certificates, port: int, wrong: str) -> None:
    settings, says = WRONG[wrong]
    for text in await raised_by_both(made.url(port, **(OURS | settings))):
        assert re.match(f"AccessRefused: .*{says}", text), text


@pytest.mark.parametrize("sent", [{}, {"certfile": "stranger.pem", "keyfile": "stranger.key"}], ids=["none", "another"])
async def test_it_is_said_what_a_server_wants_that_hangs_up(
    made: Certificates, port: int, sent: dict[str, str]
) -> None:
    """It sends its reason behind the handshake, where it may be lost with the connection."""
    for text in await raised_by_both(made.url(port, ca_certs="ours.pem", **sent)):
        assert re.match(r"(NotConnected|AccessRefused): .*ssl_certfile(,| and) ssl_keyfile", text), text


async def test_a_certificate_for_another_host_is_refused(made: Certificates, port: int) -> None:
    url = made.url(port, **OURS).replace("127.0.0.1", "localhost")
    for text in await raised_by_both(url):
        assert re.match("AccessRefused: .*certificate is not valid for 'localhost'", text), text
    with RedisQueue(f"{url}&ssl_check_hostname=no"):
        pass
    await (await opened(f"{url}&ssl_check_hostname=no")).close()


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ("ssl_keyfile=k", "ssl_keyfile needs ssl_certfile"),
        ("ssl_min_version=1", "ssl_min_version is 771 for TLS 1.2, 772 for TLS 1.3"),
        ("ssl_min_version=TLSv1_2", "ssl_min_version has a value"),
        ("ssl_include_verify_flags=X", "ssl_include_verify_flags has a value"),
        ("ssl_cert_reqs=maybe", "maybe"),
        ("ssl_frob=1", "does not take: ssl_frob; leave them out"),
        ("ssl_validate_ocsp=true", "does not take: ssl_validate_ocsp"),  # redis-py would take it, and not do it
    ],
)
async def test_a_setting_that_cannot_be_used_is_refused_at_once(settings: str, says: str) -> None:
    for make in (RedisQueue, AsyncRedisQueue):
        with pytest.raises(UsageError, match=says):
            make(f"rediss://host?{settings}")


async def test_settings_of_tls_need_a_url_of_tls() -> None:
    for make in (RedisQueue, AsyncRedisQueue):
        with pytest.raises(UsageError, match="ssl_ca_certs: that needs rediss://"):
            make("redis://host?ssl_ca_certs=ca.pem")


async def test_a_certificate_that_nobody_trusts_is_refused(url: str) -> None:
    for text in await raised_by_both(url.partition("?")[0]):
        assert re.match("AccessRefused: .*certificate verify failed.*ssl_ca_certs", text), text
