"""Makes the operations on the audit."""

from fang_core.monitoring.audit import AuditEntry, Beginning
from fang_postgres.operations.base import OperationsBase
from fang_postgres.operations.rows import as_json
from fang_postgres.statement import Operation, Rows


class AuditOperations(OperationsBase):
    """Makes the operations on the audit; ``AuditCall`` names them."""

    def list_audit(self, limit: int, before: int | None) -> Operation[list[AuditEntry]]:
        """Returns entries, the latest first."""
        return Operation(self._statements.list_audit, {"p_limit": limit, "p_before": before}, _as_entries)

    def begin_audit(self, change: Beginning) -> Operation[int]:
        """Adds an entry, and returns its id."""
        params = {f"p_{name}": value for name, value in change._asdict().items()}
        return Operation(self._statements.begin_audit, params, lambda rows: rows[0][0])

    def end_audit(self, entry: int, result: str) -> Operation[bool]:
        """Writes the result of an entry; returns whether it was there without one."""
        return Operation(self._statements.end_audit, {"p_id": entry, "p_result": result}, lambda rows: len(rows) == 1)


def _as_entries(rows: Rows) -> list[AuditEntry]:
    return [AuditEntry._make((*row[:5], as_json(row[5]), row[6])) for row in rows]
