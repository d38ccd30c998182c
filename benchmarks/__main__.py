"""Runs `make bench` and `make bench-all`: `python -m benchmarks NAME...`."""

import argparse
import os
import time
from collections.abc import Sequence
from typing import Final

from benchmarks import compare
from benchmarks.bench import Bench
from benchmarks.driver import ROOT, PeerFailed
from benchmarks.report import RESULTS, Table, publish, surroundings
from benchmarks.scenarios import GROUPS, SCENARIOS
from benchmarks.server import Server
from benchmarks.telling import tell

COMPARISONS: Final = ("compare", "redis")


def main() -> None:
    """Runs the named benchmarks, prints tables, and writes them to ``benchmarks/results``."""
    options = _parser().parse_args()
    names = scenarios_of(options.names)
    for title in COMPARISONS:
        if title in options.names:
            _compare(title, options)
    if names:
        _measure(names, options)
    tell(f"results are in {RESULTS.relative_to(ROOT)}")


def scenarios_of(names: Sequence[str]) -> list[str]:
    """Returns the names of the scenarios to run."""
    if "all" in names:
        return list(SCENARIOS)
    wanted = {*names, *(name for group in names for name in GROUPS.get(group, ()))}
    return [name for name in SCENARIOS if name in wanted]


def title_of(names: Sequence[str]) -> str:
    """Returns under which name the results are kept: ``all`` and the groups have a place in the document, too."""
    measured = set(names).difference(COMPARISONS)
    if "all" in measured:
        return "all"
    (title,) = measured if len(measured) == 1 else ("some",)
    return title if title in GROUPS else "some"


def _compare(title: str, options: argparse.Namespace) -> None:
    """Compares systems; publishes each result at once, and prints all at the end."""
    tables: list[Table] = []
    systems = compare.chosen(title, more=options.more, only=options.only)
    for tables, facts in compare.compare(systems, rounds=options.rounds, scale=options.scale):
        publish(title, tables, facts, write=options.write)
    _show(tables)


def _measure(names: Sequence[str], options: argparse.Namespace) -> None:
    """Runs one scenario after the other, and publishes each result at once; a scenario that fails says why."""
    tables: list[Table] = []
    title = title_of(options.names)
    with Server() as server:
        bench = Bench(server, options.scale, options.huge)
        for name in names:
            tell(name)
            load, began = os.getloadavg()[0], time.monotonic()
            try:
                tables.append(SCENARIOS[name](bench))
            except PeerFailed as error:
                tables.append(Table(name, name, ("failed",), notes=[str(error)]))
            took = f"{time.monotonic() - began:.0f} s"
            tables[-1].notes.append(f"load average {load:.1f} before, {os.getloadavg()[0]:.1f} after {took}")
            _show(tables[-1:])
            publish(title, tables, surroundings(server.version), write=options.write and title != "some")


def _show(tables: Sequence[Table]) -> None:
    for table in tables:
        print(table.markdown(), flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=main.__doc__)
    parser.add_argument(
        "names",
        nargs="+",
        choices=[*COMPARISONS, "all", *GROUPS, *SCENARIOS],
        metavar="NAME",
        help="compare (ours with others from PyPI), redis (those on Redis alone), all (of the following), "
        + "".join(f"{group} ({', '.join(names)}), " for group, names in GROUPS.items())
        + ", ".join(SCENARIOS),
    )
    scale = float(os.environ.get("SCALE", "1"))
    parser.add_argument("--scale", type=float, default=scale, help="factor for numbers of tasks; $SCALE if not given")
    parser.add_argument("--rounds", type=int, default=compare.ROUNDS, help="of compare")
    parser.add_argument("--more", action="store_true", help="systems of compare: also slower ones, and those on Redis")
    parser.add_argument("--only", nargs="+", default=[], metavar="WORD", help="systems of compare with such names")
    parser.add_argument("--huge", action="store_true", help="also a backlog, and kept rows, of ten million")
    parser.add_argument("--write", action="store_true", help="write the tables to docs/benchmarks.md, too")
    return parser


if __name__ == "__main__":
    main()
