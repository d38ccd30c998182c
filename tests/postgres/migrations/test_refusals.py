"""What goes wrong with migrations is said in one line."""

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from sqlalchemy import Engine, make_url

from fang_cli.commands import fang
from fang_core.errors import AccessRefused, BackendError, BackendUnavailable, SchemaError, UsageError
from fang_embedded import EmbeddedPostgres
from fang_postgres import migrate
from fang_postgres.names import HEAD
from tests import clusters
from tests.postgres.migrations.catalogs import DEADLINE, engine_for, everything, run


def assert_one_quiet_line(error: BackendError) -> None:
    assert "\n" not in str(error)
    assert "hush" not in str(error)


def test_missing_tables_say_what_to_run(engine: Engine) -> None:
    with pytest.raises(SchemaError, match=r"^table fang\.fang_tasks is missing: run `fang migrate`$"):
        migrate.check(engine)
    with pytest.raises(SchemaError, match=r"run `fang migrate --schema jobs`$"):
        migrate.check(engine, schema="jobs")


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+asyncpg", "postgresql+psycopg"])
def test_any_spelling_of_the_url(database_url: str, scheme: str) -> None:
    migrate.upgrade(database_url.replace("postgresql", scheme, 1))
    migrate.check(make_url(database_url))


@pytest.mark.parametrize("url", ["", "nonsense", "mysql://me:hush@host/app"])
def test_an_unusable_url(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        migrate.upgrade(url)
    assert "hush" not in str(caught.value)


def test_unusable_names(engine: Engine) -> None:
    for call in (migrate.upgrade, migrate.downgrade, migrate.current):
        with pytest.raises(UsageError, match="schema"):
            call(engine, schema='x"; DROP TABLE y')
    with pytest.raises(UsageError, match="revision"):
        migrate.upgrade(engine, revision="nonsense")
    with pytest.raises(UsageError, match="revision"):
        migrate.sql(from_revision="nonsense")


def test_a_database_that_is_down(tmp_path: Path) -> None:
    for where in ("127.0.0.1:1/app", f"/app?host={tmp_path}"):
        with pytest.raises(BackendUnavailable, match=r"^the database does not answer: ") as caught:
            migrate.upgrade(f"postgresql://me:hush@{where}")
        assert_one_quiet_line(caught.value)


@pytest.mark.parametrize("what", ["username", "database"])
def test_a_role_or_a_database_that_does_not_exist(database_url: str, what: str) -> None:
    changed: dict[str, Any] = {what: "nothing_of_that_name"}
    with pytest.raises(AccessRefused, match=r"check the URL's user, password and database$") as caught:
        migrate.check(make_url(database_url).set(password="hush", **changed))
    assert_one_quiet_line(caught.value)


def test_a_wrong_password() -> None:
    with (
        server_that_refuses('password authentication failed for user "me"') as port,
        pytest.raises(AccessRefused, match="password authentication failed") as caught,
    ):
        migrate.check(f"postgresql://me:hush@127.0.0.1:{port}/app?sslmode=disable&gssencmode=disable")
    assert_one_quiet_line(caught.value)


def test_rights(engine: Engine, database_url: str) -> None:
    role = f"fang_test_{os.getpid()}_{time.monotonic_ns()}"
    run(engine, f"CREATE ROLE {role}")
    without_rights = engine_for(database_url, f"-c role={role}")
    try:
        with pytest.raises(AccessRefused, match="grant the role its rights on schema fang") as caught:
            migrate.upgrade(without_rights)
        assert_one_quiet_line(caught.value)
        migrate.upgrade(engine)
        with pytest.raises(AccessRefused, match="grant"):
            migrate.check(without_rights)

        # A schema made for it beforehand is enough: it may not create any, and need not.
        run(engine, f"CREATE SCHEMA jobs; GRANT ALL ON SCHEMA jobs TO {role}")
        migrate.upgrade(without_rights, schema="jobs")
        migrate.check(without_rights, schema="jobs")
        migrate.downgrade(without_rights, schema="jobs")
        assert [found for found in everything(engine) if "jobs" in found] == ["schema jobs"]
    finally:
        run(engine, f"DROP OWNED BY {role}; DROP ROLE {role}")


@contextmanager
def server_that_refuses(message: str) -> Iterator[int]:
    """Listens as Postgres does, and answers every startup message with a FATAL error."""
    fields = b"SFATAL\0VFATAL\0C28P01\0M" + message.encode() + b"\0\0"
    listener = socket.create_server(("127.0.0.1", 0))

    def refuse() -> None:
        client, _ = listener.accept()
        with client:
            client.recv(4096)
            client.sendall(b"E" + (len(fields) + 4).to_bytes(4) + fields)

    thread = threading.Thread(target=refuse)
    thread.start()
    with listener:
        yield listener.getsockname()[1]
        thread.join(DEADLINE)


def test_a_standby_can_be_asked() -> None:
    """It takes no writes; what is there can be read, and is good enough."""
    with TemporaryDirectory(prefix="fang-standby-") as directory:
        where = Path(directory) / "cluster"
        Path(directory).chmod(0o755)  # the server may run as another user
        with EmbeddedPostgres(directory=where, bin_dir=clusters.bin_dir()) as primary:
            migrate.upgrade(primary.url)
        (where / "data" / "standby.signal").touch()
        with EmbeddedPostgres(directory=where, bin_dir=clusters.bin_dir()) as standby:
            migrate.check(standby.url)
            assert migrate.current(standby.url) == HEAD
            assert not fang.main(["migrate", "--check", "--database-url", standby.url], standalone_mode=False)
            assert not fang.main(["status", "--database-url", standby.url], standalone_mode=False)
            with pytest.raises(BackendError, match="connect to a server that takes writes"):
                migrate.upgrade(standby.url)
