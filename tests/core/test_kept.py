"""Attributes that are computed when they are first read, and a fork in the middle."""

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

from fang_core.interpreter.kept import kept
from tests.patience import PATIENT


class Slow:
    def __init__(self) -> None:
        self.calls = 0
        self.begins = threading.Event()
        self.goes_on = threading.Event()

    @kept
    def value(self) -> int:
        """The number of calls."""
        self.calls += 1
        self.begins.set()
        assert self.goes_on.wait(PATIENT)
        return self.calls


def test_it_is_computed_once_for_each_instance() -> None:
    one, other = Slow(), Slow()
    for each in (one, other):
        each.goes_on.set()
        assert (each.value, each.value, each.calls) == (1, 1, 1)
    assert Slow.value.__doc__ == "The number of calls."


def test_a_child_that_is_forked_while_a_thread_computes_one_computes_it_itself() -> None:
    one, other = Slow(), Slow()
    other.goes_on.set()
    with ThreadPoolExecutor(1) as threads:
        computes = threads.submit(lambda: one.value)
        assert one.begins.wait(PATIENT)
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(int(PATIENT))  # ends it where it waits for a lock that nobody lets go of
            os._exit(other.value)
        one.goes_on.set()
        assert computes.result(PATIENT) == 1
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
