"""How long a machine stood still while a test measured time: a bound of seconds allows for that."""

import threading
import time
from typing import Any, Final

STEP: Final = 0.01


class Stalls:
    """Counts, from its entry on, the seconds by which a thread that wakes every 10 ms woke late."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._count, name="test-stalls", daemon=True)

    def __enter__(self) -> "Stalls":
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._is_over.set()
        self._thread.join()

    def _count(self) -> None:
        before = time.monotonic()
        while not self._is_over.wait(STEP):
            now = time.monotonic()
            self.seconds += max(0.0, now - before - 2 * STEP)
            before = now
