"""``make faults``: every fault in every mode, and the tables of docs/faults.md.

Arguments choose among them, see ``--help``; ids and modes (``F01 async``) leave the page alone. ``SEED`` repeats a
schedule.
"""

import os
import random
import shutil
import sys
import tempfile
import traceback
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path

import pytest
from sqlalchemy import make_url

from fang_embedded import EmbeddedPostgres
from fang_postgres import migrate
from tests import clusters
from tests.faults import report
from tests.faults.choice import choose
from tests.faults.matrix import MATRIX
from tests.faults.nursery import Nursery
from tests.faults.registry import Fault, Tried, attempt
from tests.faults.trial import Mix
from tests.fixtures import database


def main() -> int:
    chosen, is_whole, kept = choose(MATRIX, sys.argv[1:])
    seed = int(os.environ.get("SEED") or random.randrange(1_000_000))
    print(f"SEED={seed}", flush=True)
    with ExitStack() as stack:
        stack.callback(clusters.remove)
        nursery = stack.enter_context(Nursery())
        server = Server(stack) if any(fault.backend == "postgres" for fault, _ in chosen) else None
        rows = [report.Row(fault, mix, _try(fault, mix, server, nursery, seed, kept)) for fault, mix in chosen]
    print(report.table(rows), report.table_of_waits(rows), sep="\n\n")
    if is_whole:
        report.write(rows, seed=seed, server=None if server is None else server.version)
    return 0 if all(row.holds for row in rows) else 1


class Server:
    """The Postgres of all faults that need no server of their own."""

    def __init__(self, stack: ExitStack) -> None:
        settings = {"search_path": "public", "max_connections": "300"}
        postgres = stack.enter_context(EmbeddedPostgres(durable=False, bin_dir=clusters.bin_dir(), settings=settings))
        self.version = str(postgres.version)
        self._url = postgres.url
        template = stack.enter_context(contextmanager(database)(self._url))
        migrate.upgrade(template)
        self._template = make_url(template).database

    def database(self) -> AbstractContextManager[str]:
        """A new database with the tables; its URL."""
        return contextmanager(database)(self._url, self._template)


def _try(fault: Fault, mix: Mix, server: Server | None, nursery: Nursery, seed: int, kept: Path | None) -> Tried | None:
    tried: Tried | None = None
    with tempfile.TemporaryDirectory() as directory:
        try:
            with server.database() if server is not None and fault.backend == "postgres" else nullcontext("") as url:
                tried = attempt(fault, mix, url, Path(directory), nursery, seed)
        except (Exception, pytest.fail.Exception):  # noqa: BLE001 - the others are still to be tried
            traceback.print_exc()
        if kept is not None and (tried is None or tried.verdict.violations):
            _keep(Path(directory), kept / f"{fault.id}, {mix}")
    if tried is None:
        print(f"{fault.id}, {mix}: the trial failed, see above; SEED={seed}", flush=True)
        return None
    print(f"{fault.id}, {mix}: {tried.seconds:.1f} s", flush=True)
    for violation in tried.verdict.violations[:10]:
        print(f"    {violation}; SEED={seed}", flush=True)
    return tried


def _keep(directory: Path, folder: Path) -> None:
    """Copies the files; there are sockets as well."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in filter(Path.is_file, directory.iterdir()):
        shutil.copy(file, folder)


if __name__ == "__main__":
    sys.exit(main())
