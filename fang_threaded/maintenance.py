"""What a pool does once in a while, beside its work: pruning rows whose life ended long ago."""

import logging
import threading
from typing import Final

from fang_core.config import PoolOptions
from fang_core.errors import FangError
from fang_core.store import PruneRequest, Store

logger = logging.getLogger("fang_threaded")

EVERY: Final = 60.0
"""Seconds between two rounds."""

BATCH: Final = 1_000


class Maintenance:
    """One thread, asleep nearly always."""

    def __init__(self, store: Store, options: PoolOptions) -> None:
        self._store = store
        self._request = PruneRequest(options.keep_finished, options.keep_failed, BATCH)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="fang-maintenance", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def close(self, within: float) -> None:
        """Ends it, in so many seconds."""
        self._closing.set()
        self._thread.join(within)

    def _loop(self) -> None:
        while not self._closing.wait(EVERY):
            try:
                self.prune()
            except FangError as error:
                logger.warning("pruning failed and will be tried again: %s", error)
            except Exception:
                logger.exception("pruning failed and will be tried again")

    def prune(self) -> int:
        """Deletes batch after batch until none is full; how many rows."""
        total = 0
        while not self._closing.is_set():
            count = self._store.prune(self._request)
            total += count
            if count < BATCH:
                break
        return total
