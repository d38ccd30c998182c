"""Whom a server refuses is told so in one line, in both modes: what is wrong and what to do, and never a password.

And short-lived passwords, which a callable of the application's fetches.
"""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest

from fang_cli.commands import fang
from fang_core.errors import AccessRefused, NotConnected, UsageError
from fang_threaded import Queue
from tests.guarded import Guarded, guarded_server, server_without_tls
from tests.modes import Harness, eventually, ran

# Where a connect is refused asyncpg leaves the transport of its TLS to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(scope="module")
def guarded() -> Iterator[Guarded]:
    with guarded_server() as server:
        yield server


def refused(harness: Harness, url: str) -> str:
    """The line in which the mode says that it was refused."""
    queue = harness.queue(url)
    with pytest.raises(AccessRefused) as refusal:
        harness.call(queue.open)
    line = str(refusal.value)
    assert "\n" not in line
    assert "hush" not in line
    return line


USER: Final = "check the URL's user, password and database"
HBA: Final = "let pg_hba.conf accept this user, database and host, or check sslmode of the URL"
TLS: Final = "check sslmode, sslrootcert, sslcert and sslkey of the URL"
OPTIONS: Final = "check options of the URL"


@pytest.mark.parametrize(
    ("user", "query", "database", "advice"),
    [
        ("t_rejected:hush", "", "fang", HBA),
        ("t_unlisted:hush", "", "fang", HBA),
        ("t_password:hush", "", "fang", USER),
        ("t_password", "", "fang", USER),
        ("t_expired:right", "", "fang", USER),
        ("t_nologin:right", "", "fang", USER),
        ("t_gone:hush", "", "fang", USER),
        ("t_trusted:hush", "", "gone", USER),
        ("t_trusted:hush", "", "closed", "grant the role CONNECT on the database"),
        ("t_trusted:hush", "options=-c role=gone", "fang", USER),
        ("t_trusted:hush", "options=-c role=t_password", "fang", OPTIONS),
        ("t_trusted:hush", "options=-c nothing=1", "fang", OPTIONS),
        ("t_trusted:hush", "options=-c work_mem=much", "fang", OPTIONS),
        ("t_trusted:hush", "options=-c work_mem", "fang", OPTIONS),
        ("t_trusted:hush", "options=endpoint=ep-x", "fang", OPTIONS),
    ],
)
def test_a_refusal_says_what_to_do(
    harness: Harness, guarded: Guarded, user: str, query: str, database: str, advice: str
) -> None:
    assert refused(harness, guarded.url(user, query, database=database)).endswith(f"; {advice}")


OF: Final = "sslmode=require&sslcert=FILES/{0}.crt&sslkey=FILES/{0}.key"


@pytest.mark.parametrize(
    ("user", "query", "advice"),
    [
        ("t_certified", "sslmode=require", TLS),
        ("t_certified", OF.format("other"), USER),
        ("t_certified", "sslmode=require&sslcert=FILES/t_certified.crt&sslkey=FILES/other.key", TLS),
        ("t_tls", "sslmode=disable", HBA),
        ("t_tls", "sslmode=verify-ca&sslrootcert=FILES/foreign.crt", TLS),
        ("t_tls", "sslmode=verify-full&sslrootcert=FILES/ca.crt", TLS),
        ("t_tls", "sslmode=verify-ca&sslrootcert=FILES/hba", TLS),
        ("t_tls", "sslrootcert=system", TLS),
    ],
)
def test_a_refusal_of_tls_says_what_to_do(
    harness: Harness, guarded: Guarded, user: str, query: str, advice: str
) -> None:
    if not guarded.has_tls:
        pytest.skip("no Postgres with TLS is installed")
    assert refused(harness, guarded.url(f"{user}:hush", query)).endswith(f"; {advice}")


def test_whom_the_server_lets_in(harness: Harness, guarded: Guarded) -> None:
    harness.call(harness.queue(guarded.url("t_password:right")).open)
    if guarded.has_tls:
        harness.call(harness.queue(guarded.url("t_certified", OF.format("t_certified"))).open)
        harness.call(harness.queue(guarded.url("t_tls", "sslmode=verify-ca&sslrootcert=FILES/ca.crt")).open)


@pytest.mark.parametrize(
    "lines",
    [
        b"# 127.0.0.1:PORT:fang:t_password:hush\n\n127.0.0.1:PORT:fang:t_password:right",
        b"hush\n::\n\\\n127.0.0.1:PORT:fang:t_password:right",
        b"\xff:\xfe\n*:*:*:*:right\r\n",
        rb"127.0.0.1:PORT:f\ang:t_password:ri\ght:and more",
        rb"127\.0.0.1:PORT:fang:t\_password:right",
        b"\\*:PORT:fang:t_password:hush\n127.0.0.1:PORT:fang:t_password:right",
        b"127.0.0.1:1:fang:t_password:hush\n*:PORT:*:t_tls:hush\n*:PORT:*:t_password:right",
    ],
)
def test_the_password_file_is_read_as_libpq_reads_it(
    harness: Harness, guarded: Guarded, lines: bytes, tmp_path: Path
) -> None:
    file = tmp_path / "pgpass"
    file.touch(0o600)
    file.write_bytes(lines.replace(b"PORT", b"%d" % guarded.port))
    harness.call(harness.queue(guarded.url("t_password", f"passfile={file}")).open)


@pytest.mark.filterwarnings("ignore:the password file")
def test_a_password_file_that_others_may_read_is_ignored(harness: Harness, guarded: Guarded, tmp_path: Path) -> None:
    file = tmp_path / "pgpass"
    file.write_text("*:*:*:*:right")
    file.chmod(0o640)
    assert refused(harness, guarded.url("t_password", f"passfile={file}")).endswith(f"; {USER}")
    assert refused(harness, guarded.url("t_password", f"passfile={tmp_path}")).endswith(f"; {USER}")


