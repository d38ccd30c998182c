"""Decides when a claim from a managed type looks for keys of a high priority further on, while lower ones fill claims.

A claim looks at a bounded number of keys of each priority, beginning behind the one served last. Suppose that so many
keys of a high priority are full, or have tasks that are not due yet, and that those of a lower one fill the claim: then
the next one begins at nearly the same place, and never comes to a key of the high priority that lies further on. So
every second claim goes on there, and those between go on with the turns of the keys.

It is pure.
"""


class Detour:
    """Holds where the keys of higher priorities were not looked at to their end, in one type."""

    def __init__(self) -> None:
        self._cut_at: str | None = None
        self._is_next = False

    def begin(self, after_lane: str) -> str:
        """Returns the key behind which the next claim begins, if it otherwise begins behind ``after_lane``."""
        return after_lane if self._cut_at is None or not self._is_next else self._cut_at

    def claimed(self, *, cut_at: str | None, brought: int) -> bool:
        """Notes the answer to a claim; see ``LaneClaim.cut_at``. Returns whether that claim was such a detour, after
        which the turns of the keys go on as if it had not been made."""
        was_detour, self._is_next = self._is_next, False
        if not brought:  # claims in vain look at all keys in turn
            self._cut_at = None
            return False
        if was_detour or self._cut_at is None:
            self._cut_at = cut_at
        self._is_next = not was_detour and self._cut_at is not None
        return was_detour
