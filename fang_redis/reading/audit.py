"""Keeps who has changed what on the page: a list of the last entries."""

from typing import Any

from pydantic_core import from_json

from fang_core.monitoring.audit import KEPT, AuditEntry, Beginning
from fang_redis.connections.sending import Sending
from fang_redis.operations import Verb
from fang_redis.records import UNREADABLE, as_json, count_in, time_of


class Audit:
    """The verbs on the audit."""

    def __init__(self, sending: Sending) -> None:
        self._sending = sending

    def list_audit(self, limit: int, before: int | None, /) -> Verb[list[AuditEntry]]:
        """See ``AuditVerbs.list_audit``."""
        end = -1
        if before is not None:
            last = yield from self._sending.command("HGET", "meta", "audit")
            end = min(-1, before - count_in(last) - 2)  # the entries have no gaps
        texts = yield from self._sending.command("LRANGE", "audit", end - limit + 1, end)
        return list(filter(None, map(_entry_of, reversed(texts))))

    def begin_audit(self, change: Beginning, /) -> Verb[int]:
        """See ``AuditVerbs.begin_audit``."""
        entry: int = yield from self._sending.script("audit", as_json(change), KEPT)
        return entry

    def end_audit(self, entry: int, result: str, /) -> Verb[bool]:
        """See ``AuditVerbs.end_audit``."""
        return bool((yield from self._sending.script("audit", as_json(result), KEPT, entry)))


def _entry_of(text: str) -> AuditEntry | None:
    """Returns an entry; None if another client has spoilt it."""
    head, _, result = text.partition("\n")
    try:
        entry, at, change = head.split(" ", 2)
        who, action, target, details = from_json(change)
        read: Any = None if details is None else from_json(details)
        return AuditEntry(int(entry), time_of(at), who, action, target, read, from_json(result) if result else None)
    except UNREADABLE:
        return None
