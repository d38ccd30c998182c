"""``make faults``: every fault in every mode, and the tables of docs/faults.md.

Arguments choose among them by id or mode (``F01 async``), and leave the page alone. ``SEED`` repeats a schedule.
"""

import os
import random
import sys
import tempfile
import traceback
from pathlib import Path

import pytest
from sqlalchemy import make_url

from fang_embedded import EmbeddedPostgres
from fang_postgres import migrate
from tests.faults import report
from tests.faults.matrix import MATRIX
from tests.faults.nursery import Nursery
from tests.faults.registry import Fault, Tried, attempt
from tests.faults.trial import Mix
from tests.fixtures import database


def main() -> int:
    seed = int(os.environ.get("SEED") or random.randrange(1_000_000))
    chosen = [(fault, mix) for fault in MATRIX for mix in fault.modes if _is_wanted(fault, mix, sys.argv[1:])]
    print(f"SEED={seed}", flush=True)
    settings = {"search_path": "public", "max_connections": "300"}
    with EmbeddedPostgres(durable=False, settings=settings) as server, Nursery() as nursery:
        templates = database(server.url)
        template = next(templates)
        migrate.upgrade(template)
        rows = [report.Row(fault, mix, _try(fault, mix, server.url, template, nursery, seed)) for fault, mix in chosen]
        version = str(server.version)
    print(report.table(rows), report.table_of_waits(rows), sep="\n\n")
    if not sys.argv[1:]:
        report.write(rows, seed=seed, server=version)
    return 0 if all(row.holds for row in rows) else 1


def _is_wanted(fault: Fault, mix: Mix, words: list[str]) -> bool:
    ids = [word for word in words if word.startswith("F")]
    modes = [word for word in words if word not in ids]
    return (not ids or fault.id in ids or fault.id.split()[0] in ids) and (not modes or mix in modes)


def _try(fault: Fault, mix: Mix, server_url: str, template: str, nursery: Nursery, seed: int) -> Tried | None:
    tried: Tried | None = None
    for url in database(server_url, make_url(template).database):
        with tempfile.TemporaryDirectory() as directory:
            try:
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
