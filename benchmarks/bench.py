"""Defines the argument of the scenarios of `make bench-all`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from benchmarks.driver import Driver
from benchmarks.report import Table
from benchmarks.server import Server


@dataclass(frozen=True)
class Bench:
    """A server, and the size of the measurements.

    Attributes:
        scale: a factor for the numbers of tasks.
        huge: whether to try sizes that take the better part of an hour.
    """

    server: Server
    scale: float = 1.0
    huge: bool = False

    def tasks(self, count: int) -> int:
        """Returns this number of tasks times the scale of the run."""
        return max(50, int(count * self.scale))

    @contextmanager
    def system(self, peer: str, **setting: Any) -> Iterator[Driver]:
        """Starts a process on a database of its own, with the tables."""
        url = self.server.database()
        try:
            with Driver(peer, url, setting=setting) as driver:
                driver.ask("install")
                yield driver
        finally:
            self.server.drop(url)


Scenario = Callable[[Bench], Table]
