"""Which transactions were running, as Postgres writes it."""

import pytest

from fang_postgres.pool.snapshot import parse_snapshot


@pytest.mark.parametrize(
    ("text", "xmax", "xids"),
    [("100:100:", 100, []), ("100:104:100,102", 104, [100, 102]), (f"{2**40}:{2**41}:", 2**41, [])],
)
def test_snapshots_are_read_as_postgres_writes_them(text: str, xmax: int, xids: list[int]) -> None:
    assert parse_snapshot(text) == (xmax, frozenset(xids))
