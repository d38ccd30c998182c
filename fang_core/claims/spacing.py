"""Keeps the claims of pools that work on one managed type apart.

A claim passes keys that other claims have locked, and goes on behind them. Without more, pools that meet once stay
together: each goes on where the one ahead of it has just claimed, and passes the keys of all others. So after a claim
that passed many locked keys a pool begins again where its claim before that one began: those keys have been served, and
the pools ahead move on meanwhile. It does so after one claim of four at most, or it might never come to the other keys.

It is pure.
"""

from typing import Final

MANY: Final = 20
"""So many locked keys cost a claim a twentieth of its time, even if it is one of a hundred tasks."""

EVERY: Final = 4
"""A pool goes back after the fourth claim since it last did so, or after a later one. It goes back by two claims, and
so comes round all keys in twice as many claims at most."""


class Spacing:
    """Holds where the last claims of a pool from one type began."""

    def __init__(self) -> None:
        self._began = self._began_before = ""
        self._claims = 0  # since the pool last went back

    def after(self, began: str, ended: str, *, locked: int) -> str:
        """Returns the key to begin behind the next time, after a claim.

        Args:
            began: the key behind which that claim began.
            ended: the key behind which the next one begins if the pool does not go back.
            locked: how many keys it passed because other claims had locked them; 0 if the pool must not go back.
        """
        self._began_before, self._began = self._began, began
        self._claims += 1
        if locked < MANY or self._claims < EVERY:
            return ended
        self._claims = 0
        return self._began_before
