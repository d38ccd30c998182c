"""`make bench-all`: a scenario for each question, by name. A new one is a function under ``@scenario``."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from benchmarks.driver import Driver
from benchmarks.report import Table
from benchmarks.server import Server


@dataclass(frozen=True)
class Bench:
    """What a scenario is given."""

    server: Server
    scale: float
    huge: bool

    def tasks(self, count: int) -> int:
        """So many, or fewer where the whole run is scaled down."""
        return max(50, int(count * self.scale))

    @contextmanager
    def system(self, peer: str, **setting: Any) -> Iterator[Driver]:
        """A process on a database of its own, with the tables."""
        url = self.server.database()
        try:
            with Driver(peer, url, setting=setting) as driver:
                driver.ask("install")
                yield driver
        finally:
            self.server.drop(url)


Scenario = Callable[[Bench], Table]
SCENARIOS: Final[dict[str, Scenario]] = {}


def scenario(name: str) -> Callable[[Scenario], Scenario]:
    """Enters a scenario under this name."""

    def enter(function: Scenario) -> Scenario:
        SCENARIOS[name] = function
        return function

    return enter
