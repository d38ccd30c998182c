"""Defines the pool that holds tasks fetched by hand: it beats, in its file alone, until the queue closes.

Its record is written by the first fetch, in the transaction of that: while a caller's transaction has the file to
itself, no other one could write it. It rescues no pools, and gets no messages; it only shows that its process lives.
"""

import threading
from contextlib import suppress
from typing import Final
from uuid import UUID, uuid4

from fang_core.errors import BackendError
from fang_core.interpreter.forks import in_child
from fang_core.liveness import EVERY
from fang_sqlite.connections.access import written
from fang_sqlite.connections.file import File
from fang_sqlite.pools import registering
from fang_sqlite.pools.pulse import PulseFile
from fang_sqlite.tasks import claiming

_ENDS_WITHIN: Final = 5.0
"""Seconds for which a queue that closes waits for the thread, which only writes to its file."""


class ManualPool:
    """Begins with the first fetch, and ends with the queue. Its methods may block."""

    def __init__(self, file: File) -> None:
        self._file = file
        self._begin()
        in_child(self, ManualPool._begin)

    def _begin(self) -> None:
        """Resets it to one that has not begun; in a forked child too, as fetched tasks remain the parent's."""
        self._changing = threading.Lock()
        self._beating: _Beating | None = None

    def begin(self) -> UUID:
        """Returns the id under which tasks are held; has it beat, unless it does."""
        with self._changing:
            if self._beating is None:
                with self._file.diagnosing():
                    self._beating = _Beating(PulseFile(self._file.directory, uuid4(), locks=True))
            return self._beating.pool_id

    def end(self) -> None:
        """Gives back fetched tasks that have not ended, uncharged, and deregisters."""
        with self._changing:
            beating, self._beating = self._beating, None
        if beating is None:
            return
        try:
            with suppress(BackendError):
                written(self._file, claiming.reconcile, beating.pool_id, ())
                written(self._file, registering.unregister, beating.pool_id)
        finally:
            beating.end()
        self._file.forget(beating.pool_id)


class _Beating:
    """Raises the counter of a pool each second, on a thread; the first time before any other pool can look."""

    def __init__(self, pulse: PulseFile) -> None:
        self.pool_id = pulse.pool_id
        self._pulse = pulse
        self._is_over = threading.Event()
        pulse.beat()
        self._thread = threading.Thread(target=self._run, name="fang-manual-pool", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Ends it, and lets go of the lock."""
        self._is_over.set()
        self._thread.join(_ENDS_WITHIN)
        self._pulse.close()

    def _run(self) -> None:
        while not self._is_over.wait(EVERY):
            with suppress(OSError):  # the next beat tries again
                self._pulse.beat()
