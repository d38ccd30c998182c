"""Says when a service of a pool tries again while its backend does not answer, and logs when that is over."""

from math import inf
from typing import Final

from fang_core.logs import SafeLogger
from fang_core.retry import Retry

TOLD_AGAIN_AFTER: Final = 30.0
"""Seconds after which a failure is logged again that lasts, or comes and goes."""


class Outage:
    """Counts the failures of one service until the backend answers it. Times are seconds of one monotonic clock.

    Args:
        again: what the service does again when an outage is over, for the log, with a place for each argument of
            ``over``.
    """

    def __init__(self, logger: SafeLogger, again: str) -> None:
        self._logger = logger
        self._again = again
        self._retry = Retry()
        self._since: float | None = None
        self._is_told, self._told_at = True, dict[str, float]()

    def is_to_tell(self, now: float, text: str) -> bool:
        """Returns whether a failure is logged; ask once for each, before ``failed``.

        Each text is, once in half a minute: also if services fail and work by turns, as when one task type cannot be
        read, and claims from others succeed in between. The end of an outage of which nothing was logged is not either.
        """
        if self._since is None:
            self._is_told = False
        if now - self._told_at.get(text, -inf) < TOLD_AGAIN_AFTER:
            return False
        recent = {each: at for each, at in self._told_at.items() if now - at < TOLD_AGAIN_AFTER}
        self._is_told, self._told_at = True, {**recent, text: now}
        return True

    def seconds(self, now: float) -> float | None:
        """Returns for how long the backend has not answered; None if it has."""
        since = self._since
        return None if since is None else now - since

    def failed(self, now: float) -> float:
        """Notes that the backend did not answer, or refused; returns the seconds to wait before the next try."""
        if self._since is None:
            self._since = now
        return self._retry.sleep()

    def over(self, now: float, *args: object) -> None:
        """Notes that the backend has answered; logs one line if it had not before."""
        if self._since is None:
            return
        seconds, self._since = now - self._since, None
        self._retry.succeeded()
        if not self._is_told:
            return
        # As severe as the lines of the outage: readers of those see its end too.
        self._logger.warning(f"{self._again}, %.1f s after it first failed", *args, seconds)
