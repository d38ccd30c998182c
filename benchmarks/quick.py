"""Runs `make bench-quick REF=...`: the working tree and another commit, both on one Postgres, in turn."""

import argparse
import random
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from benchmarks.driver import ROOT, Driver
from benchmarks.figures import percentile, spread
from benchmarks.report import Table, publish, surroundings
from benchmarks.server import Server
from benchmarks.telling import tell

PEERS: Final = ("fang_async", "fang_threaded")
HERE: Final = "working tree"
TASKS: Final = 20_000
SAMPLES: Final = 40

Key = tuple[str, str]  # what is measured, whose


def main() -> None:
    """Compares the working tree with another commit, in less than a minute."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quick", description=main.__doc__)
    parser.add_argument("ref", help="a commit, branch or tag")
    parser.add_argument("--seconds", type=float, default=40, help="no further round begins after this time")
    options = parser.parse_args()
    table, facts = quick(options.ref, options.seconds)
    print("\n".join(f"- {fact}" for fact in facts), "", table.markdown(), sep="\n")
    publish("quick", [table], facts)


def quick(ref: str, seconds: float) -> tuple[Table, list[str]]:
    """Returns the working tree's figures as a ratio to the commit's: above 1 it is faster."""
    seen: dict[Key, list[float]] = {}
    until = time.monotonic() + seconds
    with ExitStack() as stack:
        server = stack.enter_context(Server())
        trees = {HERE: ROOT, ref: stack.enter_context(checkout(ref))}
        drivers = {
            (peer, name): stack.enter_context(_start(server, peer, tree))
            for peer in PEERS
            for name, tree in trees.items()
        }
        rounds = 0
        while not rounds or time.monotonic() < until:
            tell(f"round {rounds + 1}")
            # Both trees of a mode right after each other: the machine's speed drifts within a round too.
            for peer, name in (each for peer in PEERS for each in random.sample([(peer, name) for name in trees], 2)):
                for what, value in _measure(drivers[peer, name], idle=rounds % 3 == 0).items():
                    seen.setdefault((f"{peer}: {what}", name), []).append(value)
            rounds += 1
        facts = [*surroundings(server.version), f"{rounds} rounds, {TASKS:,} tasks, 10 workers"]
    return _table(seen, ref), facts


@contextmanager
def checkout(ref: str) -> Iterator[Path]:
    """Checks out the commit's files in a temporary worktree."""
    with tempfile.TemporaryDirectory() as parent:
        tree = Path(parent, "tree")
        _git("worktree", "add", "--quiet", "--detach", str(tree), ref)
        try:
            yield tree
        finally:
            _git("worktree", "remove", "--force", str(tree))


def _git(*arguments: str) -> None:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr.strip() or f"git {arguments[0]} failed")


def _start(server: Server, peer: str, tree: Path) -> Driver:
    driver = Driver(peer, server.database(), tree=tree, setting={"workers": 10})
    driver.ask("install")
    imported = driver.ask("imported_from")
    assert Path(imported).is_relative_to(tree), f"{peer} imports {imported}, not from {tree}"
    return driver


def _measure(driver: Driver, *, idle: bool) -> dict[str, float]:
    inserting = driver.ask("insert", tasks=TASKS)
    drained = driver.ask("drain", tasks=TASKS)
    figures = {"insert_tasks, rows/s": TASKS / inserting, "drain, tasks/s": TASKS / drained["seconds"]}
    if idle:  # this takes long, and varies less
        figures["pick-up p50, ms"] = percentile(driver.ask("latency", samples=SAMPLES, seed=0), 50)
    return figures


def _table(seen: dict[Key, list[float]], ref: str) -> Table:
    table = Table("quick", f"The {HERE} beside {ref}", ("", HERE, ref, "faster by the factor"))
    for what, name in sorted(seen):
        if name == HERE:
            mine, theirs = seen[what, HERE], seen[what, ref]
            pairs = zip(mine, theirs, strict=True)  # of one round: the machine's speed drifts
            ratios = [there / here if what.endswith("ms") else here / there for here, there in pairs]
            table.rows.append((what, spread(mine), spread(theirs), spread(ratios)))
            table.raw[what] = {HERE: mine, ref: theirs, "median": statistics.median(ratios)}
    return table


if __name__ == "__main__":
    main()
