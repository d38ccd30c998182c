"""Tests calls on a connection of Django's, whose transaction decides about them, and on one of an engine's pool."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import django
import django.conf
import django.db
import pytest
import sqlalchemy
from django.db import transaction

from fang_core.conformance.tasks import ThreadedNote
from fang_core.errors import UsageError
from fang_sqlite import SqliteQueue


@pytest.fixture
def queue(sqlite_path: Path) -> Iterator[SqliteQueue]:
    with SqliteQueue(sqlite_path) as queue:
        yield queue


@pytest.fixture
def connection(queue: SqliteQueue) -> Iterator[Any]:
    if not django.conf.settings.configured:
        django.conf.settings.configure(DATABASES={}, USE_TZ=True)
        django.setup()
    connections = django.db.connections
    before = connections.settings
    connections.settings = connections.configure_settings(
        {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": str(queue.path)}}
    )
    yield django.db.connection
    connections["default"].close()
    del connections["default"]
    connections.settings = before


def test_djangos_transaction_decides(queue: SqliteQueue, connection: Any) -> None:
    with transaction.atomic():
        queue.insert_task(ThreadedNote(), connection=connection)
        assert queue.count_tasks().count == 0
    assert queue.count_tasks().count == 1
    with transaction.atomic():
        queue.insert_task(ThreadedNote(), connection=connection)
        transaction.set_rollback(True)
        with pytest.raises(transaction.TransactionManagementError):
            queue.insert_task(ThreadedNote(), connection=connection)
    assert queue.count_tasks().count == 1
    queue.insert_task(ThreadedNote(), connection=connection)  # in autocommit
    assert queue.count_tasks().count == 2


def test_a_connection_of_a_pool_is_taken_until_it_is_given_back(queue: SqliteQueue) -> None:
    engine = sqlalchemy.create_engine(f"sqlite:///{queue.path}")
    connection = engine.raw_connection()
    queue.insert_task(ThreadedNote(), connection=connection)
    assert queue.count_tasks().count == 0
    connection.commit()
    assert queue.count_tasks().count == 1
    connection.close()
    with pytest.raises(UsageError, match="given back to its pool"):
        queue.insert_task(ThreadedNote(), connection=connection)
    engine.dispose()
