"""Python's cyclic garbage collector, and code for which it has nothing to do."""

import gc
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def uncollected(work: Callable[[], T]) -> T:
    """What ``work`` returns; the collector rests meanwhile. For milliseconds of making objects that are all kept.

    The collector looks for cycles whenever some hundreds of objects more are there than before, now and then among all
    that the application holds. Where rows are made by the thousand none of them is garbage, and its walks cost a third
    of a bulk insert. It is a switch of the whole process: several threads may be here at once, and the first to leave
    turns it on again. Where the application has turned it off it stays so.
    """
    was_on = gc.isenabled()
    try:
        gc.disable()
        return work()
    finally:
        if was_on:
            gc.enable()
