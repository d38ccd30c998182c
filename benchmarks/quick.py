"""`make bench-quick REF=...`: the working tree beside another commit, both on one Postgres, in turn."""

import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from benchmarks.driver import ROOT, Driver
from benchmarks.report import Table, percentile, publish, spread, surroundings
from benchmarks.server import Server

PEERS: Final = ("fang_async", "fang_threaded")
HERE: Final = "working tree"
TASKS: Final = 20_000
SAMPLES: Final = 25

Key = tuple[str, str]  # what is measured, whose


def main(*, ref: str, rounds: int) -> None:
    """Prints how the working tree does, as a ratio to the commit: above 1 is faster."""
    seen: dict[Key, list[float]] = {}
    with ExitStack() as stack:
        server = stack.enter_context(Server())
        trees = {HERE: ROOT, ref: stack.enter_context(checkout(ref))}
        drivers = {
            (peer, name): stack.enter_context(_start(server, peer, tree))
            for peer in PEERS
            for name, tree in trees.items()
        }
        for number in range(rounds):
            print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
            for (peer, name), driver in random.sample(list(drivers.items()), len(drivers)):
                for what, value in _measure(driver, idle=number % 2 == 0).items():
                    seen.setdefault((f"{peer}: {what}", name), []).append(value)
        facts = [*surroundings(server.version), f"{rounds} rounds, {TASKS:,} tasks, 10 workers"]
    publish("quick", [_table(seen, ref)], facts)


@contextmanager
def checkout(ref: str) -> Iterator[Path]:
    """That commit's files in a temporary worktree."""
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
    if idle:  # it takes long, and varies less
        figures["pick-up p50, ms"] = percentile(driver.ask("latency", samples=SAMPLES, seed=0), 50)
    return figures


def _table(seen: dict[Key, list[float]], ref: str) -> Table:
    table = Table(f"{HERE} beside {ref}", ("", HERE, ref, "faster by the factor"))
    for what, name in sorted(seen):
        if name == HERE:
            mine, theirs = seen[what, HERE], seen[what, ref]
            pairs = zip(mine, theirs, strict=True)  # of one round: the machine's speed drifts
            ratios = [there / here if what.endswith("ms") else here / there for here, there in pairs]
            table.rows.append((what, spread(mine), spread(theirs), spread(ratios)))
            table.raw[what] = {HERE: mine, ref: theirs, "median": statistics.median(ratios)}
    return table
