"""Each test of this folder runs in both modes."""

from collections.abc import Iterator

import pytest

from tests.modes import Database, Side, side_of
from tests.proxy import Proxy


@pytest.fixture(params=["threaded", "async"])
def side(request: pytest.FixtureRequest) -> Iterator[Side]:
    for name in {"url", "proxy"}.intersection(request.fixturenames):
        request.getfixturevalue(name)  # made before the pools that connect there, and taken away after them
    with side_of(request.param) as side:
        yield side


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    database = Database(url)
    yield database
    database.close()


@pytest.fixture
def proxy(url: str) -> Iterator[Proxy]:
    with Proxy(url) as proxy:
        yield proxy
