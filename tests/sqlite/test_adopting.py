"""Tasks that were there before their type had limits are counted and claimed as the others are."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest

from fang_core.backends.claims import LaneRequest
from fang_core.flow.limits import Limit
from fang_core.remarks import NOTHING_SAID
from fang_core.tasks.managing import LimitChange, Pause
from fang_sqlite.connections.file import File
from fang_sqlite.tasks import flow, lanes
from tests.sqlite.files import hold, insert, opened, register


@pytest.fixture
def file(tmp_path: Path) -> Iterator[File]:
    made = opened(tmp_path / "tasks.db")
    yield made
    made.close()


def limit(file: File, number: int | None) -> None:
    """Sets the limit of the type, or forgets it."""
    rules = None if number is None else (Limit(number),)
    with file.writing() as tx:
        flow.set_limits(tx, "common", LimitChange(rules, NOTHING_SAID))


def claim(file: File, pool_id: UUID) -> int:
    """Claims; returns how many tasks that brought."""
    with file.writing() as tx:
        return len(lanes.claim_lanes(tx, LaneRequest(pool_id, "common", ("note",), 100)).tasks)


def adopt(file: File, most: int = 5_000) -> int:
    """Adopts all tasks; returns in how many batches."""
    batches, is_done = 0, False
    while not is_done:
        with file.writing() as tx:
            is_done, batches = flow.adopt(tx, ["common"], most), batches + 1
    return batches


def test_what_waits_is_adopted_in_batches_of_which_each_goes_on_where_the_last_one_ended(
    file: File, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flow, "_ADOPTED_AT_ONCE", 5)
    pool_id = register(file)
    for _ in range(22):
        insert(file)
    limit(file, 50)
    assert claim(file, pool_id) == 5
    assert adopt(file, 4) == 5
    with file.reading() as tx:
        assert not flow.has_to_adopt(tx, ["common"])
    assert claim(file, pool_id) == 17


def test_what_runs_is_counted_from_the_start(file: File) -> None:
    pool_id = register(file)
    for _ in range(3):
        hold(file, insert(file), pool_id)
        insert(file)
    limit(file, 4)
    assert claim(file, pool_id) == 1


def test_limits_that_come_after_a_pause_count_what_was_claimed_between_them(
    file: File, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pause that ends by itself leaves the type known, and its tasks are claimed as those of any other type."""
    monkeypatch.setattr(flow, "_ADOPTED_AT_ONCE", 2)
    pool_id = register(file)
    tasks = [insert(file) for _ in range(6)]
    with file.writing() as tx:
        flow.pause_type(tx, "common", Pause(None, timedelta(microseconds=1), NOTHING_SAID))
    for task_id in tasks[:3]:
        hold(file, task_id, pool_id)
    limit(file, 4)
    assert claim(file, pool_id) == 1
    with file.writing() as tx:
        tx.run("UPDATE fang_tasks SET state = 'new', pool_id = NULL, scheduled_at = 0 WHERE state = 'in_progress'")
    assert adopt(file) > 0
    assert claim(file, pool_id) == 4


def test_a_type_that_is_limited_again_is_adopted_again(file: File) -> None:
    pool_id = register(file)
    limit(file, 5)
    limit(file, None)
    insert(file)
    limit(file, 5)
    assert claim(file, pool_id) == 1
