from collections.abc import Iterator

import pytest

from tests.pgbouncer import PgBouncer, pgbouncer


@pytest.fixture
def bouncer(url: str) -> Iterator[PgBouncer]:
    """Before a fresh database with the tables; two sessions for all of its clients."""
    with pgbouncer(url) as bouncer:
        yield bouncer
