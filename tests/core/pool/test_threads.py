"""What the services of a pool of threads run on."""

import asyncio
import signal
import threading

import pytest

from fang_core.driving import drive
from fang_core.pool.threads import ThreadEvent
from tests.patience import PATIENT


def test_a_wait_ends_when_the_event_is_set_before_or_meanwhile() -> None:
    event = ThreadEvent()
    event.set()
    assert event.wait(None)
    event.clear()
    threading.Timer(0.05, event.set).start()
    assert event.wait(PATIENT)


def test_a_wait_for_an_event_that_was_cleared_ends_with_its_time() -> None:
    event = ThreadEvent()
    event.set()
    event.clear()
    assert not event.wait(0.01)


def test_wakes_that_nothing_waited_for_do_not_pile_up() -> None:
    event = ThreadEvent()
    for _ in range(100):
        event.set()
        event.clear()
    assert event._wakes.qsize() <= 1


def test_a_signal_handler_may_set_it_while_its_own_thread_does() -> None:
    event, signals = ThreadEvent(), []

    def handle(*_: object) -> None:
        signals.append(None)
        event.set()

    former = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.0001, 0.0001)
    try:
        while len(signals) < 500:
            event.set()
            event.clear()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)


def test_a_service_that_suspends_is_a_mistake_that_shows() -> None:
    async def suspends() -> None:
        await asyncio.sleep(0)

    with pytest.raises(RuntimeError, match="suspended"):
        drive(suspends())
