"""Keeps who has changed what on the page: a list of the last entries."""

from typing import Any

from pydantic_core import from_json

from fang_core.monitoring.audit import KEPT, AuditEntry, Beginning
from fang_redis.connections.sending import Sending
from fang_redis.operations import Verb
from fang_redis.records import as_json, time_of


class Audit:
    """The verbs on the audit."""

    def __init__(self, sending: Sending) -> None:
        self._sending = sending

    def list_audit(self, limit: int, before: int | None, /) -> Verb[list[AuditEntry]]:
        """See ``AuditVerbs.list_audit``."""
        end = -1
        if before is not None:
            last = yield from self._sending.command("HGET", "meta", "audit")
            end = min(-1, before - int(last or 0) - 2)  # the entries have no gaps
        texts = yield from self._sending.command("LRANGE", "audit", end - limit + 1, end)
        return [_entry_of(text) for text in reversed(texts)]

    def begin_audit(self, change: Beginning, /) -> Verb[int]:
        """See ``AuditVerbs.begin_audit``."""
        entry: int = yield from self._sending.script("audit", as_json(change), KEPT)
        return entry

    def end_audit(self, entry: int, result: str, /) -> Verb[bool]:
        """See ``AuditVerbs.end_audit``."""
        return bool((yield from self._sending.script("audit", as_json(result), KEPT, entry)))


def _entry_of(text: str) -> AuditEntry:
    head, _, result = text.partition("\n")
    entry, at, change = head.split(" ", 2)
    who, action, target, details = from_json(change)
    read: Any = None if details is None else from_json(details)
    return AuditEntry(int(entry), time_of(at), who, action, target, read, from_json(result) if result else None)
