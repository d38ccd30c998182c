"""A child that is forked while a connect is under way shares no session with its parent, in both modes."""

import os
from collections.abc import Iterator
from typing import Any

import asyncpg
import psycopg
import pytest
from sqlalchemy import create_engine, event, make_url

from fang_threaded import Queue
from fang_threaded.connection import Connection
from tests.modes import Database, Harness, eventually

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # the child runs no code of other threads

SESSIONS = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"


class Children:
    """Each lives until the test ends, with a copy of all sockets that there are when it is forked."""

    def __init__(self) -> None:
        self.pids: list[int] = []
        self._ends, self._kept = os.pipe()

    def fork(self) -> None:
        if child := os.fork():
            self.pids.append(child)
            return
        os.close(self._kept)
        os.read(self._ends, 1)
        os._exit(0)

    def end(self) -> None:
        os.close(self._kept)
        for pid in self.pids:
            os.waitpid(pid, 0)
        os.close(self._ends)


@pytest.fixture
def children() -> Iterator[Children]:
    children = Children()
    yield children
    children.end()


@pytest.mark.parametrize("forks", [1, 100])
def test_it_is_made_again(
    harness: Harness, url: str, database: Database, children: Children, forks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for a process that forks all the time."""
    made: list[Any] = []

    def connected(connection: Any) -> Any:
        made.append(connection)
        if len(children.pids) < forks:
            children.fork()
        return connection

    connect, async_connect = Connection.connect.__func__, asyncpg.connect  # type: ignore[attr-defined]

    async def connect_and_fork(*args: Any, **kwargs: Any) -> Any:
        return connected(await async_connect(*args, **kwargs))

    monkeypatch.setattr(asyncpg, "connect", connect_and_fork)
    monkeypatch.setattr(Connection, "connect", classmethod(lambda *args, **kwargs: connected(connect(*args, **kwargs))))
    queue = harness.queue(url)
    harness.call(queue.insert_task, harness.note())
    assert len(made) == min(forks + 1, 5)
    eventually(lambda: len(database.rows(SESSIONS)) == 1)  # though the children have copies of the others' sockets
    harness.end()
    assert database.rows("SELECT count(*) FROM fang.fang_tasks") == [(1,)]


def test_so_is_one_that_an_engine_makes_for_a_heart(url: str, database: Database, children: Children) -> None:
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"))
    with Queue(engine) as queue:
        engine.dispose()
        event.listen(engine.pool, "connect", lambda *_: children.pids or children.fork())
        heart = queue._connections.dedicated()
        assert children.pids
        eventually(lambda: len(database.rows(SESSIONS)) == 1)
        assert isinstance(heart, psycopg.Connection)
        assert heart.execute("SELECT 1").fetchone() == (1,)
        heart.close()
    engine.dispose()
