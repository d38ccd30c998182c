"""How much is done, whatever the machine does beside it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def at_most(cpu_seconds: float) -> Iterator[None]:
    """Fails if this thread takes more of the processor within.

    It counts no calls: with ``sys.setprofile`` or ``sys.settrace`` Python 3.11 can run one line for ever.
    """
    began = time.thread_time()
    yield
    assert time.thread_time() - began <= cpu_seconds
