"""Computes how long to wait before the next try. It is pure: it does not sleep."""

import random
from collections.abc import Callable


class Retry:
    """Computes the waits between tries while a backend does not answer: 0.1 s doubling to 5 s, spread by half."""

    def __init__(self, chance: Callable[[], float] = random.random) -> None:
        self._chance = chance
        self._next = 0.1

    def succeeded(self) -> None:
        """Starts over, since the backend answered."""
        self._next = 0.1

    def sleep(self) -> float:
        """Returns the seconds to wait before the next try."""
        now = self._next
        self._next = min(5.0, now * 2)
        return now * (0.5 + self._chance())
