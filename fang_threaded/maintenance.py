"""What a pool does once in a while, beside its work: it prunes old rows, and names the kinds that wait in vain."""

import logging
import threading
import time
from typing import Final

from fang_core.config import PoolOptions
from fang_core.errors import FangError
from fang_core.store import PruneRequest, Store

logger = logging.getLogger("fang_threaded")

EVERY: Final = 60.0
"""Seconds between two rounds."""

BATCH: Final = 1_000

NAME_AGAIN_AFTER: Final = 3_600.0
"""Seconds until a kind that still waits is named again."""


class Maintenance:
    """One thread, asleep nearly always."""

    def __init__(self, store: Store, options: PoolOptions) -> None:
        self._store = store
        self._request = PruneRequest(options.keep_finished, options.keep_failed, BATCH)
        self._task_types = options.task_types
        self._named: dict[str, float] = {}
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
                self.name_unknown_kinds()
            except FangError as error:
                logger.warning("maintenance failed and will be tried again: %s", error)
            except Exception:
                logger.exception("maintenance failed and will be tried again")

    def name_unknown_kinds(self) -> None:
        """Logs the kinds of due tasks that no registered pool knows, each once an hour."""
        now = time.monotonic()
        self._named = {kind: since for kind, since in self._named.items() if now - since < NAME_AGAIN_AFTER}
        kinds = [kind for kind in self._store.unknown_kinds(self._task_types) if kind not in self._named]
        self._named.update(dict.fromkeys(kinds, now))
        if kinds:
            names = ", ".join(f"{kind!a:.100}" for kind in kinds)
            logger.warning("due tasks wait for a pool that knows their kinds: %s", names)

    def prune(self) -> int:
        """Deletes batch after batch until none is full; how many rows."""
        total = 0
        while not self._closing.is_set():
            count = self._store.prune(self._request)
            total += count
            if count < BATCH:
                break
        return total
