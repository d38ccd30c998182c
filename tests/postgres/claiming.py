"""Claims from a managed type as a pool's store makes them: in the form that knows rates only if the type has some."""

from typing import Any

import psycopg

from fang_core.backends.claims import LaneClaim, LaneRequest
from fang_postgres.operations import Operations
from fang_threaded.database import run_on


def claim_lanes(connection: psycopg.Connection[Any], request: LaneRequest, ops: Operations) -> LaneClaim:
    claim, is_rated = run_on(connection, ops.claim_lanes(request, rated=False))
    if is_rated:
        assert not claim.tasks
        claim, _ = run_on(connection, ops.claim_lanes(request))
    return claim
