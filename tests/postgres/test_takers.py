"""Whether another pool may have a free worker: what its row says, and what it cannot say."""

import uuid

import pytest

from fang_core.backends.pools import PoolRecord
from fang_core.liveness import DECLARED_DEAD
from fang_postgres.operations import Operations
from fang_threaded.database import run_on
from tests.modes import Database

OPS = Operations("fang")
ASKING, OTHER = uuid.UUID(int=1), uuid.UUID(int=2)


@pytest.mark.parametrize(
    ("row", "takes"),
    [
        ("locks = true, waiting = true", True),
        ("locks = true, waiting = false", False),
        ("locks = false, waiting = false", True),  # it may not listen, and then never says that it waits
        ("locks = true, waiting = true, stopping = true", False),
        (f"locks = true, waiting = true, beats = {DECLARED_DEAD}", False),
        ("locks = true, waiting = true, kinds = '{}'", False),  # a queue that fetches by hand
    ],
)
def test_a_pool_takes_what_it_serves_if_it_may_have_a_free_worker(database: Database, row: str, takes: bool) -> None:
    for pool_id in (ASKING, OTHER):
        record = PoolRecord(pool_id, "threaded", "h", 1, ("common", "mail"), ("A", "B"), 1)
        run_on(database.connection, OPS.register(record))
    database.execute(f"UPDATE fang.fang_pools SET {row} WHERE id = %s", OTHER)
    assert run_on(database.connection, OPS.has_taker(ASKING, [("other", "A"), ("mail", "B")])) is takes
    assert not run_on(database.connection, OPS.has_taker(ASKING, [("other", "A"), ("mail", "C")]))
