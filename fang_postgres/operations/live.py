"""Makes the operation by which a pool says what it does now."""

from uuid import UUID

from fang_core.backends.live_runs import live_as_json
from fang_core.backends.pools import Live
from fang_postgres.operations.base import OperationsBase
from fang_postgres.operations.rows import as_nothing
from fang_postgres.statement import Operation


class LiveOperations(OperationsBase):
    """Says what a pool does."""

    def tell_live(self, pool_id: UUID, live: Live) -> Operation[None]:
        """Writes what a pool does now, in place of what it wrote before."""
        told = {"p_busy": live.busy, "p_waiting": live.waiting, "p_runs": live_as_json(live.runs)}
        params = {"p_pool_id": pool_id, **told}
        return Operation(self._statements.tell_live, params, as_nothing)
