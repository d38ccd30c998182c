"""The end of a process that hangs while it stops."""

import _thread
import time
from queue import SimpleQueue
from typing import Any, NoReturn

import pytest

from fang_core.config import EXIT_RUNS_LEFT
from fang_core.pool.exit_deadline import ExitDeadline
from tests.patience import PATIENT


def no_thread(*_: Any) -> NoReturn:
    raise RuntimeError("can't start new thread")


def test_it_does_not_disturb_a_signal_handler_if_no_thread_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    codes: SimpleQueue[int] = SimpleQueue()
    monkeypatch.setattr("os._exit", codes.put)
    deadline = ExitDeadline()
    with monkeypatch.context() as patch:
        patch.setattr(_thread, "start_new_thread", no_thread)
        deadline.arm(time.monotonic())
    assert codes.empty()
    deadline.arm(time.monotonic())
    assert codes.get(timeout=PATIENT) == EXIT_RUNS_LEFT
