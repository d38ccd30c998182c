"""`make bench-all`: runs the scenarios."""

import sys
from collections.abc import Sequence

from benchmarks.driver import PeerFailed
from benchmarks.report import Table, publish, surroundings
from benchmarks.scenarios import SCENARIOS, Bench, draining, idling, inserting, working
from benchmarks.server import Server

__all__ = ("draining", "idling", "inserting", "main", "working")  # imported, they enter their scenarios


def main(*, only: Sequence[str], scale: float, huge: bool, write: bool) -> None:
    """Measures one after the other, and publishes their tables; one that fails says why."""
    tables: list[Table] = []
    with Server() as server:
        bench = Bench(server, scale, huge)
        for name, scenario in SCENARIOS.items():
            if not only or name in only:
                print(name, file=sys.stderr, flush=True)
                try:
                    tables.append(scenario(bench))
                except PeerFailed as error:
                    tables.append(Table(name, ("failed",), notes=[str(error)]))
        facts = surroundings(server.version)
    publish("all", tables, facts, write=write)
