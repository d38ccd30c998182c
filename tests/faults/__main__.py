"""``make faults``: every fault in every mode, and the tables of docs/faults.md.

Arguments choose among them: ``--backend sqlite`` writes the table of that backend, ids and modes (``F01 async``) leave
the page alone. ``SEED`` repeats a schedule.
"""

import os
import random
import sys
import tempfile
import traceback
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path

import pytest
from sqlalchemy import make_url

from fang_embedded import EmbeddedPostgres
from fang_postgres import migrate
from tests.faults import report
from tests.faults.matrix import MATRIX
from tests.faults.nursery import Nursery
from tests.faults.registry import ALL_MODES, Fault, Tried, attempt
from tests.faults.trial import Mix
from tests.fixtures import database


def main() -> int:
    seed = int(os.environ.get("SEED") or random.randrange(1_000_000))
    chosen = [(fault, mix) for fault in MATRIX for mix in fault.modes if _is_wanted(fault, mix, sys.argv[1:])]
    print(f"SEED={seed}", flush=True)
    with ExitStack() as stack:
        nursery = stack.enter_context(Nursery())
        server = Server(stack) if any(fault.backend == "postgres" for fault, _ in chosen) else None
        rows = [report.Row(fault, mix, _try(fault, mix, server, nursery, seed)) for fault, mix in chosen]
    print(report.table(rows), report.table_of_waits(rows), sep="\n\n")
    if not sys.argv[1:] or (sys.argv[1] == "--backend" and not sys.argv[3:]):
        report.write(rows, seed=seed, server=None if server is None else server.version)
    return 0 if all(row.holds for row in rows) else 1


class Server:
    """The Postgres of all faults that need no server of their own."""

    def __init__(self, stack: ExitStack) -> None:
        settings = {"search_path": "public", "max_connections": "300"}
        postgres = stack.enter_context(EmbeddedPostgres(durable=False, settings=settings))
        self.version = str(postgres.version)
        self._url = postgres.url
        template = stack.enter_context(contextmanager(database)(self._url))
        migrate.upgrade(template)
        self._template = make_url(template).database

    def database(self) -> AbstractContextManager[str]:
        """A new database with the tables; its URL."""
        return contextmanager(database)(self._url, self._template)


def _is_wanted(fault: Fault, mix: Mix, words: list[str]) -> bool:
    backend = words[words.index("--backend") + 1] if "--backend" in words else fault.backend
    words = [word for word in words if word not in {"--backend", backend}]
    modes = [word for word in words if word in ALL_MODES]
    ids = [word for word in words if word not in modes]
    is_named = not ids or fault.id in ids or fault.id.split()[0] in ids
    return fault.backend == backend and is_named and (not modes or mix in modes)


def _try(fault: Fault, mix: Mix, server: Server | None, nursery: Nursery, seed: int) -> Tried | None:
    tried: Tried | None = None
    try:
        with (
            tempfile.TemporaryDirectory() as directory,
            server.database() if server is not None and fault.backend == "postgres" else nullcontext("") as url,
        ):
            tried = attempt(fault, mix, url, Path(directory), nursery, seed)
    except (Exception, pytest.fail.Exception):  # noqa: BLE001 - the others are still to be tried
        traceback.print_exc()
    if tried is None:
        print(f"{fault.id}, {mix}: the trial failed, see above; SEED={seed}", flush=True)
        return None
    print(f"{fault.id}, {mix}: {tried.seconds:.1f} s", flush=True)
    for violation in tried.verdict.violations[:10]:
        print(f"    {violation}; SEED={seed}", flush=True)
    return tried


if __name__ == "__main__":
    sys.exit(main())
