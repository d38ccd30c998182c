"""Learns how many waiting tasks the keys of a managed type have, so that a claim looks for as many keys as it needs.

A claim takes up to ``QUANTUM`` tasks of each key that it comes to, and fixes the keys before it reads their tasks. If
most keys have one waiting task, as users have who each wait for one report, it would bring a quarter of what was asked.

It is pure.
"""

from typing import Final

from fang_core.backends.claims import QUANTUM

ENOUGH: Final = 0.75
"""The part of what a claim asks for with which it counts as filled: if it expected half as many tasks of each key, it
would look at, and lock, twice as many keys for the rest."""

PATIENCE: Final = 8
"""After how many full claims in a row a pool expects more of a key again."""

MOST_PATIENCE: Final = 256


class Quantum:
    """Holds how many tasks a key of one type is expected to have, at most ``QUANTUM``."""

    def __init__(self) -> None:
        self.tasks = QUANTUM
        """How many tasks the next claim expects of a key."""
        self._full = 0  # full claims since the last change
        self._patience = PATIENCE
        self._is_tried = False  # whether it was raised, and no claim has been full so often since

    def claimed(self, *, taken: int, limit: int, is_short: bool) -> None:
        """Notes how many tasks a claim brought, and how many it asked for; see ``LaneClaim.is_short``."""
        if is_short and taken < ENOUGH * limit:
            if self._is_tried:
                self._patience = min(MOST_PATIENCE, 2 * self._patience)
            self.tasks, self._full, self._is_tried = max(1, self.tasks // 2), 0, False
        elif taken == limit:
            self._full += 1
            if self._full >= self._patience:
                self._full = 0
                if self._is_tried:
                    self._patience = PATIENCE
                self._is_tried = self.tasks < QUANTUM
                self.tasks = min(QUANTUM, 2 * self.tasks)
