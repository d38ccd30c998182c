"""How a signal ends the demo."""

import os
import signal
from collections.abc import Iterator

import pytest

from fang_cli.demo.demo import _Signals


@pytest.fixture
def signals() -> Iterator[_Signals]:
    former = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with _Signals() as entered:
        yield entered
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == former


def test_an_interrupt_in_the_middle_of_an_exec_leaves_the_exit_code_alone(signals: _Signals) -> None:
    with pytest.raises(KeyboardInterrupt) as caught:
        exec("os.kill(os.getpid(), signal.SIGINT)")
    assert caught.type is not KeyboardInterrupt  # that python -m would end by a signal for


def test_a_signal_waits_for_what_holds_it(signals: _Signals) -> None:
    done = []

    def hold() -> None:
        with signals.held():
            os.kill(os.getpid(), signal.SIGTERM)
            done.append("while it was held")

    with pytest.raises(SystemExit) as caught:
        hold()
    assert caught.value.code == 128 + signal.SIGTERM
    assert done


def test_only_the_first_signal_counts(signals: _Signals) -> None:
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGTERM)
    with signals.held():
        pass
