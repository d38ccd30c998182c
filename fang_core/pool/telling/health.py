"""Judges a pool's health, for the probes of a supervisor such as Kubernetes. Pure: all facts are arguments.

A pool lives as long as its own threads and its event loop go on. A database that does not answer is no death: the pool
that is started in its place could not work either, and the runs that go on would be lost. The pool is then not ready.
"""

from dataclasses import dataclass
from typing import Final

HEART_LATE: Final = 30.0
"""Seconds without a try to beat after which the heart hangs: a try gives up a beat and a connect after 5 s each, and
may take tasks back from dead pools."""

LOOP_LATE: Final = 15.0
"""Seconds without an answer after which the event loop hangs: it is to run tasks, none of which blocks it."""

CLAIM_LATE: Final = 30.0
"""Seconds without an answer after which a claim hangs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vitals:
    """Holds what is known of a pool that has started. Seconds are counted back from now.

    Attributes:
        heart: since the heart last tried to beat.
        loop: for how long the event loop has not answered; 0 of a pool of threads.
        cut_off: whether the last answer to a beat is so long ago that other pools may take this one for dead.
        stopping: whether the pool claims no more.
        claims: how many claims were answered.
        failing: for how long claims have failed; None if the last one was answered.
        claiming: for how long the present turn of the claimer has gone on; None while it rests on purpose, between two
            looks or because its workers are busy.
    """

    heart: float
    loop: float
    cut_off: bool
    stopping: bool
    claims: int
    failing: float | None
    claiming: float | None


@dataclass(frozen=True, slots=True)
class PoolHealth:
    """Says whether a pool lives and is ready.

    Attributes:
        live: whether its heart tries to beat, and its event loop answers. If not, start the process again.
        ready: whether it lives, and takes tasks: it has claimed, or found nothing, when it last had to, or all of its
            workers are busy.
        reason: why it does not live or is not ready; empty if it is.
    """

    live: bool
    ready: bool
    reason: str = ""


NOT_RUNNING: Final = PoolHealth(True, False, "it is not running")


def health(vitals: Vitals) -> PoolHealth:
    """Returns what is known as an answer."""
    if vitals.heart > HEART_LATE:
        return PoolHealth(False, False, f"its heart has not tried to beat for {vitals.heart:.0f} s")
    if vitals.loop > LOOP_LATE:
        return PoolHealth(False, False, f"its event loop has been blocked for {vitals.loop:.0f} s")
    reason = _why_not_ready(vitals)
    return PoolHealth(True, not reason, reason)


def _why_not_ready(vitals: Vitals) -> str:
    if vitals.stopping:
        return "it stops"
    if vitals.failing is not None:
        return f"it could not claim for {vitals.failing:.0f} s: the database does not answer, or refuses"
    if vitals.cut_off:
        return "the database does not answer its heart"
    if vitals.claiming is not None and vitals.claiming > CLAIM_LATE:
        return f"its claim has had no answer for {vitals.claiming:.0f} s"
    return "" if vitals.claims else "it has not claimed yet"
