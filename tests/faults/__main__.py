"""``make faults``."""

import os
import random
import statistics
import sys
import tempfile
from pathlib import Path

from sqlalchemy import make_url
from fang_cli.embedded import EmbeddedPostgres
from fang_postgres import migrate
from tests.faults.matrix import FAULTS
from tests.faults.nursery import Nursery
from tests.faults.registry import attempt
from tests.fixtures import database


def main() -> None:
    seed = int(os.environ.get("SEED") or random.randrange(1_000_000))
    print("seed", seed)
    wanted = sys.argv[1:]
    with EmbeddedPostgres(durable=False, settings={"search_path": "public", "max_connections": "300"}) as server, Nursery() as nursery:
        templates = database(server.url)
        template = next(templates)
        migrate.upgrade(template)
        for fault in FAULTS.values():
            for mix in fault.modes:
                if wanted and not any(each in {fault.id, fault.id.split()[0], mix} for each in wanted): continue
                for url in database(server.url, make_url(template).database):
                    with tempfile.TemporaryDirectory() as d:
                        try:
                            t = attempt(fault, mix, url, Path(d), nursery, seed)
                        except AssertionError as error:
                            print(fault.id, mix, "FAILED", error)
                            continue
                        print(fault.id, mix, f"{t.seconds:.1f}s", [f"{r:.1f}" for r in t.recoveries], [str(v) for v in t.violations[:5]], len(t.violations), flush=True)


main()
