"""The conformance suite behind PgBouncer."""

from collections.abc import Iterator

import pytest

from fang_core.conformance import Backend, ConformanceSuite
from tests.backends import ON_POSTGRES
from tests.pgbouncer import PgBouncer, pgbouncer


@pytest.fixture(scope="module")
def bouncer(shared_url: str) -> Iterator[PgBouncer]:
    with pgbouncer(shared_url) as bouncer:
        yield bouncer


@pytest.fixture(params=ON_POSTGRES)
def backend(request: pytest.FixtureRequest, bouncer: PgBouncer, emptied_url: str) -> Iterator[Backend]:
    made = ON_POSTGRES[request.param](bouncer.url, behind_pooler=True)
    yield made
    made.close()


class TestBehindAPooler(ConformanceSuite):
    pass
