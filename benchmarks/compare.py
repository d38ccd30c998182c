"""Runs `make bench`: both modes of Fang and other libraries from PyPI, in turn, on one Postgres."""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Final, Self

from benchmarks.compare_tables import tables, versions
from benchmarks.driver import Driver, PeerFailed, interpreter
from benchmarks.figures import waits
from benchmarks.redis import Redis
from benchmarks.report import Table, surroundings
from benchmarks.server import Server
from benchmarks.systems import MORE, SYSTEMS, Seen, System
from benchmarks.telling import tell

ROUNDS: Final = 5
SAMPLES: Final = 150
"""Single inserts in each round."""

WARMING: Final = 5
"""Inserts that are not measured, before those that are."""

SETTLING: Final = 2.0
"""Seconds without a run after which a worker that other processes insert for has nothing left to do."""


def chosen(title: str, *, more: bool, only: Sequence[str]) -> list[System]:
    """Returns the systems of ``compare``, or of ``redis``, whose names contain one of these words, if there are any."""
    if title == "redis":
        everyone = [system for system in MORE if system.on_redis]
    else:
        everyone = [*SYSTEMS, *(MORE if more else ())]
    return [system for system in everyone if not only or any(word in system.name for word in only)]


def compare(systems: Sequence[System], *, rounds: int, scale: float) -> Iterator[tuple[list[Table], list[str]]]:
    """Yields tables and facts of what was measured so far, after each step: a run takes long, and may be killed."""
    seen = {system.name: Seen() for system in systems}
    with Server() as server, Redis() as redis:
        version = server.version

        def facts(done: int) -> list[str]:
            return [*surroundings(version), versions(systems, seen), f"{done} rounds"]

        with _Field(server, redis, systems, seen) as field:
            for number in range(rounds):
                tell(f"round {number + 1} of {rounds}")
                order = random.sample(systems, len(systems))  # so that no system always runs after the same one
                for system in order:
                    field.drain(system, int(system.tasks * scale))
                for system in order:
                    field.pick_up(system, number)
                yield tables(systems, seen, scale), facts(number + 1)
        for system in systems:
            _hold(server, redis, system, seen[system.name], int(system.held * scale))
            yield tables(systems, seen, scale), facts(rounds)


class _Field:
    """A process for each system, with a database of its own. A system that fails is out, and the tables say why."""

    def __init__(self, server: Server, redis: Redis, systems: Sequence[System], seen: dict[str, Seen]) -> None:
        self._server = server
        self._redis = redis
        self._systems = systems
        self._seen = seen
        self._drivers: dict[str, Driver] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        for system in self._systems:
            seen = self._seen[system.name]
            try:
                self._drivers[system.name] = self._stack.enter_context(_start(self._server, self._redis, system, seen))
            except PeerFailed as error:
                seen.failures["start"] = str(error)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def drain(self, system: System, tasks: int) -> None:
        """Measures a bulk insert, and its drain."""

        def measure(driver: Driver, seen: Seen) -> None:
            inserting = driver.ask("insert", tasks=tasks)
            drained = driver.ask("drain", tasks=tasks)
            seen.inserts.append(tasks / inserting)
            seen.drains.append(tasks / drained["seconds"])
            seen.starts.append(drained["starting"])
            seen.stops.append(drained["stopping"])

        self._turn(system, "drain", measure)

    def pick_up(self, system: System, number: int) -> None:
        """Measures the pick-up of single inserts."""

        def measure(driver: Driver, seen: Seen) -> None:
            seen.latencies.append(driver.ask("latency", samples=SAMPLES, seed=number))

        def cross(driver: Driver, seen: Seen) -> None:
            chance = random.Random(number)
            gaps = [chance.uniform(0.02, 0.05) for _ in range(WARMING + SAMPLES)]
            with driver.twin() as other:
                other.ask("version")  # after its imports
                driver.begin("record", quiet=SETTLING)
                time.sleep(SETTLING / 2)
                begun = other.ask("trickle", gaps=gaps)
            seen.crossings.append(waits(begun[WARMING:], driver.result()))

        if system.idles:
            self._turn(system, "pick-up", measure)
        if system.crosses:
            self._turn(system, "pick-up across processes", cross)

    def _turn(self, system: System, what: str, measure: Callable[[Driver, Seen], None]) -> None:
        if system.name in self._drivers:
            try:
                measure(self._drivers[system.name], self._seen[system.name])
            except PeerFailed as error:
                self._seen[system.name].failures[what] = str(error)
                self._drivers.pop(system.name).close()


def _start(server: Server, redis: Redis, system: System, seen: Seen) -> Driver:
    python = interpreter(system.requirement, system.python) if system.requirement else None
    url = redis.database() if system.on_redis else server.database()
    driver = Driver(system.peer, url, python=python, setting=system.setting)
    try:
        seen.version, _ = driver.ask("version")
        driver.ask("install")
    except PeerFailed:
        driver.close()
        raise
    return driver


def _hold(server: Server, redis: Redis, system: System, seen: Seen, tasks: int) -> None:
    """Measures a drain under a held xmin, on a fresh database, as its dead rows stay."""
    if not tasks:
        return
    tell(f"{system.name} under a held xmin")
    try:
        with _start(server, redis, system, seen) as driver:
            driver.ask("insert", tasks=tasks)
            with server.held_xmin(driver.url):
                seen.held = driver.ask("drain", tasks=tasks, within=600)["course"]
    except PeerFailed as error:
        seen.failures["held xmin"] = str(error)