@pytest.mark.parametrize("name", ["sslrootcert", "sslcert", "sslkey", "sslcrl"])
def test_a_file_that_is_missing_is_named(harness: Harness, guarded: Guarded, name: str) -> None:
    line = refused(harness, guarded.url("t_trusted", f"sslmode=require&{name}=FILES/gone"))
    assert line.startswith(f"{name} of the database URL names a file that does not exist: ")


def test_a_server_without_tls_that_has_to_have_it(harness: Harness, guarded: Guarded) -> None:
    with server_without_tls() as port:
        assert refused(harness, guarded.url("t_trusted", "sslmode=require", port=port)).endswith(f"; {TLS}")


@pytest.mark.parametrize("command", ["migrate", "status"])
def test_the_command_says_the_same(command: str, guarded: Guarded, capsys: pytest.CaptureFixture[str]) -> None:
    code = fang.main([command, "--database-url", guarded.url("t_password:hush")], standalone_mode=False)
    out, err = capsys.readouterr()
    assert (code, out) == (77, "")
    assert err == (
        f'fang: the database refuses the connection: password authentication failed for user "t_password"; {USER}\n'
    )


# Passwords that are fetched -------------------------------------------------------------------------------------------


class Vault:
    """Hands out a password, and knows on which threads it was asked."""

    def __init__(self, *passwords: Any) -> None:
        self.passwords = list(passwords)
        self.asked_on: list[str] = []

    def __call__(self) -> str:
        self.asked_on.append(threading.current_thread().name)
        password = self.passwords.pop(0) if len(self.passwords) > 1 else self.passwords[0]
        if isinstance(password, Exception):
            raise password
        return password  # type: ignore[no-any-return]

    async def by_asyncio(self) -> str:
        return self()


def forms(harness: Harness, vault: Vault) -> list[Callable[[], Any]]:
    """What the mode takes for a callable."""

    def returns_awaitable() -> Any:
        return vault.by_asyncio()

    return [vault] if harness.mode == "threaded" else [vault, vault.by_asyncio, returns_awaitable]


def test_a_password_is_fetched_for_each_connect(harness: Harness, guarded: Guarded) -> None:
    for fetch in forms(harness, vault := Vault("right")):
        vault.asked_on.clear()
        queue = harness.queue(guarded.url("t_password"), password=fetch)
        harness.call(queue.open)
        assert len(vault.asked_on) == 1
        pool = harness.pool(queue)
        harness.call(queue.insert_task, harness.note(n=7))
        assert ran() == [7]
        harness.stop(pool)
        assert len(vault.asked_on) > 2  # for its claims, for its heart, and to listen
        if fetch is vault and harness.mode == "async":
            assert "test-loop" not in vault.asked_on


def test_a_refused_password_is_fetched_once_more(harness: Harness, guarded: Guarded) -> None:
    for fetch in forms(harness, vault := Vault("")):
        vault.passwords = ["expired", "right"]
        harness.call(harness.queue(guarded.url("t_password"), password=fetch).open)
        vault.passwords, vault.asked_on = ["expired"], []
        with pytest.raises(AccessRefused):
            harness.call(harness.queue(guarded.url("t_password"), password=fetch).open)
        assert len(vault.asked_on) == 2


@pytest.mark.parametrize(
    ("found", "line"),
    [
        (ValueError("hush"), "its callable raised ValueError"),
        (None, "its callable returned NoneType, not a str"),
        ("hush\0", "its callable returned a text with a NUL character"),
    ],
)
def test_a_password_that_cannot_be_fetched(harness: Harness, guarded: Guarded, found: Any, line: str) -> None:
    for fetch in forms(harness, Vault(found)):
        queue = harness.queue(guarded.url("t_password"), password=fetch)
        with pytest.raises(NotConnected) as refusal:
            harness.call(queue.insert_task, harness.note())
        assert str(refusal.value) == f"no password for the database: {line}"


def test_a_pool_outlives_a_vault_that_is_down(harness: Harness, guarded: Guarded) -> None:
    vault = Vault("right")
    pool_queue = harness.queue(guarded.url("t_password"), password=vault)
    harness.pool(pool_queue, listen=True)
    with psycopg.connect(guarded.superuser_url, autocommit=True) as connection:
        vault.passwords = [ConnectionError("down")]
        vault.asked_on.clear()
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 't_password'")
        eventually(lambda: vault.asked_on)
    with Queue(guarded.superuser_url) as queue:
        queue.insert_task(harness.note(n=9))
        vault.passwords = ["right"]
        assert ran() == [9]


@pytest.mark.parametrize("found", ["right", 7])
def test_what_is_no_callable_is_refused(harness: Harness, guarded: Guarded, found: Any) -> None:
    with pytest.raises(UsageError, match="takes a callable"):
        harness.queue(guarded.url("t_password"), password=found)


def test_two_passwords_are_refused(harness: Harness, guarded: Guarded) -> None:
    with pytest.raises(UsageError, match="leave one of them out") as refusal:
        harness.queue(guarded.url("t_password:hush"), password=Vault("right"))
    assert "hush" not in str(refusal.value)


def test_a_password_that_threads_cannot_fetch_is_refused(guarded: Guarded) -> None:
    with pytest.raises(UsageError, match="a plain function"):
        Queue(guarded.url("t_password"), password=Vault("right").by_asyncio)  # type: ignore[arg-type]
