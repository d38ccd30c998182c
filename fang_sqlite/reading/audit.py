"""Keeps the audit: who changed what on the page."""

from fang_core.monitoring.audit import KEPT, AuditEntry, Beginning
from fang_sqlite.connections.transaction import Transaction
from fang_sqlite.records import moment, seen_json


def list_audit(tx: Transaction, limit: int, before: int | None) -> list[AuditEntry]:
    """Returns entries, the latest first; only those before the entry of this id, if one is given."""
    found = tx.rows(
        """SELECT id, at, who, action, target, details, result FROM fang_audit
  WHERE ? IS NULL OR id < ? ORDER BY id DESC LIMIT ?""",
        (before, before, limit),
    )
    return [
        AuditEntry(entry, moment(at), who, action, target, seen_json(details), result)
        for entry, at, who, action, target, details, result in found
    ]


def begin_audit(tx: Transaction, change: Beginning) -> int:
    """Adds an entry, and returns its id, which is greater than those before; keeps the last ``KEPT`` entries."""
    row = tx.row(
        "INSERT INTO fang_audit (at, who, action, target, details) VALUES (?, ?, ?, ?, ?) RETURNING id",
        (tx.micros, change.who, change.action, change.target, change.details),
    )
    tx.run("DELETE FROM fang_audit WHERE id <= ?", (row[0] - KEPT,))  # one, since the last addition has left KEPT
    return int(row[0])


def end_audit(tx: Transaction, entry: int, result: str) -> bool:
    """Writes the result of a change; returns whether its entry was there without one."""
    return tx.run("UPDATE fang_audit SET result = ? WHERE id = ? AND result IS NULL", (result, entry)) > 0
