"""Keeps the audit of the memory backend."""

from __future__ import annotations

import json
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING

from fang_core.monitoring.audit import KEPT, AuditEntry, Beginning

if TYPE_CHECKING:
    from fang_core.backends.memory.state import MemoryState


class MemoryAudit:
    """Keeps a record of who changed what, under the lock of the state."""

    def __init__(self, state: MemoryState) -> None:
        self._state = state
        self._entries: deque[AuditEntry] = deque(maxlen=KEPT)
        self._last = 0

    def list_audit(self, limit: int, before: int | None) -> list[AuditEntry]:
        """Returns entries, the latest first."""
        with self._state.lock:
            found = (entry for entry in reversed(self._entries) if before is None or entry.id < before)
            return list(islice(found, limit))

    def begin_audit(self, change: Beginning) -> int:
        """Adds an entry, and returns its id."""
        details = None if change.details is None else json.loads(change.details)
        with self._state.lock:
            self._last += 1
            self._entries.append(
                AuditEntry(self._last, self._state.clock(), change.who, change.action, change.target, details, None)
            )
            return self._last

    def end_audit(self, entry: int, result: str) -> bool:
        """Writes the result of a change; returns whether its entry was there without one."""
        with self._state.lock:
            for place, found in enumerate(self._entries):
                if found.id == entry and found.result is None:
                    self._entries[place] = found._replace(result=result)
                    return True
        return False
