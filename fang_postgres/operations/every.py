"""Puts the groups of operations together."""

from fang_postgres.operations.audit import AuditOperations
from fang_postgres.operations.bulk import BulkOperations
from fang_postgres.operations.by_hand import ByHand
from fang_postgres.operations.claims import Claims
from fang_postgres.operations.explaining import Explaining
from fang_postgres.operations.inserts import Inserts
from fang_postgres.operations.listing import Listing
from fang_postgres.operations.live import LiveOperations
from fang_postgres.operations.liveness import Liveness
from fang_postgres.operations.managing import ManagedTypes
from fang_postgres.operations.moving import MovingOperations
from fang_postgres.operations.outcomes import Outcomes
from fang_postgres.operations.pools import Pools
from fang_postgres.operations.schedules import ScheduleOperations
from fang_postgres.operations.stats import Stats
from fang_postgres.operations.uniques import Uniques
from fang_postgres.operations.upkeep import Upkeep


class Operations(
    Inserts,
    Uniques,
    ByHand,
    ScheduleOperations,
    Pools,
    Claims,
    Liveness,
    LiveOperations,
    Outcomes,
    Upkeep,
    ManagedTypes,
    AuditOperations,
    Listing,
    Explaining,
    BulkOperations,
    MovingOperations,
    Stats,
):
    """Makes every operation on the tables under one schema name."""
