"""Answers ``/live`` and ``/ready`` of a process with pools."""

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from fang_core.pool.telling.health import PoolHealth
from fang_telemetry.http import Reply


class HasHealth(Protocol):
    """A pool of either mode."""

    def health(self) -> PoolHealth:
        """Says whether it lives and is ready."""
        ...


def live(pools: Mapping[str, HasHealth]) -> Reply:
    """Returns 200 if all pools live, or have not started: their hearts try to beat, and their event loops answer."""
    return verdict(f"{name}: {health.reason}" for name, health in _healths(pools) if not health.live)


def ready(pools: Mapping[str, HasHealth]) -> Reply:
    """Returns 200 if all pools have claimed, or found nothing, when they last had to, or are busy."""
    return verdict(f"{name}: {health.reason}" for name, health in _healths(pools) if not health.ready)


def pages(pools: Mapping[str, HasHealth]) -> dict[str, Callable[[], Reply]]:
    """Returns the pages of these pools, by their paths."""
    return {"/live": lambda: live(pools), "/ready": lambda: ready(pools)}


def verdict(faults: Iterable[str]) -> Reply:
    """Returns 503 with a line for each fault, 200 if there are none."""
    lines = "".join(f"{fault}\n" for fault in faults)
    return Reply(503, lines.encode()) if lines else Reply(200, b"ok\n")


def _healths(pools: Mapping[str, HasHealth]) -> Iterable[tuple[str, PoolHealth]]:
    return ((name, pool.health()) for name, pool in pools.items())
