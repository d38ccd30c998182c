"""Whom a signal reaches while pools run, and what becomes of its handlers."""

import asyncio
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fang_core.pool import signals
from fang_core.pool.signals import StopSignals
from tests.patience import PATIENT

NUMBERS = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
ROOT = Path(__file__).parents[3]


class Recorded(StopSignals):
    """Notes what it is asked for."""

    def __init__(self, **options: Any) -> None:
        super().__init__(lambda: self.noted.append("first"), **options)
        self.noted: list[str] = []

    def wake(self) -> None:
        self.noted.append("wake")


@pytest.fixture(autouse=True)
def given_back() -> Iterator[None]:
    former = {number: signal.getsignal(number) for number in signals.HANDLED}
    yield
    for number, handler in former.items():
        signal.signal(number, handler)


@pytest.fixture
def applications() -> list[int]:
    """The application has handlers of its own, which note the signals that reach them."""
    came: list[int] = []
    for number in signals.HANDLED:
        signal.signal(number, lambda number, _: came.append(number))
    return came


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(signals, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    numbers: list[int] = []
    monkeypatch.setattr(signals, "end_now", numbers.append)
    return numbers


@NUMBERS
def test_the_first_one_wakes_and_the_handlers_are_given_back(number: signal.Signals) -> None:
    former = signal.getsignal(number)
    with Recorded() as entered:
        assert not entered.ends_process
        signal.raise_signal(number)
        assert entered.noted == ["first", "wake"]
        assert entered.ends_process
    assert signal.getsignal(number) == former


def test_another_one_counts_from_a_second_on(clock: list[float], ended: list[int]) -> None:
    with Recorded() as entered:
        for later in (0.0, 0.001, 0.5, 0.498):
            clock[0] += later
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGINT)
        assert (ended, entered.noted) == ([], ["first", "wake"])
        clock[0] = 101.0
        signal.raise_signal(signal.SIGINT)
    assert ended == [signal.SIGINT]


@NUMBERS
def test_handlers_of_the_application_are_called_too_and_decide(
    applications: list[int], clock: list[float], ended: list[int], number: signal.Signals
) -> None:
    with Recorded() as entered:
        signal.raise_signal(number)
        assert (entered.noted, applications) == (["wake"], [number])  # on_first would bound the life of the process
        clock[0] += 5
        signal.raise_signal(number)
        assert (ended, applications, entered.ends_process) == ([], [number, number], False)
    signal.raise_signal(number)
    assert applications == [number] * 3


def test_what_an_applications_handler_raises_is_raised(applications: list[int]) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
    entered = Recorded()
    with pytest.raises(SystemExit, match="7"), entered:
        signal.raise_signal(signal.SIGTERM)
    assert entered.noted == ["wake"]


def test_one_that_does_not_share_keeps_signals_to_itself(
    applications: list[int], clock: list[float], ended: list[int]
) -> None:
    with Recorded(shares=False) as entered:
        signal.raise_signal(signal.SIGTERM)
        clock[0] += 1
        signal.raise_signal(signal.SIGTERM)
    assert (entered.noted, entered.ends_process, applications, ended) == (
        ["first", "wake"],
        True,
        [],
        [signal.SIGTERM],
    )


def test_pythons_own_handlers_of_ctrl_c_are_no_applications() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)

    async def main() -> list[str]:
        assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
        with Recorded() as entered:
            signal.raise_signal(signal.SIGINT)
            await asyncio.sleep(0)  # here the main task would be cancelled
        assert entered.ends_process
        return entered.noted

    assert asyncio.run(main()) == ["first", "wake"]
    with Recorded() as entered:
        signal.raise_signal(signal.SIGINT)
    assert entered.ends_process


def test_a_handler_of_the_loop_is_called_too() -> None:
    async def main() -> None:
        came = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, came.set)
        with Recorded() as entered:
            signal.raise_signal(signal.SIGTERM)
            await asyncio.wait_for(came.wait(), PATIENT)
        came.clear()
        signal.raise_signal(signal.SIGTERM)
        await asyncio.wait_for(came.wait(), PATIENT)
        assert (entered.noted, entered.ends_process) == (["wake"], False)

    asyncio.run(main())


def test_a_handler_that_was_set_later_stays(applications: list[int]) -> None:
    later: list[int] = []
    with Recorded() as entered:
        ours = signal.signal(signal.SIGTERM, lambda number, _: later.append(number))
    signal.raise_signal(signal.SIGTERM)
    assert (entered.noted, applications, later) == ([], [], [signal.SIGTERM])
    signal.signal(signal.SIGTERM, ours)  # as uvicorn does at its end, with what it found
    signal.raise_signal(signal.SIGTERM)
    assert (entered.noted, applications) == ([], [signal.SIGTERM])


def test_a_handler_that_was_set_later_may_call_the_former_one(applications: list[int]) -> None:
    with Recorded() as entered:
        ours: Any = signal.getsignal(signal.SIGTERM)
        signal.signal(signal.SIGTERM, lambda number, frame: (ours(number, frame), None)[1])
        with Recorded() as inner:
            signal.raise_signal(signal.SIGTERM)
    assert (entered.noted, inner.noted, applications) == (["wake"], ["wake"], [signal.SIGTERM])


@NUMBERS
def test_several_pools_in_one_process(clock: list[float], ended: list[int], number: signal.Signals) -> None:
    former = signal.getsignal(number)
    one, two, three = Recorded(), Recorded(), Recorded()
    one.__enter__()
    two.__enter__()
    three.__enter__()
    two.__exit__()
    signal.raise_signal(number)
    assert one.noted == three.noted == ["first", "wake"]
    assert (one.ends_process, two.noted) == (True, [])
    one.__exit__()
    clock[0] += 1
    signal.raise_signal(number)
    assert ended == [number]
    three.__exit__()
    assert signal.getsignal(number) == former


def test_several_pools_share_with_the_application(applications: list[int]) -> None:
    with Recorded() as one, Recorded() as two:
        signal.raise_signal(signal.SIGTERM)
    assert (one.noted, two.noted, applications) == (["wake"], ["wake"], [signal.SIGTERM])
    assert not two.ends_process


def test_another_thread_touches_none() -> None:
    former = signal.getsignal(signal.SIGTERM)
    seen: list[Any] = []

    def enter() -> None:
        with Recorded():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert seen == [former]


def test_a_handler_of_c_code_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    former = signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patched:
        patched.setattr(signal, "getsignal", lambda number: None)
        entered = Recorded().__enter__()
    assert signal.getsignal(signal.SIGTERM) == former
    entered.__exit__()


@pytest.mark.parametrize("as_process_1", [False, True])
def test_it_ends_the_process_as_the_default_action_does(as_process_1: bool) -> None:
    program = f"""
        import os, signal
        from fang_core.pool import signals
        class Quiet(signals.StopSignals):
            wake = lambda self: None
        if {as_process_1}:
            os.getpid = lambda: 1
        now = [0.0]
        signals.monotonic = lambda: now[0]
        with Quiet():
            signal.raise_signal(signal.SIGTERM)
            now[0] = 1.0
            signal.raise_signal(signal.SIGTERM)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], cwd=ROOT, check=False)
    assert done.returncode == (143 if as_process_1 else -signal.SIGTERM)


def test_one_that_has_left_and_is_called_does_what_was_done_before() -> None:
    program = """
        import signal
        from fang_core.pool.signals import StopSignals
        class Quiet(StopSignals):
            wake = lambda self: None
        with Quiet():
            ours = signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, ours)
        signal.raise_signal(signal.SIGTERM)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGTERM
