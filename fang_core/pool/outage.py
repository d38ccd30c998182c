"""Says when a service of a pool tries again while its backend does not answer, and logs when that is over."""

from fang_core.logs import SafeLogger
from fang_core.retry import Retry


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
        # As severe as the lines of the outage: readers of those see its end too.
        self._logger.warning(f"{self._again}, %.1f s after it first failed", *args, seconds)
