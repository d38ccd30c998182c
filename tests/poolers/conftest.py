from collections.abc import Iterator

import pytest

from tests.pgbouncer import PgBouncer, pgbouncer


@pytest.hookimpl(tryfirst=True)  # before tests are left out for their marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks each test of the conformance suite as long in one mode of the two, by turns."""
    turns: dict[str, int] = {}
    for item in items:
        if item.nodeid.startswith("tests/poolers/test_conformance.py"):
            in_either_mode = item.nodeid.replace("postgres-async", "postgres-threaded")
            turn = turns.setdefault(in_either_mode, len(turns))
            if turn % 2 == (item.nodeid == in_either_mode):
                item.add_marker(pytest.mark.long)


@pytest.fixture
def bouncer(url: str) -> Iterator[PgBouncer]:
    """Before a fresh database with the tables; two sessions for all of its clients."""
    with pgbouncer(url) as bouncer:
        yield bouncer
