"""Says when a pool counts as silent: one rule for the page, for ``fang status`` and its like, and for ``explain``."""

from datetime import timedelta
from typing import Final

SILENT_AFTER: Final = timedelta(seconds=30)
"""A pool beats each second, and tells what it does every ten seconds at least. Of one that has done neither for so long
nobody knows whether it works; other pools take its tasks when its lease is over, or before if its lock is free."""


def is_silent(*heard: timedelta | None) -> bool:
    """Returns whether the last of these signs of life came too long ago; None stands for one that is not known.

    Of a pool that gives no signs nothing is known: it counts as working.
    """
    known = [each for each in heard if each is not None]
    return bool(known) and min(known) > SILENT_AFTER
