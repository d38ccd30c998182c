"""Makes the operations of periodic upkeep."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from fang_core.backends.pools import PruneRequest
from fang_postgres.operations.base import OperationsBase
from fang_postgres.operations.parameters import LOOKED_AT, lane_parameters
from fang_postgres.operations.rows import as_nothing
from fang_postgres.statement import Operation

_MOST_TYPES: Final = 1_000
"""How many task types with waiting rows are searched for unserved ones: each takes some microseconds."""


class Upkeep(OperationsBase):
    """Deletes old rows, and finds tasks that nothing serves."""

    def prune(self, request: PruneRequest) -> list[Operation[int]]:
        """Deletes old rows of some task types, with one operation for each state, and periods of unique tasks."""
        ages = (
            (self._statements.prune_finished, request.keep_finished),
            (self._statements.prune_cancelled, request.keep_finished),
            (self._statements.prune_failed, request.keep_failed),
        )
        task_types = self.unheld.without(request.task_types)
        ended = [
            Operation(statement, {"p_task_types": task_types, "p_keep": keep, "p_limit": request.limit}, len)
            for statement, keep in ages
            if keep is not None
        ]
        return [*ended, Operation(self._statements.prune_periods, {"p_limit": request.limit}, len)]

    def prune_lanes(self, task_types: Sequence[str]) -> Operation[None]:
        """Deletes what the rates of keys of these types have left behind."""
        return Operation(self._statements.prune_lanes, {"p_task_types": self.unheld.without(task_types)}, as_nothing)

    def unknown_kinds(self, task_types: Sequence[str]) -> Operation[list[str]]:
        """Returns the kinds among the first due rows that no registered pool knows."""
        params = lane_parameters(self.unheld.without(task_types)) | {"p_limit": LOOKED_AT}
        return Operation(self._statements.unknown_kinds, params, lambda rows: [row[0] for row in rows])

    def unserved_types(self, due_for: timedelta) -> Operation[list[str]]:
        """Returns the task types that no registered pool serves, with tasks that have been due for ``due_for``."""
        params = {"p_due_for": due_for, "p_limit": _MOST_TYPES}
        return Operation(self._statements.unserved_types, params, lambda rows: [row[0] for row in rows])
